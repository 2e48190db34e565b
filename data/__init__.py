"""What lies at rest: sources, snapshots, LanceDB generations, exports, and the store they all live in.

Belongs here: schemas, reading and cleaning of sources, manifests, tables, the pointer and the lease.
Does not belong here: models and vectors arithmetic (``llm2vec_core``), orchestration (``tasks``, ``flows``).
Nothing in this package imports prefect, torch or ``llm2vec_core``.
"""

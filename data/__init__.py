"""Stored data: sources, snapshots, vectors in LanceDB, exports, and the store that holds them.

Belongs here: schemas, reading and cleaning of sources, manifests, tables, the pointer and the lease.
Does not belong here: models and vector arithmetic (``llm2vec_core``), orchestration (``tasks``, ``flows``).
Nothing in this package imports prefect, torch or ``llm2vec_core``.
"""

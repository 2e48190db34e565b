"""What runs and in what order: Prefect flows, and the ``l2v`` command line.

Belongs here: the order of tasks, what a deployment's form asks for, exit codes. Does not belong here: arithmetic and
file formats (``llm2vec_core``, ``data``), or anything that a task could do.
"""

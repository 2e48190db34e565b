"""Prefect flows, which say what runs in what order, and the ``l2v`` command line.

Belongs here: the order of tasks, the form of a deployment, exit codes. Does not belong here: arithmetic and file
formats (``llm2vec_core``, ``data``), or anything that a task could do.
"""

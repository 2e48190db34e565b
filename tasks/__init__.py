"""Thin tasks: each takes a run, calls ``llm2vec_core`` or ``data``, and returns a small report.

Belongs here: code that combines ``llm2vec_core`` and ``data`` (neither imports the other), retries, progress,
artifacts.
Does not belong here: the order of tasks (``flows``), arithmetic (``llm2vec_core``), file formats (``data``).
Interactive commands call ``queries``, which never import prefect, so that they start fast.
"""

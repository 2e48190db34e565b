"""Thin tasks: a run in, a call into the core or the data room, a small report out.

Belongs here: what composes ``llm2vec_core`` and ``data`` (they do not know each other), retries, progress, artifacts.
Does not belong here: the order of things (``flows``), arithmetic (``llm2vec_core``), file formats (``data``).
Interactive commands call ``queries``, which never import prefect, so that they start fast.
"""

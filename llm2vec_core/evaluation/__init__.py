"""Evaluation: scores of encoders and search systems on tasks, significance tests, and the report.

The only package that imports mteb. Does not belong here: storing results and artifacts (``tasks.stages.evaluate``).

===============  ====================================================================================
``tasks``        evaluation tasks: folders, benchmarks, types
``systems``      systems to score: an encoder, BM25, or both fused
``protocols``    score a system on a task; ``protocols.registry`` is the list
``metrics``      metrics in reports, with explanations
``statistics``   intervals, comparisons, the checkpoint gate
``results``      the records: scores, comparisons, decisions
``published``    figures from papers
``report``       the report: HTML, Markdown, JSON and plots
``fairness``     the fairness audit
===============  ====================================================================================

CONTRIBUTING.md, "Adding", says how to add a task, a protocol, a metric, or a table of the report.
"""

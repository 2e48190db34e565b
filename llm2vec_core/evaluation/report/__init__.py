"""The evaluation report: results in, a page of HTML or Markdown and plots out.

Belongs here: what a report says, and in which order. Does not belong here: computing scores (``protocols``), averages
and comparisons (``statistics``), what any page needs (``llm2vec_core.pages``).

=================  ====================================================================================
``report``         the report as an object: ``files()`` and ``save(directory)``; renders ``report.j2``
``content``        the record behind it, stored as ``report.json``
``report.j2``      sections and sentences, in the order of the page; for HTML and Markdown
``tables``         every table: what stands in which cell, and which values are marked
``plots``          every plot
``standings``      what tables, plots and sentences read from the record
=================  ====================================================================================
"""

from llm2vec_core.evaluation.report.plots import plot_files, plots
from llm2vec_core.evaluation.report.report import EvaluationReport, render_html, render_markdown

__all__ = ["EvaluationReport", "plot_files", "plots", "render_html", "render_markdown"]

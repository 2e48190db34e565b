"""The evaluation report: results in, a page of HTML or Markdown and plots out.

Belongs here: content and order of a report. Does not belong here: computing scores (``protocols``), averages and
comparisons (``statistics``), parts that every page needs (``llm2vec_core.pages``).

=================  ====================================================================================
``report``         the report as an object: ``files()`` and ``save(directory)``; renders ``report.j2``
``content``        the record behind it, stored as ``report.json``
``report.j2``      sections and sentences, in the order of the page; for HTML and Markdown
``tables``         every table: cells and marked values
``plots``          every plot
``standings``      selections from the record for tables, plots and sentences
=================  ====================================================================================
"""

from llm2vec_core.evaluation.report.plots import plot_files, plots
from llm2vec_core.evaluation.report.report import EvaluationReport, render_html, render_markdown

__all__ = ["EvaluationReport", "plot_files", "plots", "render_html", "render_markdown"]

"""The evaluation report: results in, one page of HTML or Markdown and plots out.

Belongs here: what a report says, in which order, and how it looks. Does not belong here: computing scores
(``scoring``), averages and comparisons (``compare``), deciding what is served (``gate``), writing files.

=============  =====================================================================================
``report``     the report as an object: ``files()`` and ``save(directory)``
``content``    the record that a report is
``standings``  what is read out of it: tasks in order, averages, comparisons, ablations
``blocks``     what a page is made of
``tables``     what stands in which cell
``sections``   words and order
``plots``      drawing
``pages``      HTML and Markdown, with ``report.html.j2``, ``report.md.j2`` and ``style.css``
=============  =====================================================================================
"""

from llm2vec_core.evaluation.report.content import Decision
from llm2vec_core.evaluation.report.pages import render_html, render_markdown
from llm2vec_core.evaluation.report.plots import plot_files, plots
from llm2vec_core.evaluation.report.report import EvaluationReport

__all__ = [
    "Decision",
    "EvaluationReport",
    "plot_files",
    "plots",
    "render_html",
    "render_markdown",
]

"""Building blocks of all HTML and Markdown pages of this project.

The evaluation report (``evaluation.report``) and the explanation of a match (``tasks.queries.explain``) use it.

=================  =================================================================================
``records``        records of a table: columns, groups of rows, cells
``rendering``      renders a template as HTML or Markdown
``html.j2``        macros for HTML: document, section, table, plot, folded part, ...
``markdown.j2``    the same macros for Markdown
``style.css``      style of HTML pages
=================  =================================================================================

To make a page, write a template that imports the macros (``{% import macros as page %}``) and call
:func:`render_page`. See ``evaluation/report/report.j2``.
"""

from llm2vec_core.pages.records import NOTHING, Cell, CellMark, Column, Emphasis, Group, Table, TableRow
from llm2vec_core.pages.rendering import render_page

__all__ = ["NOTHING", "Cell", "CellMark", "Column", "Emphasis", "Group", "Table", "TableRow", "render_page"]

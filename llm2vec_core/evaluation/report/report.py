"""The report that an evaluation returns: its content, and the files that show it.

Belongs here: which files a report has, and saving them to a directory. Does not belong here: what the content is
(``content``), how pages and plots look (``pages``, ``plots``), where a run keeps its reports (``tasks``).
"""

from __future__ import annotations

from pathlib import Path

from llm2vec_core.evaluation.report.content import ReportContent
from llm2vec_core.evaluation.report.pages import render_html, render_markdown
from llm2vec_core.evaluation.report.plots import plot_files, plots


class EvaluationReport(ReportContent):
    """The result of an evaluation, as a record that can be shown and saved."""

    def files(self) -> dict[str, bytes]:
        """Every file of the report.

        Returns:
            File name to content: each plot as PNG and SVG, ``report.html``, ``report.md`` and, last, ``report.json``.
        """
        drawn = plots(self)
        return {
            **plot_files(self, drawn),
            "report.html": render_html(self, drawn=drawn).encode(),
            "report.md": render_markdown(self).encode(),
            "report.json": self.model_dump_json(indent=2).encode(),
        }

    def save(self, directory: str | Path) -> Path:
        """Write every file of the report into a directory, which is made if it does not exist.

        Args:
            directory: Where to; files of an earlier report in it are overwritten.

        Returns:
            Path of ``report.html``.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            (folder / name).write_bytes(content)
        return folder / "report.html"

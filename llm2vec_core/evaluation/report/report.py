"""The report that an evaluation returns: the object, its pages from ``report.j2``, and its files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from llm2vec_core.evaluation.published import published_scores
from llm2vec_core.evaluation.report import standings, tables
from llm2vec_core.evaluation.report.content import ReportContent
from llm2vec_core.evaluation.report.plots import FILE_INK, Plot, plot_files, plots
from llm2vec_core.evaluation.results import PublishedScore
from llm2vec_core.pages.rendering import PageForm, render_page


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
        """Write every file of the report into a directory, which is created if missing.

        Args:
            directory: Target directory; files of an earlier report in it are overwritten.

        Returns:
            Path of ``report.html``.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            (folder / name).write_bytes(content)
        return folder / "report.html"


def render_markdown(report: ReportContent, published: Sequence[PublishedScore] | None = None) -> str:
    """The report as Markdown (for the Prefect UI): the tables and sentences of the HTML page, without the plots.

    Args:
        report: The content.
        published: Published figures for comparison. Default: all known ones.

    Returns:
        CommonMark with tables. Text from data is escaped.
    """
    return _render("markdown", report, published, drawn={})


def render_html(
    report: ReportContent,
    published: Sequence[PublishedScore] | None = None,
    *,
    drawn: Mapping[str, Plot] | None = None,
) -> str:
    """The report as one self-contained page: inline style, inline plots, no scripts, no external files.

    Args:
        report: The content.
        published: Published figures for comparison. Default: all known ones.
        drawn: Plots of the report, if already drawn; drawing takes seconds.

    Returns:
        A complete HTML document for phone, desktop and print, light and dark.
    """
    return _render("html", report, published, drawn=plots(report) if drawn is None else drawn)


def _render(
    form: PageForm, report: ReportContent, published: Sequence[PublishedScore] | None, *, drawn: Mapping[str, Plot]
) -> str:
    return render_page(
        "llm2vec_core.evaluation.report",
        "report.j2",
        form,
        report=report,
        created=report.created_at.strftime("%d %B %Y, %H:%M %Z").strip(),
        published=published_scores() if published is None else published,
        standings=standings,
        tables=tables,
        plots=drawn,
        drawings={name: _inline_svg(plot) for name, plot in drawn.items()},
    )


_PHONE_POINTS = 330.0
"""Width in points at which a plot is legible on a phone."""


def _inline_svg(plot: Plot) -> Markup:
    """A plot as an SVG element that scales with the page, uses its text colour and has a label.

    Scaled down to a phone, a wide plot would be illegible, so it keeps a minimum width and scrolls in its box.
    """
    text = plot.svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{plot.name}-", text)  # matplotlib numbers every figure from one
    head, body = text.split(">", 1)
    width = re.search(r' width="([\d.]+)pt"', head)
    points = float(width[1]) if width else 0.0
    head = re.sub(r' (?:width|height)="[\d.]+pt"', "", head)
    narrowest = 0.0 if points < _PHONE_POINTS else 1.25 * points
    sizes = f"min-width: {narrowest:.0f}px; max-width: {1.8 * points:.0f}px"
    label = Markup('<svg role="img" aria-label="{}" style="{}"').format(plot.label, sizes)
    head = head.replace("<svg", label, 1)
    return Markup(f"{head}>{body}".replace(FILE_INK, "currentColor"))  # matplotlib escapes the text it draws

"""The report as pages: HTML and Markdown, from the same sections.

Belongs here: turning blocks into text safely. Does not belong here: what is said (``sections``). The pages themselves
are ``report.html.j2`` with ``style.css``, and ``report.md.j2``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from llm2vec_core.evaluation.published import published_scores
from llm2vec_core.evaluation.report.blocks import Section
from llm2vec_core.evaluation.report.content import Decision, ReportContent
from llm2vec_core.evaluation.report.plots import FILE_INK, Plot, plots
from llm2vec_core.evaluation.report.sections import lead, sections
from llm2vec_core.evaluation.results import PublishedScore

_PHONE_POINTS = 330.0
"""A plot of this width in points can be read on a phone."""


def render_markdown(report: ReportContent, published: Sequence[PublishedScore] | None = None) -> str:
    """The report as Markdown (for the Prefect UI): the tables and words of the page, without the plots.

    Args:
        report: What to say.
        published: Figures that others published. Default: all that are known.

    Returns:
        CommonMark with tables. Text from data is escaped.
    """
    environment = _environment(autoescape=False)
    environment.filters["plain"] = _escape_markdown
    view = _view(report, published, drawn={})
    text = environment.get_template("report.md.j2").render(view)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def render_html(
    report: ReportContent,
    published: Sequence[PublishedScore] | None = None,
    *,
    drawn: dict[str, Plot] | None = None,
) -> str:
    """The report as one self-contained page: inline style, inline plots, nothing fetched, no script.

    Args:
        report: What to say.
        published: Figures that others published. Default: all that are known.
        drawn: Plots of the report, when they are at hand: drawing takes seconds.

    Returns:
        A whole HTML document for phone, desktop and print, light and dark.
    """
    view = _view(report, published, drawn=plots(report) if drawn is None else drawn)
    return _page(
        report.title,
        view["sections"],
        eyebrow=f"{view['created']} · run {report.run_id}",
        lead=view["lead"],
        decision=report.decision,
        drawn=view["plots"],
    )


def render_sections(title: str, shown: Sequence[Section], *, eyebrow: str, lead: str) -> str:
    """Sections of anything else, without plots, as a page that looks like the report.

    Args:
        title: Of the page.
        shown: Its sections; text from data is escaped.
        eyebrow: Small line above the title.
        lead: Sentence below it.
    """
    return _page(title, shown, eyebrow=eyebrow, lead=lead)


def _page(
    title: str,
    shown: Sequence[Section],
    *,
    eyebrow: str,
    lead: str,
    decision: Decision | None = None,
    drawn: Mapping[str, Plot] | None = None,
) -> str:
    environment = _environment(autoescape=True)
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html.j2").render(
        title=title,
        eyebrow=eyebrow,
        lead=lead,
        decision=decision,
        sections=shown,
        plots=drawn or {},
        drawings={name: _inline_svg(plot) for name, plot in (drawn or {}).items()},
    )


def _environment(*, autoescape: bool) -> jinja2.Environment:
    """Templates beside this module; an unknown name in a template is an error, not an empty place."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("llm2vec_core.evaluation.report", package_path=""),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _view(
    report: ReportContent, published: Sequence[PublishedScore] | None, *, drawn: dict[str, Plot]
) -> dict[str, Any]:
    """What both templates print."""
    figures = published_scores() if published is None else published
    return {
        "report": report,
        "created": report.created_at.strftime("%d %B %Y, %H:%M %Z").strip(),
        "lead": lead(report),
        "sections": sections(report, plots=drawn, published=figures),
        "plots": drawn,
    }


_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]|~]|^[-+#>=]|(?<=^\d)[.)])")


def _escape_markdown(text: object) -> str:
    """Text that CommonMark prints as it is: on one line, with nothing that starts markup or HTML."""
    line = " ".join(str(text).split())
    return _MARKDOWN_SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))


def _breakable(name: str) -> Markup:
    """A name that may break where a part of it begins, for narrow columns."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[_+:/,])(?=[^\s\d])", "\0", name).split("\0")
    return Markup("<wbr>").join(parts)  # join escapes the parts


def _inline_svg(plot: Plot) -> Markup:
    """A plot as an SVG element that scales with the page, takes its text colour and says what it is.

    Scaled down to a phone, the small type of a broad plot could not be read: it keeps a width and scrolls in its box.
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

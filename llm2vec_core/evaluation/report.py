"""The evaluation report: results in, one page of HTML or Markdown and plots out.

Belongs here: what a report says, in which order, and how it looks; ``report.html.j2`` and ``report.md.j2`` are the
pages. Does not belong here: computing scores (``sentence``), deciding what is served, writing files.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict

from llm2vec_core.evaluation.eval_tasks import EVAL_TASK_TYPES
from llm2vec_core.evaluation.sentence import TaskScore
from llm2vec_core.evaluation.systems import SystemMode
from llm2vec_core.training.settings import StageCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

JOB_TASK = "JobResumeRetrieval"
"""The task of the poster's Table 1: which resumes fit a job description."""

JOB_METRICS = {"nDCG@10": "ndcg_at_10", "MAP": "map_at_1000", "MRR@10": "mrr_at_10", "P@5": "precision_at_5"}
"""Columns of the job table, and the mteb metrics behind them."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SystemReport(_Frozen):
    """One system and its scores.

    Attributes:
        name: Short; heads its column.
        description: What it is, in a sentence.
        fingerprint: Identity of what was scored.
        mode: How it ranks.
        scores: One a task that it can do.
    """

    name: str
    description: str = ""
    fingerprint: str
    mode: SystemMode
    scores: tuple[TaskScore, ...]


class Decision(_Frozen):
    """What is served from now on, and why.

    Attributes:
        served: Name of the system that is served.
        reason: Why, as one plain sentence.
        candidate: Name of the new system that was judged, if there was one.
        incumbent: Name of the system served before, if there was one.
    """

    served: str
    reason: str
    candidate: str | None = None
    incumbent: str | None = None


class EvaluationReport(_Frozen):
    """Everything a report says.

    Attributes:
        title: Heading of the page.
        created_at: When, with its time zone.
        run_id: The run that made it.
        systems: What was compared, in the order of the columns.
        decision: What is served, if the report decided something.
        training: Curves of the stages behind the candidate.
        notes: Paragraphs of plain text, such as what so little training can do.
        machine: Hardware and versions, name to value.
    """

    title: str
    created_at: datetime
    run_id: str
    systems: tuple[SystemReport, ...]
    decision: Decision | None = None
    training: tuple[StageCurve, ...] = ()
    notes: tuple[str, ...] = ()
    machine: dict[str, str] = {}


def render_markdown(report: EvaluationReport) -> str:
    """The report as Markdown (for the Prefect UI): the tables and words of the page, without the plots.

    Args:
        report: What to say.

    Returns:
        CommonMark with tables. Text from data is escaped.
    """
    environment = _environment(autoescape=False)
    environment.filters["plain"] = _escape_markdown
    text = environment.get_template("report.md.j2").render(_view(report))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def render_html(report: EvaluationReport) -> str:
    """The report as one self-contained page: inline style, inline plots, nothing fetched, no script.

    Args:
        report: What to say.

    Returns:
        A whole HTML document for phone, desktop and print, light and dark.
    """
    plots = [
        {"svg": _inline_svg(figure), "caption": caption}
        for figure, caption in _figures(report, ink=_INK_SENTINEL).values()
    ]
    environment = _environment(autoescape=True)
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html.j2").render(_view(report) | {"plots": plots})


def plot_main_scores(report: EvaluationReport) -> dict[str, bytes]:
    """The plots as files: main scores by task and system, and the training losses if there was training.

    Args:
        report: What to plot.

    Returns:
        File name (``main_scores.png``, ``main_scores.svg``, ``training_loss.png``, ...) to content.
    """
    files = {}
    for name, (figure, _) in _figures(report, ink="#1d2430").items():
        files[f"{name}.png"] = _save(figure, "png")
        files[f"{name}.svg"] = _save(figure, "svg")
    return files


# --- what the pages show -------------------------------------------------------------------------------------------


def _environment(*, autoescape: bool) -> jinja2.Environment:
    """Templates beside this module; an unknown name in a template is an error, not an empty place."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("llm2vec_core.evaluation", package_path=""),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _view(report: EvaluationReport) -> dict[str, Any]:
    """The report as the tables that both pages print."""
    tasks = _tasks(report)
    return {
        "report": report,
        "created": report.created_at.strftime("%d %B %Y, %H:%M %Z").strip(),
        "summary": _summary(report, num_tasks=len(tasks)),
        "job_table": _job_table(report),
        "score_table": _score_table(report, tasks),
        "training": [_training_row(curve) for curve in report.training],
        "how_to_read": _how_to_read(report, tasks),
        "tasks": [_task_row(report, task) for task in tasks.values()],
        "plots": [],
    }


def _tasks(report: EvaluationReport) -> dict[str, TaskScore]:
    """One score of each task, by category in the order of the paper's Table 1, then in the order of the first system.

    Keyed by name and content, so that results on different data never share a row.
    """
    found: dict[str, TaskScore] = {}
    for system in report.systems:
        for score in system.scores:
            found.setdefault(_task_key(score), score)
    return dict(sorted(found.items(), key=lambda pair: EVAL_TASK_TYPES.index(pair[1].type)))


def _task_key(score: TaskScore) -> str:
    return f"{score.task} {score.content_sha256}"


def _summary(report: EvaluationReport, *, num_tasks: int) -> str:
    """What was compared and decided, as a sentence or two."""
    names = [system.name for system in report.systems]
    listed = ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
    count = "1 task" if num_tasks == 1 else f"{num_tasks} tasks"
    compared = f"{listed} {'were compared' if len(names) > 1 else 'was scored'} on {count}."
    if report.decision is None:
        return f"{compared} Nothing was to be decided."
    reason = report.decision.reason.strip().rstrip(".")
    return f"{compared} {report.decision.served} is served: {reason}."


def _cells(values: Sequence[float | None], intervals: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Numbers as printed, the best one marked; equal as printed is equally good. Nothing is marked in a row of one."""
    printed = ["–" if value is None else f"{value:.2f}" for value in values]
    there = [value for value in values if value is not None]
    best = f"{max(there):.2f}" if len(there) > 1 else None
    return [
        {"text": text, "best": text == best, "interval": interval}
        for text, interval in zip(printed, intervals or [""] * len(printed), strict=True)
    ]


def _job_table(report: EvaluationReport) -> dict[str, Any] | None:
    """One row a system, the columns of the poster's Table 1; none if the task was not run."""
    scored = [(system, score) for system in report.systems for score in system.scores if score.task == JOB_TASK]
    if not scored:
        return None
    columns = [_cells([score.metrics.get(metric) for _, score in scored]) for metric in JOB_METRICS.values()]
    rows = [
        {"name": system.name, "cells": [column[number] for column in columns]}
        for number, (system, _) in enumerate(scored)
    ]
    return {"columns": list(JOB_METRICS), "rows": rows, "num_items": scored[0][1].num_items}


def _score_table(report: EvaluationReport, tasks: Mapping[str, TaskScore]) -> dict[str, Any]:
    """Main score of every task and system, by category, with averages."""
    by_system = [{_task_key(score): score for score in system.scores} for system in report.systems]

    def average(keys: Sequence[str]) -> list[float | None]:
        """Mean over tasks for each system that did them all: other means would not compare."""
        return [
            sum(scores[key].main_score for key in keys) / len(keys)
            if keys and all(key in scores for key in keys)
            else None
            for scores in by_system
        ]

    groups = []
    for category in EVAL_TASK_TYPES:
        keys = [key for key, task in tasks.items() if task.type == category]
        rows = []
        for key in keys:
            found = [scores.get(key) for scores in by_system]
            values = [score.main_score if score else None for score in found]
            rows.append(
                {
                    "name": tasks[key].task,
                    "metric": tasks[key].main_score_name,
                    "cells": _cells(values, _intervals(found)),
                }
            )
        if rows:
            groups.append(
                {"category": category, "rows": rows, "average": _cells(average(keys)) if len(rows) > 1 else None}
            )
    everything = list(tasks)
    partial = [
        system.name for system, scores in zip(report.systems, by_system, strict=True) if len(scores) < len(tasks)
    ]
    return {
        "systems": [system.name for system in report.systems],
        "groups": groups,
        "average": _cells(average(everything)),
        "num_tasks": len(tasks),
        "partial": partial,
    }


def _intervals(scores: Sequence[TaskScore | None]) -> list[str]:
    """95 % intervals as printed, empty where there is none."""
    return [
        f"{score.ci_low:.1f} to {score.ci_high:.1f}"
        if score and score.ci_low is not None and score.ci_high is not None
        else ""
        for score in scores
    ]


def _training_row(curve: StageCurve) -> dict[str, str]:
    """A stage as printed."""
    return {
        "stage": curve.stage,
        "steps": f"{curve.num_steps:,}",
        "first": f"{curve.losses[0]:.3f}" if curve.losses else "–",
        "last": f"{curve.losses[-1]:.3f}" if curve.losses else "–",
        "tokens": f"{curve.tokens:,}",
        "tokens_per_s": f"{curve.tokens_per_s:,.0f}",
    }


def _task_row(report: EvaluationReport, task: TaskScore) -> dict[str, Any]:
    """Provenance of a task: what was scored, and how long each system took."""
    seconds = {
        system.name: f"{score.seconds:.1f}"
        for system in report.systems
        for score in system.scores
        if _task_key(score) == _task_key(task)
    }
    return {
        "name": task.task,
        "num_items": f"{task.num_items:,}",
        "content": task.content_sha256,
        "seconds": [seconds.get(system.name, "–") for system in report.systems],
    }


_METRIC_MEANINGS = {
    "ndcg_at_10": "How many relevant documents are among the first ten and how high they stand, against the best "
    "possible order.",
    "map_at_1000": "Mean average precision: precision at the rank of each relevant document, averaged; rewards "
    "finding all of them early.",
    "mrr_at_10": "One over the rank of the first relevant document among the first ten, averaged.",
    "precision_at_5": "Share of the first five documents that are relevant; with fewer than five relevant documents "
    "it cannot reach 100.",
    "accuracy": "Share of texts that a logistic regression on the vectors labels rightly, learned from 8 texts a "
    "label, mean of ten draws.",
    "v_measure": "Agreement of clusters of the vectors with the true groups; 0: they say "
    "nothing about the groups, 100: they are the groups.",
    "cosine_spearman": "Rank correlation of the cosine of two vectors with human judgment; 0 is unrelated, below zero "
    "is the wrong way round.",
    "max_ap": "Average precision of closeness as a sign that two texts mean the same, with the best of mteb's "
    "distances.",
}


def _how_to_read(report: EvaluationReport, tasks: Mapping[str, TaskScore]) -> list[dict[str, str]]:
    """What each metric on the page means."""
    used = [task.main_score_name for task in tasks.values()]
    if any(task.task == JOB_TASK for task in tasks.values()):
        used += JOB_METRICS.values()
    labels = {metric: label for label, metric in JOB_METRICS.items()}
    return [
        {"name": labels.get(metric, metric), "meaning": _METRIC_MEANINGS.get(metric, "As mteb defines it.")}
        for metric in dict.fromkeys(used)
    ]


_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]|~]|^[-+#>=]|(?<=^\d)[.)])")


def _escape_markdown(text: object) -> str:
    """Text that CommonMark prints as it is: on one line, with nothing that starts markup or HTML."""
    line = " ".join(str(text).split())
    return _MARKDOWN_SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))


def _breakable(name: str) -> Markup:
    """A name that may break where a part of it begins, for narrow columns."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=_)", "\0", name).split("\0")
    return Markup("<wbr>").join(parts)  # join escapes the parts


# --- plots ---------------------------------------------------------------------------------------------------------

_COLOURS = ("#4477aa", "#ee8866", "#44a37f", "#aa6fa8", "#c9a227", "#66a9c9", "#b5565a", "#8a8f99")
"""A palette that colour-blind readers can tell apart (after Paul Tol's), mid-toned for light and dark pages."""

_INK_SENTINEL = "#010203"
"""Drawn in this colour, text and axes of an inline SVG take the colour of the page's text."""


def _figures(report: EvaluationReport, *, ink: str) -> dict[str, tuple[Figure, str]]:
    """The figures there is something to draw for, with captions."""
    figures = {}
    tasks = _tasks(report)
    if tasks:
        figures["main_scores"] = (
            _draw_main_scores(report, tasks, ink=ink),
            "Main score of each task, 0 to 100; a missing bar: the system cannot do the task.",
        )
    if report.training:
        figures["training_loss"] = (
            _draw_training(report.training, ink=ink),
            "Loss at each logged step, stage by stage. Losses of different stages do not compare.",
        )
    return figures


def _draw_main_scores(report: EvaluationReport, tasks: Mapping[str, TaskScore], *, ink: str) -> Figure:
    """Horizontal bars, grouped by task: they stay readable on a phone, however many tasks there are."""
    from matplotlib.figure import Figure

    num_systems = len(report.systems)
    bar = 0.8 / num_systems
    figure = Figure(figsize=(4.4, 0.9 + len(tasks) * (0.2 + 0.13 * num_systems)), layout="constrained")
    axes = figure.subplots()
    row = {key: number for number, key in enumerate(tasks)}
    for number, system in enumerate(report.systems):
        axes.barh(
            [row[_task_key(score)] + (number - (num_systems - 1) / 2) * bar for score in system.scores],
            [score.main_score for score in system.scores],
            height=bar * 0.86,
            color=_COLOURS[number % len(_COLOURS)],
            label=_plain(system.name),
        )
    axes.set_yticks(list(row.values()), [_plain(task.task) for task in tasks.values()])
    axes.invert_yaxis()
    lowest = min(score.main_score for system in report.systems for score in system.scores)
    axes.set_xlim(min(0, lowest - 2), 100)
    _calm(axes, ink=ink, grid="x")
    figure.legend(
        loc="outside upper left", ncols=min(2, num_systems), frameon=False, fontsize=8, labelcolor=ink, handlelength=1
    )
    return figure


def _draw_training(training: Sequence[StageCurve], *, ink: str) -> Figure:
    """One small plot a stage, below each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 0.3 + 1.7 * len(training)), layout="constrained")
    for number, (axes, curve) in enumerate(
        zip(figure.subplots(len(training), squeeze=False).flat, training, strict=True)
    ):
        marker = "o" if curve.num_steps < 25 else None
        axes.plot(
            range(1, len(curve.losses) + 1),
            curve.losses,
            color=_COLOURS[number % len(_COLOURS)],
            linewidth=1.6,
            marker=marker,
            ms=3,
        )
        axes.set_title(_plain(curve.stage), loc="left", fontsize=9, color=ink)
        axes.set_xlabel("step", fontsize=8, color=ink)
        axes.set_ylabel("loss", fontsize=8, color=ink)
        _calm(axes, ink=ink, grid="y")
    return figure


def _plain(text: str) -> str:
    """Text that matplotlib draws as it is: a dollar sign would start mathematics, a leading underscore would hide."""
    return text.replace("$", r"\$").lstrip("_") or "?"


def _calm(axes: Axes, *, ink: str, grid: str) -> None:
    """No box, faint grid, small ink-coloured labels."""
    axes.spines[["top", "right", "left" if grid == "x" else "bottom"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(ink)
        spine.set_alpha(0.35)
    axes.tick_params(colors=ink, labelsize=8, length=0)
    axes.grid(axis="x" if grid == "x" else "y", color=ink, alpha=0.14, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.patch.set_alpha(0)


def _save(figure: Figure, kind: str) -> bytes:
    """A figure as a file: the same figure gives the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "llm2vec-pipelines"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata, transparent=kind == "svg")
    return buffer.getvalue()


def _inline_svg(figure: Figure) -> Markup:
    """A figure as an SVG element that scales with the page and takes its text colour."""
    text = _save(figure, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[\d.]+pt"', "", head).replace("<svg", '<svg role="img"')
    return Markup(f"{head}>{body}".replace(_INK_SENTINEL, "currentColor"))  # matplotlib escapes the text it draws

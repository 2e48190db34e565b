"""The plots of a report, drawn with matplotlib in one style.

Every figure fits the width of a text column and the height of a sheet of paper. Further content goes to another
figure.
"""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from llm2vec_core.evaluation.report.content import ReportContent
from llm2vec_core.evaluation.report.standings import (
    POOLING_NAMES,
    AblationRow,
    ablations,
    averages_of,
    category_scopes,
    num_tasks,
    scope_title,
    scores_by_task,
    tasks_by_category,
)
from llm2vec_core.evaluation.results import ALL_SCOPE, TaskScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE_INK = "#1d2430"
"""Colour of text and axes in files. No other part uses it, so that a page can replace it."""

_COLOURS = ("#4477aa", "#ee8866", "#44a37f", "#aa6fa8", "#c9a227", "#66a9c9", "#b5565a", "#8a8f99")
"""A palette that colour-blind readers can tell apart (after Paul Tol's), mid-toned for light and dark pages."""

_HEAT = ("#f2f5f9", "#c9d9ea", "#93b5d6", "#5686b8", "#2f5f94", "#1b3a60")
"""One hue from light to dark, whose order is visible with colour blindness and in greyscale print."""

_NAME_WIDTH = 24
"""Maximum characters of a name per line of an axis."""

_MAX_HEIGHT = 9.0
"""Maximum height in inches, about a sheet of paper."""

_MAX_RADAR_SYSTEMS = 6

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Plot:
    """A plot that is drawn on first use.

    Attributes:
        name: Name of its files, without suffix.
        caption: Text below it.
        label: Alternative text for screen readers; the tables contain its values.
        draw: Draws it.
    """

    name: str
    caption: str
    label: str
    draw: Callable[[], Figure]

    @functools.cached_property
    def figure(self) -> Figure:
        """The drawing; made once, for files and page alike."""
        return self.draw()

    @functools.cached_property
    def svg(self) -> bytes:
        """The drawing as an SVG file."""
        return save(self.figure, "svg")


def plots(report: ReportContent) -> dict[str, Plot]:
    """The plots of a report by name; plots without data are left out."""
    makers = (_radar, _ablation, _main_scores, _heat_map, _distributions, _training)
    return {plot.name: plot for make in makers for plot in make(report)}


def plot_files(report: ReportContent, drawn: Mapping[str, Plot] | None = None) -> dict[str, bytes]:
    """Every plot as files.

    Args:
        report: The content.
        drawn: Its plots, if already drawn; drawing takes seconds.

    Returns:
        File name (``main_scores.png``, ``main_scores.svg``, ``training_loss.png``, ...) to content; the same report
        gives the same bytes.
    """
    files = {}
    for plot in (plots(report) if drawn is None else drawn).values():
        files[f"{plot.name}.png"] = save(plot.figure, "png")
        files[f"{plot.name}.svg"] = plot.svg
    return files


def save(figure: Figure, kind: str) -> bytes:
    """A figure as a file: the same figure gives the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "llm2vec-pipelines"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata, transparent=kind == "svg")
    return buffer.getvalue()


# --- panels: one per task, one row per system ----------------------------------------------------------------------


def _panel_plots(
    name: str,
    tasks: Sequence[_Item],
    systems: Sequence[str],
    draw_panel: Callable[[Axes, _Item], None],
    *,
    caption: str,
    label: str,
) -> list[Plot]:
    """Plots with one panel per task and one row per system, as many as fit a sheet; names are on the left."""
    if not tasks or not systems:
        return []
    names = [_wrapped(system) for system in systems]
    num_columns = min(3, len(tasks))
    row_height = max(name.count("\n") + 1 for name in names) * 0.11 + 0.08
    panel_height = 0.5 + row_height * len(systems)
    num_rows = math.ceil(len(tasks) / num_columns)
    num_plots = math.ceil(num_rows / max(1, int(_MAX_HEIGHT / panel_height)))
    per_plot = num_columns * math.ceil(num_rows / num_plots)

    def draw(part: Sequence[_Item]) -> Figure:
        from matplotlib.figure import Figure

        rows = math.ceil(len(part) / num_columns)
        figure = Figure(figsize=(1.3 + 1.65 * num_columns, 0.1 + panel_height * rows), layout="constrained")
        for position, axes in enumerate(figure.subplots(rows, num_columns, squeeze=False).flat):
            if position >= len(part):
                axes.set_visible(False)
                continue
            draw_panel(axes, part[position])
            axes.set_ylim(len(systems) - 0.4, -0.6)
            axes.set_yticks(range(len(systems)), names if position % num_columns == 0 else [""] * len(systems))
            axes.locator_params(axis="x", nbins=4)
            _calm(axes, grid="x")
            axes.tick_params(labelsize=7)
        return figure

    parts = [tasks[start : start + per_plot] for start in range(0, len(tasks), per_plot)]
    return [
        Plot(name if number == 1 else f"{name}_{number}", caption, label, functools.partial(draw, part))
        for number, part in enumerate(parts, start=1)
    ]


def _all_tasks(report: ReportContent) -> list[tuple[str, TaskScore]]:
    """Key and one score of each task."""
    return [pair for found in tasks_by_category(report).values() for pair in found.items()]


def _main_scores(report: ReportContent) -> list[Plot]:
    """Main scores with intervals: a point, and a line for its interval."""
    by_system = scores_by_task(report.systems)

    def draw_panel(axes: Axes, task: tuple[str, TaskScore]) -> None:
        for row, score in enumerate(scores.get(task[0]) for scores in by_system):
            if score is None:
                continue
            colour, low, high = _COLOURS[row % len(_COLOURS)], score.ci_low, score.ci_high
            if low is not None and high is not None:
                axes.plot([low, high], [row, row], color=colour, linewidth=2.4, alpha=0.45, solid_capstyle="round")
            axes.plot([score.main_score], [row], color=colour, marker="o", markersize=4)
        axes.margins(x=0.12)
        _title(axes, _shortened(task[1].task, 24), size=8)

    return _panel_plots(
        "main_scores",
        _all_tasks(report),
        [system.name for system in report.systems],
        draw_panel,
        caption="Main score of each task with its 95 % interval. Each panel has its own scale, so that differences "
        "show; a missing point means not scored.",
        label="Main score of each task and system with 95 % intervals, one panel per task",
    )


def _distributions(report: ReportContent) -> list[Plot]:
    """Spread of the scores of single queries: quantiles at 5, 25, 50, 75 and 95 %, and the share of zeros."""
    found = {(one.task, one.metric, one.system): one for one in report.distributions}
    with_spread = {system for _, _, system in found}
    systems = [system.name for system in report.systems if system.name in with_spread]

    def draw_panel(axes: Axes, task: tuple[str, str]) -> None:
        for row, spread in enumerate(found.get((*task, system)) for system in systems):
            if spread is None:
                continue
            colour = _COLOURS[row % len(_COLOURS)]
            low, lower, median, upper, high = (spread.quantiles[place] for place in (1, 5, 10, 15, 19))
            axes.plot([low, high], [row, row], color=colour, linewidth=1, alpha=0.7)
            axes.plot([lower, upper], [row, row], color=colour, linewidth=5, alpha=0.5, solid_capstyle="butt")
            axes.plot([median], [row], color=colour, marker="|", markersize=8, markeredgewidth=2)
            zeros = f"{spread.share_zero:.0%}"
            axes.text(124, row, zeros, ha="right", va="center", fontsize=6.5, color=FILE_INK)
        axes.set_xlim(-4, 124)
        axes.set_xticks([0, 50, 100])
        _title(axes, f"{_shortened(task[0], 22)}\n{task[1]}", size=8)

    return _panel_plots(
        "distributions",
        list(dict.fromkeys((one.task, one.metric) for one in report.distributions)),
        systems,
        draw_panel,
        caption="Scores of single queries. Thick line: the middle half of the queries; thin: from 5 to 95 % of them; "
        "stroke: the median. On the right: the share of queries that score zero.",
        label="Spread of the score over queries, one panel per task, one row per system",
    )


# --- overview of all scores ----------------------------------------------------------------------------------------


def _heat_map(report: ReportContent) -> list[Plot]:
    """Task by system, the value in its cell; text in a cell is light on dark and dark on light."""
    tasks = _all_tasks(report)
    if len(tasks) < 2 or len(report.systems) < 2:
        return []

    def draw() -> Figure:
        import numpy as np
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure

        by_system = scores_by_task(report.systems)
        values = np.array(
            [[scores[key].main_score if key in scores else np.nan for scores in by_system] for key, _ in tasks]
        )
        low, high = min(0.0, float(np.nanmin(values))), max(float(np.nanmax(values)), 1.0)
        names = [_wrapped(system.name, width=18) for system in report.systems]
        figure = Figure(figsize=(1.9 + 0.4 * max(len(names), 5), 1.6 + 0.17 * len(tasks)), layout="constrained")
        axes = figure.subplots()
        heat, shown = LinearSegmentedColormap.from_list("heat", _HEAT), np.ma.masked_invalid(values)
        axes.pcolormesh(shown, cmap=heat, vmin=low, vmax=high, linewidth=0.5, edgecolor="#ffffff22")
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "#ffffff" if (value - low) / (high - low) > 0.58 else FILE_INK
                axes.text(column + 0.5, row + 0.5, f"{value:.1f}", ha="center", va="center", fontsize=6.5, color=colour)
        axes.set_yticks(np.arange(len(tasks)) + 0.5, [_plain(_shortened(task.task, 34)) for _, task in tasks])
        axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
        axes.xaxis.tick_top()
        axes.invert_yaxis()
        _calm(axes, grid=None)
        axes.tick_params(labelsize=7)
        return figure

    caption = "Main score of each task and system: the darker, the higher. An empty cell means not scored."
    return [Plot("heat_map", caption, "Heat map of the main scores, one row per task and one column per system", draw)]


def _radar(report: ReportContent) -> list[Plot]:
    """The categories as spokes, one closed line per system; values below zero are drawn at the centre."""
    scopes = category_scopes(report)
    averages = [averages_of(report, scope) for scope in scopes]
    complete = [system.name for system in report.systems if all(system.name in found for found in averages)]
    if len(scopes) < 3 or len(complete) < 2:  # a single line would compare nothing
        return []
    overall = averages_of(report, ALL_SCOPE)
    best = sorted(complete, key=lambda name: -overall[name].score if name in overall else 0.0)[:_MAX_RADAR_SYSTEMS]
    which = "systems with scores in all categories"
    if len(best) < len(complete):
        which = f"{len(best)} best of the {len(complete)} {which}"
    values = {name: [found[name].score for found in averages] for name in complete if name in best}
    rim = min(100, 10 * math.ceil(max(score for spokes in values.values() for score in spokes) / 10) or 10)

    def draw() -> Figure:
        from matplotlib.figure import Figure
        from matplotlib.projections.polar import PolarAxes

        angles = [2 * math.pi * position / len(scopes) for position in range(len(scopes))]
        figure = Figure(figsize=(4.4, 4.1 + 0.17 * len(values)), layout="constrained")
        axes = figure.add_subplot(projection="polar")
        assert isinstance(axes, PolarAxes), "matplotlib returned other axes than requested"
        for number, (name, spokes) in enumerate(values.items()):
            closed = [max(0.0, value) for value in (*spokes, spokes[0])]
            colour, label = _COLOURS[number % len(_COLOURS)], _plain(name)
            axes.plot([*angles, angles[0]], closed, color=colour, linewidth=1.6, marker="o", markersize=3, label=label)
        axes.set_theta_offset(math.pi / 2)
        axes.set_theta_direction(-1)
        axes.set_ylim(0, rim)
        axes.set_xticks(angles, [scope_title(scope) for scope in scopes])
        rings = range(10, rim + 1, 10)
        axes.set_yticks(rings, [str(ring) if ring % 20 == 0 else "" for ring in rings])
        axes.tick_params(colors=FILE_INK, labelsize=8)
        axes.tick_params(axis="y", labelsize=6.5)
        axes.grid(color=FILE_INK, alpha=0.18, linewidth=0.8)
        axes.spines["polar"].set_visible(False)
        axes.patch.set_alpha(0)
        _legend(figure)
        return figure

    caption = f"Averages by category, from 0 in the middle to {rim} at the rim; the {which}."
    return [Plot("radar", caption, f"Radar of the averages by category for {', '.join(values)}", draw)]


# --- ablation and training -----------------------------------------------------------------------------------------


def _ablation(report: ReportContent) -> list[Plot]:
    """The paper's Figure 3: one panel per base model, one group of bars per pooling, one bar per training."""
    found = ablations(report)
    if not found:
        return []

    def draw() -> Figure:
        from matplotlib.figure import Figure

        trainings = list(dict.fromkeys(_bar_name(row) for one in found for row in one.rows))
        height = min(2.3, (_MAX_HEIGHT - 0.5) / len(found))
        figure = Figure(figsize=(4.5, 0.25 + 0.1 * len(trainings) + height * len(found)), layout="constrained")
        for axes, ablation in zip(figure.subplots(len(found), squeeze=False).flat, found, strict=True):
            there = {pooling for row in ablation.rows for pooling in row.averages}
            poolings = [pooling for pooling in dict.fromkeys(POOLING_NAMES.values()) if pooling in there]
            width = 0.84 / len(ablation.rows)
            for position, row in enumerate(ablation.rows):
                name, shift = _bar_name(row), (position - (len(ablation.rows) - 1) / 2) * width
                places = {poolings.index(pooling) + shift: average for pooling, average in row.averages.items()}
                heights = [average.score for average in places.values()]
                colour = _COLOURS[trainings.index(name) % len(_COLOURS)]
                axes.bar(list(places), heights, width=width * 0.9, color=colour, label=_plain(name))
                for place, average in places.items():
                    low, high = average.ci_low, average.ci_high
                    if low is not None and high is not None:
                        axes.plot([place, place], [low, high], color=FILE_INK, linewidth=1, alpha=0.75)
            axes.set_xticks(range(len(poolings)), poolings)
            axes.set_xlim(-0.55, len(poolings) - 0.45)
            _title(axes, ablation.base_model, size=9)
            _calm(axes, grid="y")
        _legend(figure)
        return figure

    caption = (
        f"Average over {num_tasks(report, ALL_SCOPE)} tasks by pooling and training, with 95 % intervals, as in the "
        "paper's Figure 3."
    )
    return [Plot("ablation", caption, "Average by pooling and training, one panel per base model", draw)]


def _bar_name(row: AblationRow) -> str:
    return f"{row.training} ({row.system})" if row.system else row.training


def _training(report: ReportContent) -> list[Plot]:
    """Losses of the stages, one small plot per stage, below each other."""
    if not report.training:
        return []

    def draw() -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.4, 0.3 + 1.7 * len(report.training)), layout="constrained")
        panels = figure.subplots(len(report.training), squeeze=False).flat
        for number, (axes, curve) in enumerate(zip(panels, report.training, strict=True)):
            colour, marker = _COLOURS[number % len(_COLOURS)], "o" if curve.num_steps < 25 else None
            steps = range(1, len(curve.losses) + 1)
            axes.plot(steps, curve.losses, color=colour, linewidth=1.6, marker=marker, markersize=3)
            _title(axes, curve.stage, size=9)
            axes.set_xlabel("step", fontsize=8, color=FILE_INK)
            axes.set_ylabel("loss", fontsize=8, color=FILE_INK)
            _calm(axes, grid="y")
        return figure

    caption = "Loss at each logged step, stage by stage. Losses of different stages do not compare."
    stages = ", ".join(curve.stage for curve in report.training)
    return [Plot("training_loss", caption, f"Training loss of {stages}", draw)]


# --- style ---------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Text that matplotlib draws literally: a dollar sign would start mathematics, a leading underscore hides text."""
    return text.replace("$", r"\$").lstrip("_") or "?"


def _shortened(name: str, width: int) -> str:
    """A name that fits above a panel."""
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _wrapped(name: str, width: int = _NAME_WIDTH) -> str:
    """A name on lines of an axis, broken where a part of it ends."""
    lines = [""]
    for part in filter(None, re.split(r"(?<=[+:/,_ ])", name)):
        if len(lines[-1]) + len(part.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(_plain(line.strip()) for line in lines if line.strip()) or "?"


def _title(axes: Axes, text: str, *, size: int) -> None:
    axes.set_title(_plain(text), loc="left", fontsize=size, color=FILE_INK)


def _calm(axes: Axes, *, grid: Literal["x", "y"] | None) -> None:
    """No box, faint grid along one axis or none, small ink-coloured labels."""
    hidden = {"x": ["top", "right", "left"], "y": ["top", "right", "bottom"], None: list(axes.spines)}[grid]
    axes.spines[hidden].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(FILE_INK)
        spine.set_alpha(0.35)
    axes.tick_params(colors=FILE_INK, labelsize=8, length=0)
    if grid is not None:
        axes.grid(axis=grid, color=FILE_INK, alpha=0.14, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.patch.set_alpha(0)


def _legend(figure: Figure) -> None:
    """Legend of the colours above the panels, without repeats."""
    handles = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    found = {label: handle for handle, label in handles}
    num_columns = 2 if all(len(label) <= _NAME_WIDTH for label in found) else 1
    style = {"frameon": False, "fontsize": 8, "labelcolor": FILE_INK, "handlelength": 1}
    figure.legend(found.values(), found.keys(), loc="outside upper left", ncols=num_columns, **style)

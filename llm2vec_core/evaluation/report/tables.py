"""The tables of a report: what stands in which cell, and what is marked.

Belongs here: numbers as printed. Does not belong here: sentences around the tables and their order (``sections``).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from llm2vec_core.evaluation.published import canonical_model, row_of
from llm2vec_core.evaluation.report.blocks import NOTHING, Cell, Column, Group, Kind, Mark, Row, Table
from llm2vec_core.evaluation.report.content import ReportContent
from llm2vec_core.evaluation.report.standings import (
    POOLING_NAMES,
    SHORT_NAMES,
    Ablation,
    averages_of,
    category_scopes,
    comparisons_by_scope,
    num_tasks,
    scores_by_task,
    system_groups,
    tasks_by_category,
    ties,
)
from llm2vec_core.evaluation.results import (
    ALL_SCOPE,
    JOB_METRICS,
    JOB_TASK,
    WORD_SCOPE,
    Comparison,
    PublishedScore,
    SystemReport,
    TaskScore,
    WorstQuery,
    metric_scope,
)
from llm2vec_core.evaluation.tasks.folders import EVAL_TASK_TYPES, WORD_TASK_TYPE, EvalTaskType

MAX_SYSTEM_COLUMNS = 8
"""With more systems than this, systems are rows and tasks are columns: such a table fits a page."""

MAX_TASK_COLUMNS = 16
"""Tasks that stand side by side in one table, then."""

MAX_PAIRS_LISTED = 45
"""Pairs of systems (of ten systems) up to which every pair is listed for every task."""


class _HasInterval(Protocol):
    @property
    def ci_low(self) -> float | None: ...

    @property
    def ci_high(self) -> float | None: ...


# --- cells ---------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """A score as printed."""
    return f"{value:.2f}"


def interval_notes(scored: _HasInterval) -> tuple[str, ...]:
    """The 95 % interval as a small line; none where the items are not known."""
    if scored.ci_low is None or scored.ci_high is None:
        return ()
    return _interval_notes((scored.ci_low, scored.ci_high))


def _interval_notes(interval: tuple[float, float] | None) -> tuple[str, ...]:
    return () if interval is None else (f"{interval[0]:.1f} to {interval[1]:.1f}",)


def published_text(figure: PublishedScore) -> str:
    """A published figure; where two sources differ, both."""
    other = figure.other_score
    return number(figure.score) if other is None else f"{number(figure.score)} / {number(other)}"


@dataclass(frozen=True)
class _Value:
    """A number on its way into a cell; ``notes`` are its small lines."""

    number: float
    notes: tuple[str, ...] = ()


def _marked(
    values: Sequence[_Value | None],
    systems: Sequence[str],
    *,
    scope: str = "",
    tied: frozenset[tuple[str, str, str]] = frozenset(),
) -> tuple[Cell, ...]:
    """Values of systems as cells, the best marked, and those that the test can't tell from the best.

    Equal as printed is equally good. Nothing is marked where only one system has a value.
    """
    there = [(name, value.number) for name, value in zip(systems, values, strict=True) if value is not None]
    if len(there) < 2:
        return tuple(NOTHING if value is None else Cell(number(value.number), notes=value.notes) for value in values)
    best, highest = max(there, key=lambda pair: pair[1])

    def mark(name: str, value: _Value) -> Mark:
        if number(value.number) == number(highest):
            return "best"
        return "tied" if (scope, name, best) in tied else ""

    return tuple(
        NOTHING if value is None else Cell(number(value.number), mark(name, value), value.notes)
        for name, value in zip(systems, values, strict=True)
    )


# --- one row a system ----------------------------------------------------------------------------------------------


def job_table(report: ReportContent) -> Table | None:
    """The poster's Table 1: one row a system, one column a metric; None if the task was not run."""
    scored = [(system.name, score) for system in report.systems for score in system.scores if score.task == JOB_TASK]
    if not scored:
        return None
    names = [name for name, _ in scored]
    tied = ties(report)
    columns = []
    for metric in JOB_METRICS.values():
        values = [
            _Value(score.metrics[metric], _interval_notes(score.intervals.get(metric)))
            if metric in score.metrics
            else None
            for _, score in scored
        ]
        is_main = all(score.main_score_name == metric for _, score in scored)
        scope = JOB_TASK if is_main else metric_scope(JOB_TASK, metric)
        columns.append(_marked(values, names, scope=scope, tied=tied))
    rows = [Row(name, cells) for name, cells in zip(names, zip(*columns, strict=True), strict=True)]
    rows += [Row(name, (Cell("not run"), *(NOTHING,) * (len(columns) - 1))) for name in report.not_run]
    return Table(
        caption=f"Resumes ranked for each of {scored[0][1].num_items} job descriptions",
        corner="System",
        columns=tuple(Column(name) for name in JOB_METRICS),
        groups=(Group("", tuple(rows)),),
        best_of="its column",
    )


def slice_tables(report: ReportContent, task: str) -> tuple[Table, ...]:
    """Main score of each system on each kind of queries of a retrieval task; none where nothing is known of them."""
    found = {(one.name, one.value, one.system): one for one in report.slices if one.task == task}
    groups: dict[str, list[_Line]] = {}
    names = [system.name for system in report.systems]
    for name, value in dict.fromkeys((name, value) for name, value, _ in found):
        scores = [found.get((name, value, system)) for system in names]
        cells = _marked([_Value(one.score, interval_notes(one)) if one else None for one in scores], names)
        num_queries = next(one.num_queries for one in scores if one)
        note = f"{num_queries} {'query' if num_queries == 1 else 'queries'}"
        groups.setdefault(name, []).append(_Line(value, cells, note=note))
    titled = [(name.capitalize(), lines) for name, lines in groups.items()]
    return _oriented("Main score of each kind of queries", titled, report.systems, best=True) if titled else ()


def worst_table(found: Sequence[WorstQuery]) -> Table:
    """Queries on which a system did badly: what was asked, what came first, what should have come."""
    rows = tuple(
        Row(
            one.query,
            (
                Cell(number(one.score)),
                NOTHING
                if one.best_other_score is None
                else Cell(number(one.best_other_score), notes=(str(one.best_other),)),
                Cell(one.text),
                Cell(one.first or "nothing", notes=(f"judged {one.first_relevance}",)),
                Cell(one.relevant[0], notes=one.relevant[1:]) if one.relevant else NOTHING,
            ),
        )
        for one in found
    )
    return Table(
        caption=f"The {len(found)} queries on which {found[0].system} is worst",
        corner="Query",
        columns=(
            Column("Score"),
            Column("Best other"),
            Column("Asked", is_text=True),
            Column("Ranked first", is_text=True),
            Column("Relevant", is_text=True),
        ),
        groups=(Group("", rows),),
    )


def category_table(report: ReportContent) -> Table | None:
    """The paper's Table 1: one row a system, one column a category; None without averages of a category."""
    scopes = category_scopes(report)
    if not scopes:
        return None
    if num_tasks(report, ALL_SCOPE):
        scopes = (*scopes, ALL_SCOPE)
    columns = dict(zip(scopes, (_average_cells(report, scope) for scope in scopes), strict=True))
    place = {system.name: position for position, system in enumerate(report.systems)}
    groups = tuple(
        Group(
            title,
            tuple(
                Row(system.name, tuple(columns[scope][place[system.name]] for scope in scopes)) for system in systems
            ),
        )
        for title, systems in system_groups(report)
    )
    return Table(
        caption="Average main score of each category",
        corner="Category, data sets",
        columns=tuple(Column(SHORT_NAMES[scope], str(num_tasks(report, scope))) for scope in scopes),
        groups=groups,
        best_of="its column",
    )


def _average_cells(report: ReportContent, scope: str) -> tuple[Cell, ...]:
    """One cell a system."""
    averages = averages_of(report, scope)
    found = [averages.get(system.name) for system in report.systems]
    values = [_Value(average.score, interval_notes(average)) if average else None for average in found]
    return _marked(values, [system.name for system in report.systems], scope=scope, tied=ties(report))


_MTEB_SIZES = dict(zip((*EVAL_TASK_TYPES, ALL_SCOPE), (15, 4, 11, 3, 12, 10, 1, 56), strict=True))
"""Data sets of MTEB by category, as in the head of the paper's Table 1."""

_ABLATION_SCOPE = "subset-15"
"""Scope of the published averages over the paper's subset of 15 tasks."""


def published_category_tables(published: Sequence[PublishedScore]) -> tuple[Table, ...]:
    """The paper's Table 1, and whatever else was published in its form: a table a source, a row a system."""
    columns = {scope: Column(SHORT_NAMES[scope], str(size)) for scope, size in _MTEB_SIZES.items()}
    figures = [(one, one.system, one.scope) for one in published if one.scope in columns]
    return _published_tables(figures, columns, corner="Category, data sets")


def published_ablation_tables(published: Sequence[PublishedScore]) -> tuple[Table, ...]:
    """The paper's Table 5, and whatever else was published in its form: a row a training, a column a pooling."""
    columns = {name: Column(name) for name in POOLING_NAMES.values()}
    figures = []
    for one in published:
        training, _, pooling = one.system.rpartition(", ")
        if one.scope == _ABLATION_SCOPE and training and pooling in POOLING_NAMES:
            figures.append((one, training, POOLING_NAMES[pooling]))
    return _published_tables(figures, columns, corner="Training")


def _published_tables(
    figures: Sequence[tuple[PublishedScore, str, str]], columns: Mapping[str, Column], *, corner: str
) -> tuple[Table, ...]:
    """Figures with their rows and columns, by source (the fullest first) and model; the best of a model is marked."""
    sources: dict[str, dict[str, dict[str, dict[str, PublishedScore]]]] = {}
    for figure, row, column in figures:
        models = sources.setdefault(figure.source, {})
        models.setdefault(figure.model, {}).setdefault(row, {})[column] = figure
    counts = Counter(figure.source for figure, _, _ in figures)
    return tuple(
        Table(
            caption=source,
            corner=corner,
            columns=tuple(columns.values()),
            groups=tuple(
                Group("Encoder-only" if model == "BERT" else model, _published_rows(rows, tuple(columns)))
                for model, rows in sources[source].items()
            ),
            best_of="its model's column",
        )
        for source, _ in counts.most_common()
    )


def _published_rows(systems: Mapping[str, Mapping[str, PublishedScore]], keys: Sequence[str]) -> tuple[Row, ...]:
    """The rows of one model; figures of which two sources differ show both."""
    names = list(systems)
    columns = []
    for key in keys:
        found = [systems[name].get(key) for name in names]
        marked = _marked([_Value(figure.score) if figure else None for figure in found], names)
        columns.append(
            [
                Cell(published_text(figure), cell.mark) if figure else NOTHING
                for figure, cell in zip(found, marked, strict=True)
            ]
        )
    return tuple(Row(name, cells) for name, cells in zip(names, zip(*columns, strict=True), strict=True))


def ablation_table(report: ReportContent, found: Sequence[Ablation]) -> Table | None:
    """The paper's Table 5: training by pooling, for each base model; None where no base model has variants."""
    if not found:
        return None
    shown = {pooling for ablation in found for row in ablation.rows for pooling in row.averages}
    poolings = [pooling for pooling in dict.fromkeys(POOLING_NAMES.values()) if pooling in shown]
    tied = ties(report)
    groups = []
    for ablation in found:
        places = [(row, pooling) for row in ablation.rows for pooling in poolings]
        averages = [row.averages.get(pooling) for row, pooling in places]
        cells = _marked(
            [_Value(average.score, interval_notes(average)) if average else None for average in averages],
            [average.system if average else "" for average in averages],
            scope=ALL_SCOPE,
            tied=tied,
        )
        width = len(poolings)
        rows = tuple(
            Row(row.training, cells[position * width : (position + 1) * width], note=row.system)
            for position, row in enumerate(ablation.rows)
        )
        groups.append(Group(ablation.base_model, rows))
    count = num_tasks(report, ALL_SCOPE)
    return Table(
        caption=f"Average main score over {count} tasks, by training and pooling",
        corner="Training",
        columns=tuple(Column(pooling) for pooling in poolings),
        groups=tuple(groups),
        best_of="its base model",
    )


# --- tasks by systems ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """What stands for one task, or one mean, across the systems: a row, or a column where systems are many."""

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    kind: Kind = ""


def task_tables(
    report: ReportContent,
    tasks: Mapping[EvalTaskType, Mapping[str, TaskScore]],
    *,
    scope: str,
    published: Sequence[PublishedScore],
) -> tuple[Table, ...]:
    """Main score of each task and system, with the averages that the report gives.

    Args:
        report: Scores and averages.
        tasks: The tasks by category.
        scope: Scope of the average over all of them: ``all`` or ``word``.
        published: Figures to set beside measured ones, where task, model and row are the same.
    """
    groups = [
        ("" if category == WORD_TASK_TYPE else str(category), _score_lines(report, found, published))
        for category, found in tasks.items()
    ]
    for category, lines in groups:
        count = num_tasks(report, category)
        if count > 1 and len(groups) > 1:
            lines.append(_Line(f"Average of {count}", _average_cells(report, category), kind="average"))
    count = num_tasks(report, scope)
    if count > 1:
        groups.append(("", [_Line(f"Average of {count} tasks", _average_cells(report, scope), kind="total")]))
    return _oriented("Main score of each task", groups, report.systems, best=True)


def _score_lines(
    report: ReportContent, tasks: Mapping[str, TaskScore], published: Sequence[PublishedScore]
) -> list[_Line]:
    names = [system.name for system in report.systems]
    by_system = scores_by_task(report.systems)
    tied = ties(report)
    lines = []
    for key, task in tasks.items():
        values = [
            _Value(score.main_score, interval_notes(score) + _published_notes(system, score, published))
            if score
            else None
            for system, score in zip(report.systems, (scores.get(key) for scores in by_system), strict=True)
        ]
        lines.append(_Line(task.task, _marked(values, names, scope=task.task, tied=tied), note=task.main_score_name))
    return lines


def _published_notes(system: SystemReport, score: TaskScore, published: Sequence[PublishedScore]) -> tuple[str, ...]:
    """The figure that was published for the same task, model and training, if there is one."""
    if not score.is_official or system.traits is None or system.mode != "dense":
        return ()
    model = canonical_model(system.traits.base_model)
    rows = {*row_of(system.traits), model}
    found = [one for one in published if (one.model, one.scope) == (model, score.task) and one.system in rows]
    return (f"published {published_text(found[0])}",) if found else ()


def _oriented(
    caption: str, groups: Sequence[tuple[str, Sequence[_Line]]], systems: Sequence[SystemReport], *, best: bool
) -> tuple[Table, ...]:
    """Tasks as rows where systems are few; systems as rows, in as many tables as it takes, where they are many."""
    if len(systems) <= MAX_SYSTEM_COLUMNS:
        rows = tuple(
            Group(title, tuple(Row(line.name, line.cells, line.note, line.kind) for line in lines))
            for title, lines in groups
        )
        columns = tuple(Column(system.name) for system in systems)
        return (Table(caption, "Task", columns, rows, "its row" if best else ""),)
    sheets = _sheets(groups)
    return tuple(
        Table(
            caption=caption + (f", part {number} of {len(sheets)}" if len(sheets) > 1 else ""),
            corner="System",
            columns=tuple(
                Column(line.name, line.note, group=SHORT_NAMES.get(title, title), kind=line.kind)
                for title, line in sheet
            ),
            groups=(
                Group(
                    "",
                    tuple(
                        Row(system.name, tuple(line.cells[position] for _, line in sheet))
                        for position, system in enumerate(systems)
                    ),
                ),
            ),
            best_of="its column" if best else "",
        )
        for number, sheet in enumerate(sheets, start=1)
    )


def _sheets(groups: Sequence[tuple[str, Sequence[_Line]]]) -> list[list[tuple[str, _Line]]]:
    """Lines with the titles of their groups, in tables of bounded size; a group is cut if it is too large alone."""
    sheets: list[list[tuple[str, _Line]]] = []
    for title, lines in groups:
        num_parts = math.ceil(len(lines) / MAX_TASK_COLUMNS)
        bounds = [round(part * len(lines) / num_parts) for part in range(num_parts + 1)]
        for low, high in itertools.pairwise(bounds):
            if not sheets or len(sheets[-1]) + high - low > MAX_TASK_COLUMNS:
                sheets.append([])
            sheets[-1] += [(title, line) for line in lines[low:high]]
    return sheets


# --- differences ---------------------------------------------------------------------------------------------------


def difference_table(report: ReportContent) -> Table | None:
    """Points between each pair of systems, by category; None where nothing was tested.

    A pair is named so that its difference over all tasks (or in its first category) is not negative.
    """
    by_scope = comparisons_by_scope(report)
    scopes = [scope for scope in (*EVAL_TASK_TYPES, ALL_SCOPE, WORD_SCOPE) if scope in by_scope]
    if not scopes:
        return None
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    for scope in sorted(scopes, key=lambda scope: scope != ALL_SCOPE):
        for one in by_scope[scope]:
            pairs.setdefault(frozenset((one.better, one.worse)), (one.better, one.worse))
    found = {(scope, frozenset((one.better, one.worse))): one for scope in scopes for one in by_scope[scope]}
    rows = tuple(
        Row(
            f"{first} − {second}",
            tuple(_difference_cell(found.get((scope, pair)), first) for scope in scopes),
        )
        for pair, (first, second) in pairs.items()
    )
    return Table(
        caption="Points between two systems, first minus second",
        corner="Pair",
        columns=tuple(Column("All" if scope == ALL_SCOPE else SHORT_NAMES[scope]) for scope in scopes),
        groups=(Group("", rows),),
    )


def _difference_cell(comparison: Comparison | None, first: str) -> Cell:
    """Signed points with their interval, marked where more than chance."""
    if comparison is None:
        return NOTHING
    difference, low, high = comparison.difference, comparison.ci_low, comparison.ci_high
    if comparison.better != first:
        difference, low, high = -difference, -high, -low
    mark: Mark = "real" if comparison.is_significant else ""
    return Cell(_signed(difference), mark, (f"{_signed(low)} to {_signed(high)}",))


def _signed(value: float) -> str:
    """One decimal with its sign; a minus as wide as the plus."""
    printed = f"{value:+.1f}"
    return "0.0" if printed in ("+0.0", "-0.0") else printed.replace("-", "−")


def comparison_table(report: ReportContent) -> Table | None:
    """Every comparison but those over all tasks, scope by scope; with very many pairs those with the best system.

    Returns:
        None where there are none.
    """
    by_scope = {scope: found for scope, found in comparisons_by_scope(report).items() if scope != ALL_SCOPE}
    if not by_scope:
        return None
    groups = []
    for scope, found in by_scope.items():
        if len(found) > MAX_PAIRS_LISTED:
            wins = [one.better for one in found]
            best = max(dict.fromkeys(wins), key=wins.count)
            found = [one for one in found if best in (one.better, one.worse)]
        title = _WORDS_TITLE if scope == WORD_SCOPE else scope
        groups.append(Group(title, tuple(_comparison_row(one) for one in found)))
    heads = ("Points", "95 % interval", "p", "Would show")
    return Table("Comparisons by category and task", "Pair", tuple(Column(head) for head in heads), tuple(groups))


def _comparison_row(one: Comparison) -> Row:
    p_value = "< 0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"
    return Row(
        f"{one.better} − {one.worse}",
        (
            Cell(_signed(one.difference), "real" if one.is_significant else ""),
            Cell(f"{_signed(one.ci_low)} to {_signed(one.ci_high)}"),
            Cell(p_value),
            Cell(f"{one.smallest_difference:.1f}"),
        ),
    )


# --- cost and provenance -------------------------------------------------------------------------------------------


def time_tables(report: ReportContent) -> tuple[Table, ...]:
    """Seconds, tokens and tokens per second of each task and system."""
    by_system = scores_by_task(report.systems)
    groups = []
    for category, tasks in tasks_by_category(report).items():
        lines = [
            _Line(task.task, tuple(_time_cell([scores[key]]) if key in scores else NOTHING for scores in by_system))
            for key, task in tasks.items()
        ]
        groups.append((_WORDS_TITLE if category == WORD_TASK_TYPE else str(category), lines))
    if groups:
        groups.append(
            ("", [_Line("Total", tuple(_time_cell(system.scores) for system in report.systems), kind="total")])
        )
    return _oriented("Seconds of each task, encoding included", groups, report.systems, best=False) if groups else ()


_WORDS_TITLE = "Word-level"


def _time_cell(scores: Sequence[TaskScore]) -> Cell:
    """Wall time; below it the tokens encoded, and how fast."""
    if not scores:
        return NOTHING
    tokens = sum(score.num_tokens for score in scores)
    seconds = sum(score.encode_seconds for score in scores)
    printed = f"{tokens:,}" if tokens < 10_000_000 else f"{tokens / 1e6:,.1f}M"
    notes = [f"{printed} tokens"] if tokens else []
    if tokens and seconds:
        notes.append(f"{tokens / seconds:,.0f} tokens/s")
    return Cell(f"{sum(score.seconds for score in scores):,.1f}", notes=tuple(notes))


def training_table(report: ReportContent) -> Table:
    """Each stage of the training, from its first to its last loss."""
    heads = ("Steps", "First loss", "Last loss", "Tokens", "Tokens/s")
    rows = tuple(
        Row(
            curve.stage,
            (
                Cell(f"{curve.num_steps:,}"),
                Cell(f"{curve.losses[0]:.3f}") if curve.losses else NOTHING,
                Cell(f"{curve.losses[-1]:.3f}") if curve.losses else NOTHING,
                Cell(f"{curve.tokens:,}"),
                Cell(f"{curve.tokens_per_s:,.0f}"),
            ),
        )
        for curve in report.training
    )
    return Table("Training, stage by stage", "Stage", tuple(Column(head) for head in heads), (Group("", rows),))


def system_table(report: ReportContent) -> Table:
    """What each system is."""
    rows = tuple(
        Row(system.name, (Cell(system.mode), Cell(system.description), Cell(system.fingerprint)))
        for system in report.systems
    )
    columns = (Column("Mode", is_text=True), Column("What it is", is_text=True), Column("Fingerprint", is_text=True))
    return Table("What was compared", "System", columns, (Group("", rows),))


def content_table(report: ReportContent) -> Table | None:
    """What each task holds; None without tasks."""
    rows = tuple(
        Row(task.task, (Cell(category), Cell(f"{task.num_items:,}"), Cell(task.content_sha256)))
        for category, tasks in tasks_by_category(report).items()
        for task in tasks.values()
    )
    columns = (Column("Category", is_text=True), Column("Items"), Column("Content (SHA-256)", is_text=True))
    return Table("What it was compared on", "Task", columns, (Group("", rows),)) if rows else None

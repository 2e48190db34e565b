"""The tables of a report: their cells and marked values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from llm2vec_core.evaluation.metrics import RANKING_METRICS
from llm2vec_core.evaluation.published import SUBSET_15, canonical_model, row_of
from llm2vec_core.evaluation.report.content import ReportContent
from llm2vec_core.evaluation.report.standings import (
    MAX_PAIRS_LISTED,
    POOLING_NAMES,
    Ablation,
    averages_of,
    category_scopes,
    comparisons_by_scope,
    num_tasks,
    scope_title,
    scores_by_task,
    system_groups,
    tasks_by_category,
    ties,
)
from llm2vec_core.evaluation.results import (
    ALL_SCOPE,
    WORD_SCOPE,
    Average,
    Comparison,
    Headline,
    PublishedScore,
    SliceScore,
    SystemReport,
    TaskScore,
    WorstQuery,
    metric_scope,
)
from llm2vec_core.evaluation.tasks.types import EVAL_TASK_TYPES, MTEB_TASK_TYPES, WORD_TASK_TYPE, EvalTaskType
from llm2vec_core.pages import NOTHING, Cell, CellMark, Column, Group, Table, TableRow

MAX_SYSTEM_COLUMNS = 8
"""With more systems than this, systems are rows and tasks are columns, so that the table fits a page."""

MAX_TASK_COLUMNS = 16
"""Maximum number of tasks per table if tasks are columns."""


# --- cells ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """A number that becomes a cell; ``notes`` are its small lines."""

    number: float
    notes: tuple[str, ...] = ()


def number(value: float) -> str:
    """A score as printed."""
    return f"{value:.2f}"


def _interval(low: float | None, high: float | None) -> tuple[str, ...]:
    """A 95 % interval as a small line; no line if the interval is unknown."""
    return () if low is None or high is None else (f"{low:.1f} to {high:.1f}",)


def _values(found: Iterable[Average | SliceScore | None]) -> list[_Value | None]:
    return [_Value(one.score, _interval(one.ci_low, one.ci_high)) if one else None for one in found]


def _marked(
    values: Sequence[_Value | None],
    systems: Sequence[str],
    *,
    scope: str = "",
    tied: frozenset[tuple[str, str, str]] = frozenset(),
) -> tuple[Cell, ...]:
    """Values of systems as cells; marks the best, and those without a significant difference to the best.

    Values that print alike count as equal. Nothing is marked if only one system has a value.
    """
    there = [(name, value.number) for name, value in zip(systems, values, strict=True) if value is not None]
    best, highest = max(there, key=lambda pair: pair[1], default=("", 0.0))

    def mark(name: str, value: _Value) -> CellMark:
        if len(there) < 2:
            return ""
        if number(value.number) == number(highest):
            return "best"
        return "tied" if (scope, name, best) in tied else ""

    return tuple(
        NOTHING if value is None else Cell(number(value.number), mark(name, value), value.notes)
        for name, value in zip(systems, values, strict=True)
    )


def _signed(value: float) -> str:
    """One decimal with its sign, using the true minus character."""
    printed = f"{value:+.1f}"
    return "0.0" if printed in ("+0.0", "-0.0") else printed.replace("-", "−")


def _columns(*names: str, is_text: bool = False) -> tuple[Column, ...]:
    return tuple(Column(name, is_text=is_text) for name in names)


def _one_group(
    caption: str, corner: str, columns: Sequence[Column], rows: Iterable[TableRow], best_of: str = ""
) -> Table:
    return Table(caption, corner, tuple(columns), (Group("", tuple(rows)),), best_of)


def _transposed(names: Sequence[str], columns: Iterable[Sequence[Cell]]) -> tuple[TableRow, ...]:
    """Columns of cells as rows with names."""
    return tuple(TableRow(name, cells) for name, cells in zip(names, zip(*columns, strict=True), strict=True))


# --- one row per system --------------------------------------------------------------------------------------------


def _headline_scores(report: ReportContent, headline: Headline) -> list[tuple[str, TaskScore]]:
    return [(system.name, score) for system in report.systems for score in system.scores if score.task == headline.task]


def headline_title(report: ReportContent, headline: Headline) -> str:
    """Title of the section of a headline task that was scored."""
    return headline.with_count(headline.title, _headline_scores(report, headline)[0][1].num_items)


def headline_table(report: ReportContent, headline: Headline) -> Table | None:
    """The poster's Table 1: one row per system, one column per metric; None if the task was not scored."""
    scored = _headline_scores(report, headline)
    if not scored:
        return None
    names, tied, columns = [name for name, _ in scored], ties(report), []
    for metric in RANKING_METRICS.values():
        values = [
            _Value(score.metrics[metric], _interval(*score.intervals.get(metric, (None, None))))
            if metric in score.metrics
            else None
            for _, score in scored
        ]
        is_main = all(score.main_score_name == metric for _, score in scored)
        scope = headline.task if is_main else metric_scope(headline.task, metric)
        columns.append(_marked(values, names, scope=scope, tied=tied))
    not_run = (Cell("not run"), *(NOTHING,) * (len(columns) - 1))
    rows = (*_transposed(names, columns), *(TableRow(name, not_run) for name in report.not_run))
    caption = headline.with_count(headline.caption, scored[0][1].num_items)
    return _one_group(caption, "System", _columns(*RANKING_METRICS), rows, "its column")


def slice_tables(report: ReportContent, task: str) -> tuple[Table, ...]:
    """Main score of each system on each group of queries of a retrieval task; empty without groups."""
    found = {(one.name, one.value, one.system): one for one in report.slices if one.task == task}
    groups: dict[str, list[TableRow]] = {}
    names = [system.name for system in report.systems]
    for name, value in dict.fromkeys((name, value) for name, value, _ in found):
        scores = [found.get((name, value, system)) for system in names]
        num_queries = next(one.num_queries for one in scores if one)
        note = f"{num_queries} {'query' if num_queries == 1 else 'queries'}"
        groups.setdefault(name, []).append(TableRow(value, _marked(_values(scores), names), note))
    titled = [(name.capitalize(), rows) for name, rows in groups.items()]
    return _oriented("Main score of each group of queries", titled, report.systems, best=True)


def worst_table(found: Sequence[WorstQuery]) -> Table:
    """Queries with low scores of a system: the query, the first document, and the relevant documents."""
    rows = []
    for one in found:
        other = one.best_other_score
        best_other = NOTHING if other is None else Cell(number(other), notes=(str(one.best_other),))
        first = Cell(one.first or "nothing", notes=(f"judged {one.first_relevance}",))
        relevant = Cell(one.relevant[0], notes=one.relevant[1:]) if one.relevant else NOTHING
        rows.append(TableRow(one.query, (Cell(number(one.score)), best_other, Cell(one.text), first, relevant)))
    columns = (*_columns("Score", "Best other"), *_columns("Asked", "Ranked first", "Relevant", is_text=True))
    return _one_group(f"The {len(found)} queries on which {found[0].system} is worst", "Query", columns, rows)


def category_table(report: ReportContent) -> Table | None:
    """The paper's Table 1: one row per system, one column per category; None without averages of a category."""
    scopes = category_scopes(report)
    if not scopes:
        return None
    if num_tasks(report, ALL_SCOPE):
        scopes = (*scopes, ALL_SCOPE)
    names = [system.name for system in report.systems]
    rows = {row.name: row for row in _transposed(names, [_average_cells(report, scope) for scope in scopes])}
    return Table(
        caption="Average main score of each category",
        corner="Category, data sets",
        columns=tuple(Column(scope_title(scope), str(num_tasks(report, scope))) for scope in scopes),
        groups=tuple(
            Group(title, tuple(rows[system.name] for system in systems)) for title, systems in system_groups(report)
        ),
        best_of="its column",
    )


def _average_cells(report: ReportContent, scope: str) -> tuple[Cell, ...]:
    """One cell per system."""
    averages, names = averages_of(report, scope), [system.name for system in report.systems]
    return _marked(_values(map(averages.get, names)), names, scope=scope, tied=ties(report))


def ablation_table(report: ReportContent, found: Sequence[Ablation]) -> Table | None:
    """The paper's Table 5: training by pooling, for each base model; None if no base model has variants."""
    if not found:
        return None
    shown = {pooling for ablation in found for row in ablation.rows for pooling in row.averages}
    poolings = [pooling for pooling in dict.fromkeys(POOLING_NAMES.values()) if pooling in shown]
    tied, groups = ties(report), []
    for ablation in found:
        averages = [row.averages.get(pooling) for row in ablation.rows for pooling in poolings]
        systems = [average.system if average else "" for average in averages]
        cells = iter(_marked(_values(averages), systems, scope=ALL_SCOPE, tied=tied))
        rows = [TableRow(row.training, tuple(next(cells) for _ in poolings), row.system) for row in ablation.rows]
        groups.append(Group(ablation.base_model, tuple(rows)))
    caption = f"Average main score over {num_tasks(report, ALL_SCOPE)} tasks, by training and pooling"
    return Table(caption, "Training", _columns(*poolings), tuple(groups), "its base model")


# --- published figures ---------------------------------------------------------------------------------------------

_MTEB_SIZES = dict(zip((*MTEB_TASK_TYPES, ALL_SCOPE), (15, 4, 11, 3, 12, 10, 1, 56), strict=True))
"""Data sets of MTEB by category, as in the head of the paper's Table 1."""


def published_text(figure: PublishedScore) -> str:
    """A published figure; both figures if two sources differ."""
    other = figure.other_score
    return number(figure.score) if other is None else f"{number(figure.score)} / {number(other)}"


def published_category_tables(published: Sequence[PublishedScore]) -> tuple[Table, ...]:
    """The paper's Table 1, and other sources in the same form: one table per source, one row per system."""
    columns = {scope: Column(scope_title(scope), str(size)) for scope, size in _MTEB_SIZES.items()}
    figures = [(one, one.system, one.scope) for one in published if one.scope in columns]
    return _published_tables(figures, columns, corner="Category, data sets")


def published_ablation_tables(published: Sequence[PublishedScore]) -> tuple[Table, ...]:
    """The paper's Table 5, and other sources in the same form: one row per training, one column per pooling."""
    figures = []
    for one in published:
        training, _, pooling = one.system.rpartition(", ")
        if one.scope == SUBSET_15 and training and pooling in POOLING_NAMES:
            figures.append((one, training, POOLING_NAMES[pooling]))
    return _published_tables(figures, {name: Column(name) for name in POOLING_NAMES.values()}, corner="Training")


def other_sources(published: Sequence[PublishedScore], tables: Sequence[Table]) -> list[str]:
    """Sources of the second of two figures in some tables."""
    shown = {table.caption for table in tables}
    return list(dict.fromkeys(one.other_source for one in published if one.other_source and one.source in shown))


def _published_tables(
    figures: Sequence[tuple[PublishedScore, str, str]], columns: Mapping[str, Column], *, corner: str
) -> tuple[Table, ...]:
    """Figures with their rows and columns, by source (most figures first) and model; marks the best of a model."""
    by_source: dict[str, list[tuple[PublishedScore, str, str]]] = {}
    for found in figures:
        by_source.setdefault(found[0].source, []).append(found)
    tables = []
    for source, all_found in sorted(by_source.items(), key=lambda pair: -len(pair[1])):
        groups = []
        for model in dict.fromkeys(figure.model for figure, _, _ in all_found):
            cells = {(row, column): figure for figure, row, column in all_found if figure.model == model}
            groups.append(Group("Encoder-only" if model == "BERT" else model, _published_rows(cells, tuple(columns))))
        tables.append(Table(source, corner, tuple(columns.values()), tuple(groups), "its model's column"))
    return tuple(tables)


def _published_rows(cells: Mapping[tuple[str, str], PublishedScore], columns: Sequence[str]) -> tuple[TableRow, ...]:
    """The rows of one model, from its figures by row and column."""
    names = list(dict.fromkeys(row for row, _ in cells))
    printed = []
    for column in columns:
        found = [cells.get((name, column)) for name in names]
        marked = _marked([_Value(figure.score) if figure else None for figure in found], names)
        pairs = zip(found, marked, strict=True)
        printed.append([replace(cell, text=published_text(figure)) if figure else cell for figure, cell in pairs])
    return _transposed(names, printed)


# --- tasks by systems ----------------------------------------------------------------------------------------------

_WORDS_TITLE = "Word-level"


def task_tables(
    report: ReportContent,
    tasks: Mapping[EvalTaskType, Mapping[str, TaskScore]],
    *,
    scope: str,
    published: Sequence[PublishedScore],
) -> tuple[Table, ...]:
    """Main score of each task and system, with the averages in the report.

    Args:
        report: Scores and averages.
        tasks: The tasks by category.
        scope: Scope of the average over all of them: ``all`` or ``word``.
        published: Figures to print below measured ones of the same task, model and row.
    """
    groups = [
        ("" if category == WORD_TASK_TYPE else str(category), _score_rows(report, found, published))
        for category, found in tasks.items()
    ]
    for category, rows in groups:
        count = num_tasks(report, category)
        if count > 1 and len(groups) > 1:
            rows.append(TableRow(f"Average of {count}", _average_cells(report, category), kind="average"))
    count = num_tasks(report, scope)
    if count > 1:
        groups.append(("", [TableRow(f"Average of {count} tasks", _average_cells(report, scope), kind="total")]))
    return _oriented("Main score of each task", groups, report.systems, best=True)


def _score_rows(
    report: ReportContent, tasks: Mapping[str, TaskScore], published: Sequence[PublishedScore]
) -> list[TableRow]:
    names = [system.name for system in report.systems]
    by_system = list(zip(report.systems, scores_by_task(report.systems), strict=True))
    tied, rows = ties(report), []
    for key, task in tasks.items():
        values: list[_Value | None] = []
        for system, scores in by_system:
            values.append(_score_value(system, scores[key], published) if key in scores else None)
        rows.append(TableRow(task.task, _marked(values, names, scope=task.task, tied=tied), task.main_score_name))
    return rows


def _score_value(system: SystemReport, score: TaskScore, published: Sequence[PublishedScore]) -> _Value:
    notes = _interval(score.ci_low, score.ci_high) + _published_notes(system, score, published)
    return _Value(score.main_score, notes)


def _published_notes(system: SystemReport, score: TaskScore, published: Sequence[PublishedScore]) -> tuple[str, ...]:
    """The published figure for the same task, model and training, if there is one."""
    if not score.is_official or system.traits is None or system.mode != "dense":
        return ()
    model = canonical_model(system.traits.base_model)
    rows = {*row_of(system.traits), model}
    found = [one for one in published if (one.model, one.scope) == (model, score.task) and one.system in rows]
    return (f"published {published_text(found[0])}",) if found else ()


def _oriented(
    caption: str, groups: Sequence[tuple[str, Sequence[TableRow]]], systems: Sequence[SystemReport], *, best: bool
) -> tuple[Table, ...]:
    """Tables of tasks by systems: tasks are rows if there are few systems, otherwise columns of several tables.

    Args:
        caption: Caption of the tables.
        groups: Titles with rows; each row has one cell per system.
        systems: The systems, in the order of the cells.
        best: Whether the best values are marked.
    """
    if not groups:
        return ()
    if len(systems) <= MAX_SYSTEM_COLUMNS:
        rows = tuple(Group(title, tuple(found)) for title, found in groups)
        return (Table(caption, "Task", _columns(*(one.name for one in systems)), rows, "its row" if best else ""),)
    sheets, tables = _sheets(groups), []
    for number_of_sheet, sheet in enumerate(sheets, start=1):
        part = f", part {number_of_sheet} of {len(sheets)}" if len(sheets) > 1 else ""
        columns = [Column(row.name, row.note, group=scope_title(title), kind=row.kind) for title, row in sheet]
        turned = _transposed([one.name for one in systems], [row.cells for _, row in sheet])
        tables.append(_one_group(caption + part, "System", columns, turned, "its column" if best else ""))
    return tuple(tables)


def _sheets(groups: Sequence[tuple[str, Sequence[TableRow]]]) -> list[list[tuple[str, TableRow]]]:
    """Rows with the titles of their groups, in parts of bounded size; only a group that is too large alone is split."""
    sheets: list[list[tuple[str, TableRow]]] = []
    for title, rows in groups:
        num_parts = math.ceil(len(rows) / MAX_TASK_COLUMNS)
        bounds = [round(part * len(rows) / num_parts) for part in range(num_parts + 1)]
        for low, high in itertools.pairwise(bounds):
            if not sheets or len(sheets[-1]) + high - low > MAX_TASK_COLUMNS:
                sheets.append([])
            sheets[-1] += [(title, row) for row in rows[low:high]]
    return sheets


# --- differences ---------------------------------------------------------------------------------------------------


def difference_table(report: ReportContent) -> Table | None:
    """Points between each pair of systems, by category; None if nothing was tested.

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
    rows = [
        TableRow(f"{first} − {second}", tuple(_difference_cell(found.get((scope, pair)), first) for scope in scopes))
        for pair, (first, second) in pairs.items()
    ]
    columns = _columns(*("All" if scope == ALL_SCOPE else scope_title(scope) for scope in scopes))
    return _one_group("Points between two systems, first minus second", "Pair", columns, rows)


def _difference_cell(comparison: Comparison | None, first: str) -> Cell:
    """Signed points with their interval; marked if they are significant."""
    if comparison is None:
        return NOTHING
    difference, low, high = comparison.difference, comparison.ci_low, comparison.ci_high
    if comparison.better != first:
        difference, low, high = -difference, -high, -low
    mark: CellMark = "real" if comparison.is_significant else ""
    return Cell(_signed(difference), mark, (f"{_signed(low)} to {_signed(high)}",))


def comparison_table(report: ReportContent) -> Table | None:
    """Every comparison except those over all tasks, by scope; with many pairs, only those with the best system.

    Returns:
        None if there are none.
    """
    by_scope = {scope: found for scope, found in comparisons_by_scope(report).items() if scope != ALL_SCOPE}
    groups = []
    for scope, found in by_scope.items():
        if len(found) > MAX_PAIRS_LISTED:
            wins = [one.better for one in found]
            best = max(dict.fromkeys(wins), key=wins.count)
            found = [one for one in found if best in (one.better, one.worse)]
        title = _WORDS_TITLE if scope == WORD_SCOPE else scope
        groups.append(Group(title, tuple(_comparison_row(one) for one in found)))
    columns = _columns("Points", "95 % interval", "p", "Would show")
    return Table("Comparisons by category and task", "Pair", columns, tuple(groups)) if groups else None


def _comparison_row(one: Comparison) -> TableRow:
    p_value = "< 0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"
    points = Cell(_signed(one.difference), "real" if one.is_significant else "")
    others = (f"{_signed(one.ci_low)} to {_signed(one.ci_high)}", p_value, f"{one.smallest_difference:.1f}")
    return TableRow(f"{one.better} − {one.worse}", (points, *map(Cell, others)))


# --- cost and provenance -------------------------------------------------------------------------------------------


def time_tables(report: ReportContent) -> tuple[Table, ...]:
    """Seconds, tokens and tokens per second of each task and system."""
    by_system = scores_by_task(report.systems)
    groups = []
    for category, tasks in tasks_by_category(report).items():
        rows = [
            TableRow(task.task, tuple(_time_cell([scores[key]]) if key in scores else NOTHING for scores in by_system))
            for key, task in tasks.items()
        ]
        groups.append((_WORDS_TITLE if category == WORD_TASK_TYPE else str(category), rows))
    if groups:
        total = tuple(_time_cell(system.scores) for system in report.systems)
        groups.append(("", [TableRow("Total", total, kind="total")]))
    return _oriented("Seconds of each task, encoding included", groups, report.systems, best=False)


def _time_cell(scores: Sequence[TaskScore]) -> Cell:
    """Wall time; below it the number of encoded tokens and the tokens per second."""
    if not scores:
        return NOTHING
    tokens = sum(score.num_tokens for score in scores)
    seconds = sum(score.encode_seconds for score in scores)
    printed = f"{tokens:,}" if tokens < 10_000_000 else f"{tokens / 1e6:,.1f}M"
    notes = [f"{printed} tokens"] if tokens else []
    if tokens and seconds:
        notes.append(f"{tokens / seconds:,.0f} tokens/s")
    return Cell(f"{sum(score.seconds for score in scores):,.1f}", notes=tuple(notes))


def fit_table(report: ReportContent) -> Table:
    """Each rate that the limits of fit state, and the rate on held-back jobs with its interval."""
    rows = [
        TableRow(
            rate.name,
            (
                Cell(f"{rate.stated:.1%}"),
                Cell(f"{rate.found:.1%}"),
                Cell(f"{rate.low:.1%} to {rate.high:.1%}"),
                Cell(f"{rate.count:,}"),
            ),
        )
        for rate in report.fit
    ]
    columns = _columns("Stated", "Held-back", "95 % interval", "Pairs")
    return _one_group("Fit of the served encoder", "Rate", columns, rows)


def training_table(report: ReportContent) -> Table:
    """Each stage of the training, from its first to its last loss."""
    rows = []
    for curve in report.training:
        losses = [Cell(f"{curve.losses[at]:.3f}") if curve.losses else NOTHING for at in (0, -1)]
        speed = (Cell(f"{curve.tokens:,}"), Cell(f"{curve.tokens_per_s:,.0f}"))
        rows.append(TableRow(curve.stage, (Cell(f"{curve.num_steps:,}"), *losses, *speed)))
    columns = _columns("Steps", "First loss", "Last loss", "Tokens", "Tokens/s")
    return _one_group("Training, stage by stage", "Stage", columns, rows)


def system_table(report: ReportContent) -> Table:
    """Mode, description and fingerprint of each system."""
    rows = [
        TableRow(one.name, (Cell(one.mode), Cell(one.description), Cell(one.fingerprint))) for one in report.systems
    ]
    columns = _columns("Mode", "Description", "Fingerprint", is_text=True)
    return _one_group("Compared systems", "System", columns, rows)


def content_table(report: ReportContent) -> Table | None:
    """Category, number of items and content hash of each task; None without tasks."""
    rows = [
        TableRow(task.task, (Cell(category), Cell(f"{task.num_items:,}"), Cell(task.content_sha256)))
        for category, tasks in tasks_by_category(report).items()
        for task in tasks.values()
    ]
    columns = (Column("Category", is_text=True), Column("Items"), Column("Content (SHA-256)", is_text=True))
    return _one_group("Tasks of the comparison", "Task", columns, rows) if rows else None

"""What a report says around its tables and plots, and in which order.

Belongs here: words and order, the same for every form of the page. Does not belong here: values in cells (``tables``),
drawing (``plots``), looks (the templates).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from llm2vec_core.evaluation.report.blocks import Block, Folded, Meanings, Paragraph, PlotPlace, Points, Section, Table
from llm2vec_core.evaluation.report.content import ReportContent
from llm2vec_core.evaluation.report.standings import (
    ablations,
    averages_of,
    best_system,
    comparisons_by_scope,
    num_tasks,
    sentence_tasks,
    tasks_by_category,
    ties,
)
from llm2vec_core.evaluation.report.tables import (
    MAX_PAIRS_LISTED,
    ablation_table,
    category_table,
    comparison_table,
    content_table,
    difference_table,
    job_table,
    published_ablation_tables,
    published_category_tables,
    slice_tables,
    system_table,
    task_tables,
    time_tables,
    training_table,
    worst_table,
)
from llm2vec_core.evaluation.results import ALL_SCOPE, JOB_METRICS, JOB_TASK, WORD_SCOPE, PublishedScore
from llm2vec_core.evaluation.tasks.folders import WORD_TASK_TYPE

_NAMES_LISTED = 5
"""Systems up to which the lead names them all."""

_SENTENCES_SHOWN = 15
"""Comparisons over all tasks up to which every one is a sentence on the open page."""

_FOLDED_ROWS = 30
"""Pairs of systems above which the table of differences is folded."""


def lead(report: ReportContent) -> str:
    """What was compared, who is ahead and what was decided, in a few sentences."""
    sentences = [_compared(report), *_ahead(report)]
    if report.decision is None:
        sentences.append("Nothing was to be decided.")
    else:
        sentences.append(f"{report.decision.served} is served: {report.decision.reason.strip().rstrip('.')}.")
    return " ".join(sentences)


def _compared(report: ReportContent) -> str:
    names = [system.name for system in report.systems]
    count = sum(len(tasks) for tasks in tasks_by_category(report).values())
    tasks = "1 task" if count == 1 else f"{count} tasks"
    if len(names) == 1:
        return f"{names[0]} was scored on {tasks}."
    listed = _listed(names) if 0 < len(names) <= _NAMES_LISTED else f"{len(names)} systems"
    return f"{listed} were compared on {tasks}."


def _listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _ahead(report: ReportContent) -> list[str]:
    """Who has the highest average over all tasks, and who might as well have it."""
    best = best_system(report, ALL_SCOPE)
    if best is None:
        return []
    averages = averages_of(report, ALL_SCOPE)
    undecided = ties(report)
    equals = [name for name in averages if (ALL_SCOPE, name, best) in undecided]
    count = num_tasks(report, ALL_SCOPE)
    over = f"Over all {count} sentence-level tasks" if count > 1 else "On the one sentence-level task"
    sentence = f"{over}, {best} is ahead with {averages[best].score:.2f}"
    if not equals:
        return [f"{sentence}."]
    others = _listed(equals) if len(equals) <= _NAMES_LISTED else f"{len(equals)} others"
    return [f"{sentence}, but this evaluation can't tell {others} from it."]


def sections(
    report: ReportContent, *, plots: Collection[str], published: Sequence[PublishedScore]
) -> tuple[Section, ...]:
    """The sections there is something to say in, in the order of the page.

    Args:
        report: What to say.
        plots: Names of the plots there are; each stands in the section that it belongs to.
        published: Figures that others published.
    """

    def drawn(*prefixes: str) -> tuple[PlotPlace, ...]:
        return tuple(PlotPlace(name) for prefix in prefixes for name in plots if name.startswith(prefix))

    return tuple(
        section
        for section in (
            _jobs(report),
            _section("By category", _categories(report, drawn("radar"), published)),
            _section("Attention, training and pooling", _ablation(report, drawn("ablation"), published)),
            _section("All tasks", _all_tasks(report, drawn("main_scores", "heat_map"), published)),
            _section("Word-level tasks", _words(report, published)),
            _section("Which differences are real", _differences(report)),
            _section("Query by query", (*drawn("distributions"), *_other_queries(report))),
            _section("Training", (training_table(report), *drawn("training_loss")) if report.training else ()),
            _section("Time", _time(report)),
            _section("Notes", tuple(map(Paragraph, report.notes))),
            _section("How to read this", _how_to_read(report)),
            _section("Where the figures come from", _provenance(report)),
        )
        if section is not None
    )


def _section(title: str, blocks: Sequence[Block | Folded]) -> Section | None:
    """A section, unless it would be empty."""
    return Section(title, tuple(blocks)) if blocks else None


def _jobs(report: ReportContent) -> Section | None:
    table = job_table(report)
    if table is None:
        return None
    items = next(score.num_items for system in report.systems for score in system.scores if score.task == JOB_TASK)
    reasons = [Paragraph(f"{name} was not run. {reason}", is_small=True) for name, reason in report.not_run.items()]
    scale = Paragraph("0 to 100, higher is better. Small below a score: its 95 % interval.", is_small=True)
    return Section(f"{items} job descriptions", (table, scale, *reasons, *_by_query(report, JOB_TASK)))


def _other_queries(report: ReportContent) -> tuple[Folded, ...]:
    """Kinds of queries and worst queries of all tasks but that of the job descriptions."""
    tasks = dict.fromkeys([one.task for one in report.slices] + [one.task for one in report.worst])
    others = [task for task in tasks if task != JOB_TASK]
    return tuple(folded for task in others for folded in _by_query(report, task, title=f"{task}: "))


def _by_query(report: ReportContent, task: str, *, title: str = "") -> tuple[Folded, ...]:
    """How kinds of queries score, and the worst queries with their texts."""
    slices = slice_tables(report, task)
    worst = [one for one in report.worst if one.task == task]
    explained = Paragraph(
        "Kinds with few queries have wide intervals: a difference between two of them is rarely a finding.",
        is_small=True,
    )
    meant = Paragraph(
        "Best other: the highest score that any other system has for the query. Small below a document that was "
        "ranked first: its judgment, 0 being none. Relevant: documents of the highest judgments.",
        is_small=True,
    )
    found = []
    if slices:
        found.append(Folded(f"{title}Kinds of queries", (*slices, explained)))
    if worst:
        found.append(Folded(f"{title}The {len(worst)} worst queries", (worst_table(worst), meant)))
    return tuple(found)


def _categories(
    report: ReportContent, plots: Sequence[PlotPlace], published: Sequence[PublishedScore]
) -> tuple[Block | Folded, ...]:
    table = category_table(report)
    if table is None:
        return ()
    explained = Paragraph(
        "Small below a head: the number of data sets behind the column. Small below an average: its 95 % interval. An "
        "average is given only to systems that did all of its tasks, since others would not compare; a dash: not all "
        "were done.",
        is_small=True,
    )
    words = (
        "Published figures are averages over the 56 English data sets of MTEB. They compare only with a run of that "
        "benchmark, not with averages over other tasks above."
    )
    return (table, explained, *_folded(words, published_category_tables(published), published), *plots)


def _folded(words: str, tables: Sequence[Table], published: Sequence[PublishedScore]) -> tuple[Folded, ...]:
    """Published tables with what to bear in mind; nothing where there are none."""
    if not tables:
        return ()
    return (Folded("The same table as published", (Paragraph(words), *tables, *_other_sources(published, tables))),)


def _other_sources(published: Sequence[PublishedScore], tables: Sequence[Table]) -> tuple[Paragraph, ...]:
    """Which source the second of two figures comes from."""
    shown = {table.caption for table in tables}
    others = dict.fromkeys(one.other_source for one in published if one.other_source and one.source in shown)
    if not others:
        return ()
    return (Paragraph(f"Where two figures stand, the second is from: {'; '.join(others)}.", is_small=True),)


def _ablation(
    report: ReportContent, plots: Sequence[PlotPlace], published: Sequence[PublishedScore]
) -> tuple[Block | Folded, ...]:
    table = ablation_table(report, ablations(report))
    if table is None:
        return ()
    explained = Paragraph(
        "Uni: each token sees those before it; Bi: all of them. MNTP: masked next token prediction. SimCSE: "
        "unsupervised contrastive training. Columns: how hidden states become one vector.",
        is_small=True,
    )
    words = "Published figures are averages over the paper's subset of 15 data sets and compare only with a run of it."
    return (table, explained, *plots, *_folded(words, published_ablation_tables(published), published))


def _all_tasks(
    report: ReportContent, plots: Sequence[PlotPlace], published: Sequence[PublishedScore]
) -> tuple[Block, ...]:
    tasks = sentence_tasks(report)
    if not tasks:
        return ()
    explained = Paragraph(
        "0 to 100, higher is better. Small below a score: its 95 % interval, and the published figure where there is "
        "one for the same task and model. A dash: not scored. An average is given only to systems that did all of its "
        "tasks, since others would not compare.",
        is_small=True,
    )
    return (*task_tables(report, tasks, scope=ALL_SCOPE, published=published), explained, *plots)


def _words(report: ReportContent, published: Sequence[PublishedScore]) -> tuple[Block, ...]:
    tasks = {category: found for category, found in tasks_by_category(report).items() if category == WORD_TASK_TYPE}
    if not tasks:
        return ()
    explained = Paragraph(
        "Each word is labelled from its hidden states alone, by a linear classifier trained on them while the encoder "
        "stays as it is. These tasks count neither into the categories nor into the average over all tasks.",
        is_small=True,
    )
    return (*task_tables(report, tasks, scope=WORD_SCOPE, published=published), explained)


def _differences(report: ReportContent) -> tuple[Block | Folded, ...]:
    by_scope = comparisons_by_scope(report)
    if not by_scope:
        return ()
    blocks: list[Block | Folded] = [
        Paragraph(
            "Tested with a paired bootstrap over the items of each task (2,000 resamples): both systems are scored on "
            "the same draws. The p-values are Holm-corrected within each scope over all pairs of systems, and a "
            "difference is called real where the corrected p-value is below 0.05."
        )
    ]
    overall = by_scope.get(ALL_SCOPE, [])
    best = best_system(report, ALL_SCOPE)
    shown = overall if len(overall) <= _SENTENCES_SHOWN else [one for one in overall if best in (one.better, one.worse)]
    if shown:
        blocks.append(Points(tuple(one.sentence() for one in shown)))
    if hidden := tuple(one.sentence() for one in overall if one not in shown):
        blocks.append(Folded(f"The {len(hidden)} pairs without {best}, over all tasks", (Points(hidden),)))
    table = difference_table(report)
    if table is not None:
        num_pairs = sum(len(group.rows) for group in table.groups)
        explained = Paragraph(
            "Small below a difference: its 95 % interval. All: over all sentence-level tasks.", is_small=True
        )
        blocks += (
            [table, explained]
            if num_pairs <= _FOLDED_ROWS
            else [Folded(f"{num_pairs} pairs by category", (table, explained))]
        )
    every = comparison_table(report)
    if every is not None:
        words = "Would show: the difference that these items would show in four of five cases."
        if any(len(found) > MAX_PAIRS_LISTED for found in by_scope.values()):
            words += " Only pairs with the best system of each are listed; the record beside this page holds them all."
        blocks.append(Folded("Every comparison by category and task", (every, Paragraph(words, is_small=True))))
    return tuple(blocks)


def _time(report: ReportContent) -> tuple[Block, ...]:
    tables = time_tables(report)
    if not tables:
        return ()
    explained = Paragraph(
        "Wall time in seconds. Below it the tokens that were encoded for the task and the tokens per second of "
        "encoding; texts that another task had encoded before do not count, and a system that encodes nothing has no "
        "tokens.",
        is_small=True,
    )
    return (*tables, explained)


def _provenance(report: ReportContent) -> tuple[Block, ...]:
    contents = content_table(report)
    origin = Paragraph(
        "Scores of the seven categories by mteb, with its own protocol for each. Equal fingerprints give equal "
        "vectors; equal content hashes mean that the same texts and judgments were scored.",
        is_small=True,
    )
    systems = (system_table(report),) if report.systems else ()
    machine = " · ".join(f"{name}: {value}" for name, value in report.machine.items())
    return (
        *systems,
        *((contents,) if contents else ()),
        origin,
        *((Paragraph(machine, is_small=True),) if machine else ()),
    )


_METRIC_MEANINGS = {
    "ndcg_at_10": "How many relevant documents are among the first ten and how high they stand, against the best "
    "possible order.",
    "map_at_1000": "Mean average precision: precision at the rank of each relevant document, averaged; rewards "
    "finding all of them early.",
    "mrr_at_10": "One over the rank of the first relevant document among the first ten, averaged.",
    "precision_at_1": "Share of the queries whose first document is relevant.",
    "precision_at_10": "Share of the first ten documents that are relevant; with fewer than ten relevant documents "
    "it cannot reach 100.",
    "recall_at_50": "Share of the relevant documents that are among the first fifty.",
    "precision_at_5": "Share of the first five documents that are relevant; with fewer than five relevant documents "
    "it cannot reach 100.",
    "accuracy": "Share of texts that a logistic regression on the vectors labels rightly, learned from 8 texts a "
    "label, mean of ten draws.",
    "v_measure": "Agreement of clusters of the vectors with the true groups; 0: they say "
    "nothing about the groups, 100: they are the groups.",
    "cosine_spearman": "Rank correlation of the cosine of two vectors with human judgment; 0 is unrelated, below zero "
    "is the wrong way round.",
    "cosine_ap": "Average precision of the cosine as a sign that two texts mean the same.",
    "max_ap": "Average precision of closeness as a sign that two texts mean the same, with the best of mteb's "
    "distances.",
}

_WORD_METRIC_MEANINGS = {
    "accuracy": "Share of words that a linear classifier on their hidden states labels rightly.",
    "f1": "Harmonic mean of the share of found spans that are right and the share of true spans that are found; a span "
    "counts only if its bounds and its label are right.",
}


def _how_to_read(report: ReportContent) -> tuple[Block, ...]:
    by_category = tasks_by_category(report)
    used = [task.main_score_name for tasks in sentence_tasks(report).values() for task in tasks.values()]
    if any(task.task == JOB_TASK for tasks in by_category.values() for task in tasks.values()):
        used += JOB_METRICS.values()
    labels = {metric: label for label, metric in JOB_METRICS.items()}
    unknown = "As mteb defines it."
    meanings = [(labels.get(metric, metric), _METRIC_MEANINGS.get(metric, unknown)) for metric in dict.fromkeys(used)]
    words = dict.fromkeys(task.main_score_name for task in by_category.get(WORD_TASK_TYPE, {}).values())
    meanings += [(f"{metric}, word-level", _WORD_METRIC_MEANINGS.get(metric, unknown)) for metric in words]
    chance = Paragraph(
        "Small differences may be chance. A 95 % interval says where a score would fall on other items of the same "
        "kind; two intervals may overlap although the systems differ, since they were scored on the same items: the "
        "tests of the pairs decide that. Where no interval stands, treat a point or two on a small task as nothing."
    )
    return (chance, Meanings(tuple(meanings))) if meanings else (chance,)

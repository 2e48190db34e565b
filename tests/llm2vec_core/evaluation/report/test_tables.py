from collections.abc import Callable

import pytest

from llm2vec_core.evaluation.report import EvaluationReport
from llm2vec_core.evaluation.report.standings import ablations, sentence_tasks, system_groups, tasks_by_category
from llm2vec_core.evaluation.report.tables import (
    ablation_table,
    category_table,
    comparison_table,
    difference_table,
    headline_table,
    published_ablation_tables,
    published_category_tables,
    slice_tables,
    task_tables,
    time_tables,
    worst_table,
)
from llm2vec_core.evaluation.results import Average, PublishedScore
from llm2vec_core.pages import Cell, Table, TableRow

FIGURES = (
    PublishedScore(model="LLaMA-2-7B", system="Echo", scope="all", score=45.36, source="Table 1"),
    PublishedScore(
        model="LLaMA-2-7B",
        system="LLM2Vec",
        scope="all",
        score=55.36,
        source="Table 1",
        other_score=55.56,
        other_source="poster",
    ),
    PublishedScore(model="BERT", system="BERT", scope="STS", score=54.36, source="Table 1"),
    PublishedScore(model="LLaMA-2-7B", system="Bi + MNTP, mean", scope="subset-15", score=48.0, source="Table 5"),
    PublishedScore(model="LLaMA-2-7B", system="Uni, eos", scope="subset-15", score=33.23, source="Table 5"),
    PublishedScore(
        model="all-MiniLM-L6-v2", system="all-MiniLM-L6-v2", scope="STSBenchmark", score=82.03, source="MTEB"
    ),
)


def rows_of(*tables: Table | None) -> dict[str, TableRow]:
    return {row.name: row for table in tables if table for group in table.groups for row in group.rows}


def column(table: Table, name: str) -> dict[str, Cell]:
    place = [one.name for one in table.columns].index(name)
    return {row.name: row.cells[place] for group in table.groups for row in group.rows}


def test_results_on_other_data_have_a_row_of_their_own(report: EvaluationReport) -> None:
    changed = report.systems[1].scores[1].model_copy(update={"content_sha256": "d" * 64, "main_score": 99.0})
    other = report.systems[1].model_copy(update={"scores": (changed,)})
    table = task_tables(
        changed_report := report.model_copy(update={"systems": (report.systems[0], other)}),
        sentence_tasks(changed_report),
        scope="all",
        published=(),
    )[0]
    found = [[cell.text for cell in row.cells] for group in table.groups for row in group.rows]
    assert ["30.00", "–"] in found
    assert ["–", "99.00"] in found


def test_averages_are_those_that_the_report_gives(report: EvaluationReport) -> None:
    given = report.model_copy(
        update={
            "averages": (
                Average(system="Trained", scope="Retrieval", num_tasks=2, score=1.5),
                Average(system="Trained", scope="all", num_tasks=3, score=2.5, ci_low=2.0, ci_high=3.0),
            )
        }
    )
    rows = rows_of(*task_tables(given, sentence_tasks(given), scope="all", published=()))
    assert rows["Average of 2"].cells == (Cell("1.50"), Cell("–"))
    assert rows["Average of 3 tasks"].cells == (Cell("2.50", notes=("2.0 to 3.0",)), Cell("–"))
    none = given.model_copy(update={"averages": ()})
    assert "Average of 2" not in rows_of(*task_tables(none, sentence_tasks(none), scope="all", published=()))


def test_the_category_table_has_the_form_of_the_paper(rich_report: EvaluationReport) -> None:
    table = category_table(rich_report)
    assert table is not None
    heads = ["Retr.", "Rerank.", "Clust.", "PairClass.", "Class.", "STS", "Summ.", "Avg"]
    assert [one.name for one in table.columns] == heads
    assert [one.note for one in table.columns] == ["2", "1", "1", "1", "2", "2", "1", "10"]
    titles = ["Keyword and hybrid search", "Encoder-only", "smollm2-135m", "tiny-llama"]
    assert [group.title for group in table.groups] == titles
    assert [row.name for row in table.groups[1].rows] == ["MiniLM"]
    assert [cell.text for cell in rows_of(table)["BM25"].cells[2:]] == ["–"] * 6
    average = next(one for one in rich_report.averages if (one.system, one.scope) == ("LLM2Vec", "STS"))
    assert column(table, "STS")["LLM2Vec"].text == f"{average.score:.2f}"
    assert column(table, "STS")["LLM2Vec"].notes == (f"{average.ci_low:.1f} to {average.ci_high:.1f}",)


def test_who_ties_with_the_best_follows_the_comparisons(rich_report: EvaluationReport) -> None:
    table = category_table(rich_report)
    assert table is not None
    marks = {name: cell.mark for name, cell in column(table, "Avg").items()}
    (best,) = [name for name, mark in marks.items() if mark == "best"]
    tested = [one for one in rich_report.comparisons if one.scope == "all" and best in (one.better, one.worse)]
    undecided = {one.worse if one.better == best else one.better for one in tested if not one.is_significant}
    assert undecided
    assert {name for name, mark in marks.items() if mark == "tied"} == undecided
    untested = category_table(rich_report.model_copy(update={"comparisons": ()}))
    assert untested is not None
    assert not untested.has_mark("tied")
    assert untested.has_mark("best")


def test_the_job_table_names_what_was_not_run(rich_report: EvaluationReport) -> None:
    report = rich_report.model_copy(update={"not_run": {"hybrid + re-ranking": "No cross-encoder is named."}})
    table = headline_table(report, report.headlines[0])
    assert table is not None
    row = table.groups[0].rows[-1]
    assert (row.name, [cell.text for cell in row.cells]) == ("hybrid + re-ranking", ["not run", *"–" * 6])


def test_kinds_of_queries_stand_below_their_name_with_how_many_they_are(rich_report: EvaluationReport) -> None:
    (table,) = slice_tables(rich_report, "JobResumeRetrieval")
    assert [(one.name, one.note, one.group) for one in table.columns] == [
        ("junior", "99 queries", "Seniority"),
        ("lead", "1 query", "Seniority"),
    ]
    (group,) = table.groups
    assert [row.name for row in group.rows] == [system.name for system in rich_report.systems]
    assert {row.cells[0].notes for row in group.rows} == {("1.0 to 99.0",)}
    assert {row.cells[1].notes for row in group.rows} == {()}
    assert slice_tables(rich_report, "STS13") == ()


def test_the_worst_queries_say_what_was_asked_found_and_wanted(rich_report: EvaluationReport) -> None:
    table = worst_table([one for one in rich_report.worst if one.task == "JobResumeRetrieval"])
    (group,) = table.groups
    first, second = ([cell.text for cell in row.cells] for row in group.rows)
    assert first[0] == "0.00" and second[0] == "1.00"
    assert (first[3], second[3]) == ("nothing", "Plumber: knows pipes")
    assert group.rows[1].cells[3].notes == ("judged 1",)
    assert group.rows[0].cells[4].notes == ("ETL developer: moves data",)


def test_the_job_table_gives_the_interval_to_the_metric_it_belongs_to(rich_report: EvaluationReport) -> None:
    table = headline_table(rich_report, rich_report.headlines[0])
    assert table is not None
    assert all(cell.notes for cell in column(table, "nDCG@10").values())
    assert not any(cell.notes for cell in column(table, "MAP").values())


def test_the_ablation_table_has_the_form_of_the_paper(rich_report: EvaluationReport) -> None:
    table = ablation_table(rich_report, ablations(rich_report))
    assert table is not None
    assert [one.name for one in table.columns] == ["EOS", "Mean", "W. mean"]
    assert [group.title for group in table.groups] == ["smollm2-135m", "tiny-llama"]
    assert [row.name for row in table.groups[0].rows] == [
        "Uni",
        "Bi",
        "Bi + MNTP",
        "Bi + MNTP + SimCSE",
        "Uni, echo",
    ]
    scores = {one.system: f"{one.score:.2f}" for one in rich_report.averages if one.scope == "all"}
    uni = table.groups[0].rows[0]
    assert [cell.text for cell in uni.cells] == [
        scores["Uni, last token"],
        scores["Uni, mean"],
        scores["Uni, weighted mean"],
    ]
    assert [cell.text for cell in table.groups[1].rows[0].cells[:2]] == ["–", "–"]


def test_two_systems_of_the_same_training_both_stand_in_the_ablation(rich_report: EvaluationReport) -> None:
    twin = rich_report.systems[8].model_copy(update={"name": "LLM2Vec, longer"})
    average = Average(system=twin.name, scope="all", num_tasks=10, score=99.0)
    both = rich_report.model_copy(
        update={"systems": (*rich_report.systems, twin), "averages": (*rich_report.averages, average)}
    )
    (ablation, _) = ablations(both)
    rows = [row for row in ablation.rows if row.training == "Bi + MNTP + SimCSE"]
    assert [row.system for row in rows] == ["", "LLM2Vec, longer"]
    assert rows[1].averages["Mean"].score == 99.0


def test_a_base_model_without_variants_is_no_ablation(rich_report: EvaluationReport) -> None:
    single = rich_report.model_copy(update={"systems": rich_report.systems[:4]})
    assert ablations(single) == ()
    assert ablation_table(single, ()) is None


def test_published_figures_show_both_sources_where_they_differ() -> None:
    (table,) = published_category_tables(FIGURES)
    assert table.caption == "Table 1"
    assert [group.title for group in table.groups] == ["LLaMA-2-7B", "Encoder-only"]
    assert column(table, "Avg")["LLM2Vec"] == Cell("55.36 / 55.56", "best")
    assert column(table, "Avg")["Echo"] == Cell("45.36")
    assert column(table, "STS")["BERT"] == Cell("54.36")
    (ablation,) = published_ablation_tables(FIGURES)
    assert {name: cell.text for name, cell in column(ablation, "EOS").items()} == {"Bi + MNTP": "–", "Uni": "33.23"}


def test_a_published_figure_stands_beside_the_measured_one_of_the_same_model(rich_report: EvaluationReport) -> None:
    few = rich_report.model_copy(update={"systems": rich_report.systems[:5]})
    rows = rows_of(*task_tables(few, sentence_tasks(few), scope="all", published=FIGURES))
    noted = [position for position, cell in enumerate(rows["STSBenchmark"].cells) if "published 82.03" in cell.notes]
    assert noted == [2]
    scores = tuple(score.model_copy(update={"is_official": False}) for score in few.systems[2].scores)
    subset = few.model_copy(update={"systems": (few.systems[2].model_copy(update={"scores": scores}),)})
    rows = rows_of(*task_tables(subset, sentence_tasks(subset), scope="all", published=FIGURES))
    assert not any("published" in note for cell in rows["STSBenchmark"].cells for note in cell.notes)


def test_words_never_count_into_the_categories(rich_report: EvaluationReport) -> None:
    assert "TokenClassification" not in sentence_tasks(rich_report)
    words = {key: tasks for key, tasks in tasks_by_category(rich_report).items() if key == "TokenClassification"}
    few = rich_report.model_copy(update={"systems": rich_report.systems[2:6]})
    rows = rows_of(*task_tables(few, words, scope="word", published=()))
    assert set(rows) == {"Conll2000Chunking", "UdEwtPos", "SkillSpanNer", "Average of 3 tasks"}
    average = next(one for one in rich_report.averages if (one.system, one.scope) == ("MiniLM", "word"))
    assert rows["Average of 3 tasks"].cells[0].text == f"{average.score:.2f}"


@pytest.mark.parametrize(("num_systems", "num_tasks"), [(8, 60), (9, 60), (20, 60), (20, 150)])
def test_tables_hold_every_score_once_and_stay_narrow(
    make_large_report: Callable[[int, int], EvaluationReport], num_systems: int, num_tasks: int
) -> None:
    large = make_large_report(num_systems, num_tasks)
    tables = task_tables(large, sentence_tasks(large), scope="all", published=())
    assert all(len(table.columns) <= 16 for table in tables)
    num_averages = 8 * num_systems
    cells = [cell for table in tables for group in table.groups for row in group.rows for cell in row.cells]
    assert len(cells) == num_systems * num_tasks + num_averages
    assert (len(tables) == 1) == (num_systems <= 8)


def test_a_difference_keeps_its_direction_in_every_column(report: EvaluationReport) -> None:
    swapped = report.comparisons[0].model_copy(update={"scope": "all", "better": "Trained", "worse": "BM25"})
    table = difference_table(report.model_copy(update={"comparisons": (*report.comparisons, swapped)}))
    assert table is not None
    ((name, row),) = rows_of(table).items()
    assert name == "Trained − BM25"
    assert [one.name for one in table.columns] == ["Retr.", "All"]
    assert [cell.text for cell in row.cells] == ["−1.0", "+1.0"]
    assert row.cells[0].notes == ("−2.8 to +0.7",)
    assert not table.has_mark("real")


def test_the_comparisons_by_task_are_listed_with_what_they_would_show(report: EvaluationReport) -> None:
    table = comparison_table(report)
    assert table is not None
    assert [group.title for group in table.groups] == ["Retrieval", "JobResumeRetrieval", "OtherRetrieval"]
    (row,) = table.groups[2].rows
    assert row.name == "BM25 − Trained"
    assert [cell.text for cell in row.cells] == ["+5.5", "+2.5 to +8.4", "< 0.001", "2.5"]
    assert row.cells[0].mark == "real"


def test_very_many_pairs_are_cut_to_those_with_the_best(
    make_large_report: Callable[[int, int], EvaluationReport],
) -> None:
    table = comparison_table(make_large_report(12, 3))
    assert table is not None
    assert {len(group.rows) for group in table.groups} == {11}


def test_time_is_summed_and_a_system_that_encodes_nothing_has_no_tokens(report: EvaluationReport) -> None:
    rows = rows_of(*time_tables(report))
    assert rows["STSSmall"].cells == (Cell("1.2", notes=("988 tokens", "1,976 tokens/s")), Cell("–"))
    assert [cell.text for cell in rows["Total"].cells] == ["3.8", "2.5"]
    assert rows["Total"].cells[1].notes == ()


def test_very_many_tokens_are_given_in_millions(report: EvaluationReport) -> None:
    score = report.systems[0].scores[0].model_copy(update={"num_tokens": 27_350_914})
    many = report.systems[0].model_copy(update={"scores": (score,)})
    rows = rows_of(*time_tables(report.model_copy(update={"systems": (many,)})))
    assert rows["Total"].cells[0].notes[0] == "27.4M tokens"


def test_systems_without_traits_have_a_group(rich_report: EvaluationReport) -> None:
    unknown = rich_report.systems[3].model_copy(update={"traits": None})
    groups = system_groups(rich_report.model_copy(update={"systems": (unknown,)}))
    assert [title for title, _ in groups] == ["Other encoders"]

"""Query kinds add up to all queries, and the worst queries are listed with their texts."""

import json

import numpy as np
import pytest

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.metrics import RANKING_METRICS
from llm2vec_core.evaluation.protocols.scoring import evaluate_task
from llm2vec_core.evaluation.results import SystemReport
from llm2vec_core.evaluation.statistics.compare import ScoredSystem, compare_systems
from llm2vec_core.evaluation.systems import System
from llm2vec_core.evaluation.tasks.folders import load_eval_task
from llm2vec_core.evaluation.tasks.queries import QueryScores, slice_scores, worst_queries

LEVELS = ["junior", "senior", "lead"]


@pytest.fixture
def folder(tmp_path):
    """Forty queries of three levels, longer and longer; each finds the document of its own word."""
    documents = [{"_id": f"d{n}", "title": f"Title {n}", "text": f"word{n} " * 80} for n in range(40)]
    queries = [
        {"_id": f"q{n:02d}", "text": f"word{n} " + "filler " * n, "slices": {"seniority": LEVELS[n % 3]}}
        for n in range(40)
    ]
    del queries[0]["slices"]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    judged = "\n".join(f"q{n:02d}\td{n}\t{1 + n % 2}" for n in range(40))
    (tmp_path / "qrels.tsv").write_text(f"query\tdocument\tscore\n{judged}\n")
    header = {"name": "JobResumeRetrieval", "type": "Retrieval", "main_score": "ndcg_at_10"}
    (tmp_path / "task.json").write_text(json.dumps(header))
    return tmp_path


def scores(values, first="d1"):
    return QueryScores({"ndcg_at_10": np.asarray(values, float)}, [first] * len(values))


def test_kinds_of_queries_are_scored_apart_and_cover_all(folder):
    values = np.arange(40.0)
    found = slice_scores(load_eval_task(folder), {"A": scores(values), "B": scores(values[::-1])})
    by_kind = {(one.name, one.value, one.system): one for one in found}
    for level, start in zip(LEVELS, (3, 1, 2), strict=True):  # the first query does not say its level
        one = by_kind["seniority", level, "A"]
        assert (one.num_queries, one.score) == (13, pytest.approx(values[start::3].mean()))
        assert one.ci_low < one.score < one.ci_high
    lengths = [one for one in found if one.name == "length" and one.system == "A"]
    assert [one.value for one in lengths] == ["1 to 14 words", "15 to 27 words", "28 to 40 words"]
    assert sum(one.num_queries * one.score for one in lengths) == pytest.approx(values.sum())


def test_the_worst_queries_are_those_of_the_best_system_with_what_it_found(folder):
    good, bad = np.full(40, 90.0), np.full(40, 10.0)
    good[[7, 3]], bad[7] = [5.0, 20.0], 60.0
    found = worst_queries(load_eval_task(folder), {"bad": scores(bad), "good": scores(good, first="d3")})
    assert len(found) == 10
    assert [(one.query, one.system, one.score) for one in found[:2]] == [("q07", "good", 5.0), ("q03", "good", 20.0)]
    worst, other = found[:2]
    assert (worst.best_other, worst.best_other_score) == ("bad", 60.0)
    assert worst.text == ("word7 " + "filler " * 7).strip()
    assert (worst.first_relevance, other.first_relevance) == (0, 2)
    assert worst.first.startswith("Title 3: word3 ") and worst.first.endswith(" …") and len(worst.first) <= 202
    assert [text[:8] for text in worst.relevant] == ["Title 7:"]


def test_what_scoring_catches_query_by_query_is_what_mteb_reports(folder):
    eval_task = load_eval_task(folder)
    outcome = evaluate_task(System("BM25", "lexical"), eval_task)
    assert outcome.queries is not None
    assert set(outcome.queries.metrics) == {*RANKING_METRICS.values(), "rp_at_5", "rp_at_10"}
    for name, values in outcome.queries.metrics.items():
        assert values.mean() == pytest.approx(outcome.score.metrics[name], abs=2e-3), name
    assert outcome.queries.first == [f"d{n}" for n in range(40)]
    assert set(outcome.score.intervals) == set(outcome.queries.metrics)
    report = SystemReport(name="BM25", fingerprint="f", mode="lexical", scores=(outcome.score,))
    other = SystemReport(name="Again", fingerprint="g", mode="lexical", scores=(outcome.score,))
    systems = [ScoredSystem(each, (outcome,)) for each in (report, other)]
    found = compare_systems(systems, [eval_task], headlines=["JobResumeRetrieval"])
    assert len(found.worst) == 10 and len(found.slices) == 2 * 6
    assert "JobResumeRetrieval recall_at_50" in {one.scope for one in found.comparisons}


def test_a_kind_that_is_no_text_is_refused_with_its_line(folder):
    path = folder / "queries.jsonl"
    path.write_text(path.read_text().replace('"lead"', "3", 1))
    with pytest.raises(EvalTaskError, match=r"queries.jsonl, line 3: 'slices' must be an object with string values"):
        load_eval_task(folder)

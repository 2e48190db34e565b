"""Metrics of whole rankings equal WorkRB's definitions; the layouts of the job benchmarks are read."""

import json

import numpy as np
import pytest

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.protocols.registry import can_score
from llm2vec_core.evaluation.protocols.scoring import evaluate_task
from llm2vec_core.evaluation.protocols.whole_rankings import score_ranking
from llm2vec_core.evaluation.systems import System
from llm2vec_core.evaluation.tasks.folders import discover_eval_tasks, load_eval_task

BM25 = System("BM25", "lexical")


def by_definition(scores, relevant):
    """WorkRB 0.6.0's definitions, written out one document at a time."""
    ranking = sorted(range(len(scores)), key=lambda at: -scores[at])
    reciprocal, precisions, found = 0.0, [], 0
    for rank, document in enumerate(ranking, start=1):
        if document in relevant:
            reciprocal = reciprocal or 1 / rank
            found += 1
            precisions.append(found / rank)
    at_cutoff = {
        f"rp_at_{cutoff}": len(set(ranking[:cutoff]) & set(relevant)) / min(cutoff, len(set(relevant)))
        for cutoff in (5, 10)
    }
    return {"mrr": reciprocal, "map": sum(precisions) / found, **at_cutoff}


def test_metrics_equal_the_definitions_on_random_rankings():
    random = np.random.default_rng(0)
    for _ in range(300):
        scores = random.normal(size=int(random.integers(1, 60)))
        relevant = random.choice(len(scores), size=int(random.integers(1, len(scores) + 1)), replace=False).tolist()
        assert score_ranking(scores, relevant) == pytest.approx(by_definition(scores, relevant), abs=1e-9)


def test_equal_scores_are_ranked_by_position():
    assert score_ranking(np.zeros(4), [2])["mrr"] == pytest.approx(1 / 3)


def talentclef(folder, *, as_files):
    queries = {"1": "nurse", "2": "baker", "3": "pilot"}
    corpus = {"7": "staff nurse", "8": "pastry baker", "9": "airline pilot", "10": "ward nurse"}
    for stem, identity, texts in (("queries", "q_id", queries), ("corpus_elements", "c_id", corpus)):
        if as_files:
            (folder / stem).mkdir(parents=True)
            for key, text in texts.items():
                (folder / stem / f"{key}.txt").write_text(text)
        else:
            folder.mkdir(exist_ok=True)
            rows = [f"{identity}\tjobtitle", *(f"{key}\t{text}" for key, text in texts.items())]
            (folder / stem).write_text("\n".join(rows))
    (folder / "qrels.tsv").write_text("1\t0\t7\t1\n1\t0\t10\t1\n1\t0\t8\t0\n2 0 8 1\n")
    return folder


@pytest.mark.parametrize("as_files", [False, True])
def test_talentclefs_tables_and_folders_are_read_by_name(tmp_path, as_files):
    folder = talentclef(tmp_path / "TitlesEnglish", as_files=as_files)
    assert discover_eval_tasks(tmp_path) == [folder]
    eval_task = load_eval_task(folder)
    assert (eval_task.name, eval_task.main_score, eval_task.num_items) == ("TitlesEnglish", "map", 2)
    outcome = evaluate_task(BM25, eval_task)
    assert outcome.score.main_score == pytest.approx(100)
    assert set(outcome.score.metrics) == {"mrr", "map", "rp_at_5", "rp_at_10"}
    assert not can_score(System("h", "tuned", encoder=object()), eval_task)  # type: ignore[arg-type]


def test_a_judgment_without_its_document_is_named(tmp_path):
    folder = talentclef(tmp_path / "t", as_files=False)
    (folder / "qrels.tsv").write_text("1 0 99 1\n")
    with pytest.raises(EvalTaskError, match="'99'"):
        load_eval_task(folder)
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(EvalTaskError, match="expected query, 0, document"):
        load_eval_task(folder)


def test_workrbs_pairs_are_grouped_and_labels_outside_the_space_dropped(tmp_path):
    rows = [
        {"sentence": "cares for patients", "label": "care for patients"},
        {"sentence": "cares for patients", "label": "keep records"},
        {"sentence": "works hard", "label": "LABEL NOT PRESENT"},
        {"sentence": "bakes bread", "label": "bake bread"},
    ]
    (tmp_path / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "labels.csv").write_text("preferredLabel,uri\nkeep records,u1\nbake bread,u2\ncare for patients,u3\n")
    eval_task = load_eval_task(tmp_path)
    assert [row["text"] for row in eval_task.tables["queries"]] == ["cares for patients", "bakes bread"]
    assert len(eval_task.tables["qrels"]) == 3
    assert eval_task.main_score == "mrr"
    before = eval_task.content_sha256
    (tmp_path / "labels.csv").write_text("preferredLabel\nkeep records\nbake bread\ncare for patients\nsing\n")
    assert load_eval_task(tmp_path).content_sha256 != before


def test_workrbs_graded_tables_are_read_from_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = {
        "queries": [{"_id": "q1", "text": "bakes bread"}],
        "corpus": [{"_id": "u1", "title": "bake bread", "text": ""}, {"_id": "u2", "title": "sing", "text": ""}],
        "qrels": [{"query-id": "q1", "corpus-id": "u1", "score": 4}],
    }
    for stem, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{stem}.parquet")
    assert evaluate_task(BM25, load_eval_task(tmp_path)).score.main_score == pytest.approx(100)


@pytest.mark.parametrize("metric", ["rp_at_5", "rp_at_10"])
def test_rankings_that_mteb_scores_have_r_precision_too(tmp_path, metric):
    """By query, so that it has an interval, and equal to the definition."""
    corpus = [{"_id": f"d{at}", "title": "", "text": f"word{at} common"} for at in range(12)]
    queries = [{"_id": f"q{at}", "text": f"word{at} word{at + 1} common"} for at in range(6)]
    qrels = [f"q{at}\td{at + shift}\t1" for at in range(6) for shift in (0, 1, 5)]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in corpus))
    (tmp_path / "queries.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in queries))
    (tmp_path / "qrels.tsv").write_text("q\td\ts\n" + "\n".join(qrels) + "\n")
    header = {"name": "T", "type": "Retrieval", "main_score": "mrr_at_10"}
    (tmp_path / "task.json").write_text(json.dumps(header))
    by_mteb = evaluate_task(BM25, load_eval_task(tmp_path))
    assert metric in by_mteb.score.intervals
    assert by_mteb.score.metrics[metric] >= 100 * 2 / 3

"""Queries and pairs that count as one observation."""

import json
from pathlib import Path

import numpy as np
import pytest

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.tasks.clusters import item_clusters
from llm2vec_core.evaluation.tasks.folders import load_eval_task

HEADERS = {"STS": "cosine_spearman", "Retrieval": "ndcg_at_10"}


def write(folder: Path, kind: str, **files: object) -> Path:
    (folder / "task.json").write_text(json.dumps({"name": "T", "type": kind, "main_score": HEADERS[kind]}))
    for stem, rows in files.items():
        suffix = "tsv" if isinstance(rows, str) else "jsonl"
        text = rows if isinstance(rows, str) else "".join(f"{json.dumps(row)}\n" for row in rows)  # type: ignore[attr-defined]
        (folder / f"{stem}.{suffix}").write_text(text)
    return folder


def pairs(*sentences: str, **more: str) -> list[dict[str, object]]:
    """Pairs of letters; ``ab`` is the pair of the sentences a and b."""
    return [{"sentence1": each[0], "sentence2": each[1], "score": at} | more for at, each in enumerate(sentences)]


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (("ab", "cd", "ef"), None),
        (("ab", "bc", "de"), [0, 0, 1]),
        (("ab", "cd", "be", "fc"), [0, 1, 0, 1]),
        (("ab", "cd", "bc"), [0, 0, 0]),
        (("ab", "ab"), [0, 0]),
    ],
)
def test_pairs_that_share_a_sentence_form_a_cluster(tmp_path, sentences, expected):
    found = item_clusters(load_eval_task(write(tmp_path, "STS", pairs=pairs(*sentences))))
    assert expected == (None if found is None else found.tolist())


def test_queries_with_the_same_relevant_documents_form_a_cluster(tmp_path):
    """In the order of the scores, which is that of the ids; a document that is judged irrelevant does not count."""
    write(
        tmp_path,
        "Retrieval",
        corpus=[{"_id": key, "title": "", "text": key} for key in "xyz"],
        queries=[{"_id": key, "text": key} for key in ("q3", "q1", "q2", "q4")],
        qrels="q\td\ts\nq1\tx\t1\nq1\ty\t1\nq2\tx\t1\nq3\ty\t2\nq3\tx\t1\nq3\tz\t0\nq4\tz\t1\n",
    )
    assert item_clusters(load_eval_task(tmp_path)).tolist() == [0, 1, 0, 2]


def test_a_named_cluster_replaces_the_default(tmp_path):
    rows = pairs("ab", "cd", cluster="one") + pairs("ab", "xy")
    assert item_clusters(load_eval_task(write(tmp_path, "STS", pairs=rows))).tolist() == [0, 0, 1, 2]


def test_a_cluster_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(EvalTaskError, match="'cluster' is 3"):
        load_eval_task(write(tmp_path, "STS", pairs=[*pairs("ab"), *pairs("cd", cluster=3)]))  # type: ignore[arg-type]


def test_clusters_widen_the_interval_of_a_score(tmp_path):
    from llm2vec_core.evaluation.protocols.scoring import evaluate_task
    from llm2vec_core.evaluation.systems import System

    words = [f"w{number}" for number in range(40)]
    rows = [
        {
            "sentence1": f"{words[at % 8]} {words[at % 40]} common",
            "sentence2": f"{words[(at * 7) % 40]} {words[at % 8]}",
            "score": at % 6,
            "cluster": str(at // 8),
        }
        for at in range(64)
    ]
    for name in ("clustered", "alone"):
        (tmp_path / name).mkdir()
    one = write(tmp_path / "clustered", "STS", pairs=rows)
    alone = [{**row, "cluster": str(at)} for at, row in enumerate(rows)]
    other = write(tmp_path / "alone", "STS", pairs=alone)
    clustered, independent = (
        evaluate_task(System("BM25", "lexical"), load_eval_task(folder)) for folder in (one, other)
    )
    assert (clustered.score.num_clusters, independent.score.num_clusters) == (8, None)
    assert clustered.score.main_score == independent.score.main_score
    assert np.std(clustered.estimate.deviations) != np.std(independent.estimate.deviations)

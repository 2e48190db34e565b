"""What of a task was in a training set, and judgments that a training leaves out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2vec_core.evaluation.results import Comparison
from llm2vec_core.evaluation.tasks.folders import load_eval_task
from llm2vec_core.evaluation.tasks.seen import GRAM_WORDS, TextIndex, decontaminate, disclose
from llm2vec_core.training.settings import TrainingTriple

LONG = "the nurse on the surgical ward gives medication and keeps careful records of every patient"


@pytest.fixture
def retrieval(tmp_path):
    rows = {
        "corpus": [
            {"_id": "n", "title": "Registered Nurses", "text": LONG},
            {"_id": "b", "title": "Bakers", "text": "bake bread"},
        ],
        "queries": [{"_id": "1", "text": "RGN"}, {"_id": "2", "text": "pastry chef"}],
    }
    for stem, listed in rows.items():
        (tmp_path / f"{stem}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in listed))
    (tmp_path / "qrels.tsv").write_text("q\td\ts\n1\tn\t1\n2\tb\t1\n")
    (tmp_path / "task.json").write_text(json.dumps({"name": "T", "type": "Retrieval", "main_score": "mrr_at_10"}))
    return load_eval_task(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Yesterday {LONG.title()}!", True),
        (" ".join(LONG.split()[3:11]), True),
        (" ".join(LONG.split()[3:10]), False),
        ("rgn.", True),
        ("an RGN", False),
        ("", False),
    ],
)
def test_texts_overlap_by_eight_words_and_short_ones_as_a_whole(text, expected):
    assert TextIndex([LONG, "RGN"]).overlaps(text) == expected


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_overlap_is_what_a_search_for_every_sequence_finds(one, other):
    def grams(words):
        short = [tuple(words)] if words else []
        return short if len(words) < GRAM_WORDS else [tuple(words[at : at + 8]) for at in range(len(words) - 7)]

    found = TextIndex([" ".join(one)]).overlaps(" ".join(other))
    assert found == bool(set(grams(one)) & set(grams(other)))


def test_judgments_with_a_scored_text_are_left_out_and_documents_may_stay(retrieval):
    triples = [
        TrainingTriple("rgn", "Registered Nurses"),
        TrainingTriple("ward nurse", "Registered Nurses"),
        TrainingTriple("baker", "Bakers", ("Pastry chef",)),
    ]
    clean = decontaminate(triples, [retrieval])
    assert (clean.triples, clean.left_out) == ([triples[1]], {"T": 2})


def test_a_report_says_what_a_training_set_contains(retrieval):
    sets = {"titles": ["Registered nurses", "RGN"], "ads": [f"We seek: {LONG}."], "none": ["a pilot"]}
    found = disclose(retrieval, sets)
    assert [(each.training_set, each.scored_seen, each.documents_seen) for each in found] == [
        ("titles", 1, 1),
        ("ads", 0, 1),
    ]
    assert found[0].sentence() == "T: titles contains 1 of its 2 scored texts and 1 of its 2 documents."


def test_the_report_prints_what_was_seen_clusters_and_published_figures(retrieval):
    from datetime import UTC, datetime

    from llm2vec_core.evaluation.report.content import ReportContent
    from llm2vec_core.evaluation.report.report import render_markdown
    from llm2vec_core.evaluation.results import SystemReport, TaskScore

    score = TaskScore(
        task="SkillExtractionHouseRetrieval",
        type="Retrieval",
        main_score_name="mrr_at_1000",
        main_score=30.0,
        metrics={"mrr_at_1000": 30.0},
        seconds=1.0,
        num_items=261,
        num_clusters=200,
        num_texts=1,
        content_sha256="c",
        system_fingerprint="f",
    )
    systems = tuple(SystemReport(name=name, fingerprint=name, mode="lexical", scores=(score,)) for name in "ab")
    comparison = Comparison(
        scope="all",
        better="a",
        worse="b",
        difference=0,
        ci_low=0,
        ci_high=0,
        p_value=1,
        smallest_difference=1,
        is_significant=False,
    )
    report = ReportContent(
        title="T",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        run_id="r",
        systems=systems,
        comparisons=(comparison,),
        seen=tuple(disclose(retrieval, {"titles": ["RGN"]})),
    )
    page = render_markdown(report)
    assert "titles contains 1 of its 2 scored texts" in page
    assert "SkillExtractionHouseRetrieval: 261 in 200 clusters" in page
    assert "CurriculumMatch 48.4, published by WorkRB" in page


@pytest.mark.shared_data
def test_every_onet_document_is_a_training_title(shared_data):
    """The adapter's figure on this task is no proof of transfer. 1,014 of the titles are equal letter by letter."""
    eval_task = load_eval_task(shared_data / "eval" / "OnetAlternateTitleRetrievalDev")
    rows = map(json.loads, (shared_data / "train" / "onet_titles.jsonl").read_text().splitlines())
    texts = {text for row in rows for text in (row["alternate_title"], row["title"])}
    (found,) = disclose(eval_task, {"onet_titles.jsonl": texts})
    assert (found.documents_seen, found.num_documents) == (1016, 1016)
    assert found.scored_seen < 0.05 * found.num_scored, "its queries were held back"

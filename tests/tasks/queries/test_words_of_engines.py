"""The three lexical engines read the same words: none of placeholders, and pairs in scripts without spaces."""

import numpy as np
import pyarrow as pa
import pytest

from data.schema import encoded_text
from data.store.base import LocalStore
from data.vectors.lance import create_table, table_schema
from llm2vec_core.ranking.evidence import SkillFinder, split_sentences
from llm2vec_core.ranking.lexical import LexicalIndex, ReferenceIndex
from llm2vec_core.ranking.words import tokenize

WELDER = "Rosa\n[EMAIL_1] | [PHONE_1]\nI fabricate steel vessels and join pipes."
FLORIST = ("Florist", "Binds bouquets. Questions to [EMAIL_1] or [PHONE_1].")
FITTER = ("Fitter", "Joins pipes in a shipyard, from steel.")
CHINESE = ("软件工程师", "负责后端开发，熟悉Python和Kubernetes。需要三年以上软件开发经验。")
OTHERS = [("Cook", "Cooks."), ("Nurse", "Cares for patients on a ward.")]
CORPUS = [FLORIST, FITTER, CHINESE, *OTHERS]


def lucene(query, documents):
    return LexicalIndex.of_texts([encoded_text(*each) for each in documents]).scores(query)


def okapi(query, documents):
    return LexicalIndex.of_texts([encoded_text(*each) for each in documents], variant="okapi").scores(query)


def reference(query, documents):
    return ReferenceIndex([encoded_text(*each) for each in documents]).scores(query)


@pytest.fixture
def lance(tmp_path):
    """Scores by LanceDB's index over the words that tables store."""

    def scores(query, documents):
        store = LocalStore(tmp_path / str(len(list(tmp_path.iterdir()))))
        table = create_table(store, generation="g", kind="job", embedding_dim=2)
        schema = table_schema(2)
        rows = {field.name: [None if field.nullable else "x"] * len(documents) for field in schema}
        rows |= {
            "doc_id": [str(number) for number in range(len(documents))],
            "metadata": ["{}"] * len(documents),
            "num_chars": [1] * len(documents),
            "words": [" ".join(tokenize(encoded_text(*each))) for each in documents],
            "vector": [[1.0, 0.0]] * len(documents),
        }
        table.upsert([pa.table(rows, schema=schema)])
        table.build_word_index()
        found = table.best_words(tokenize(query), limit=9, columns=["doc_id"]).to_pylist()
        by_number = {int(row["doc_id"]): row["score"] for row in found}
        return np.array([by_number.get(number, 0.0) for number in range(len(documents))])

    return scores


@pytest.fixture(params=["lucene", "okapi", "reference", "lance"])
def engine(request):
    """One engine, as a function of a query and documents to scores."""
    by_name = {"lucene": lucene, "okapi": okapi, "reference": reference}
    return by_name.get(request.param) or request.getfixturevalue("lance")


def test_contacts_bring_no_florist_to_a_welder(engine):
    scores = engine(encoded_text("", WELDER), CORPUS)
    assert scores[0] == 0
    assert scores.argmax() == 1


def test_raw_placeholders_count_for_no_engine_either(engine):
    assert engine("[EMAIL_1] [PHONE_1]", CORPUS).max() == 0


def test_a_contact_line_changes_no_score(engine):
    lines = "\nQuestions to [EMAIL_1]", "\n[NAME_1]\nE-Mail: [EMAIL_1]"
    plain = engine(encoded_text("", WELDER), CORPUS)
    with_contact = [(title, text + lines[1]) for title, text in CORPUS]
    assert np.array_equal(engine(encoded_text("", WELDER), with_contact), plain)


@pytest.mark.parametrize("query", ["Python", "kubernetes", "软件开发", "软件工程师", "后端"])
def test_chinese_and_latin_words_are_found_in_one_sentence(engine, query):
    scores = engine(query, CORPUS)
    assert scores.argmax() == 2
    assert scores[2] > 0
    assert np.count_nonzero(scores) == 1


def test_skills_are_named_in_any_script_and_not_by_placeholders():
    finder = SkillFinder({"软件开发": [], "Python": [], "phone": []})
    assert finder.find(CHINESE[1]) == {"Python": "Python", "软件开发": "软件开发"}
    assert finder.find(FLORIST[1]) == {}


def test_a_chinese_full_stop_ends_a_sentence():
    assert split_sentences(CHINESE[1]) == ["负责后端开发，熟悉Python和Kubernetes。", "需要三年以上软件开发经验。"]

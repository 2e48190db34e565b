"""Search, bulk matching and evaluation rank the same documents in the same order, including ties."""

import numpy as np
import pyarrow as pa
import pytest

from data.vectors.lance import create_table, table_schema
from llm2vec_core.evaluation.systems import System
from llm2vec_core.ranking.lexical import LexicalIndex
from llm2vec_core.ranking.words import tokenize
from tasks.queries.search import search
from tasks.run.settings import MatchSettings, Settings
from tasks.stages.match_blocks import plan_parts, read_sides
from tests.llm2vec_core.ranking import plain_reference

WORDS = ["nurse", "ward", "night", "cloud", "driver", "chef"]
CANDIDATES, LIMIT = 9, 7


def unit_vectors(rng, count):
    """Vectors of length one whose products are exact and tie often."""
    halves = rng.choice([-0.5, 0.5], (count, 4))
    return np.where(rng.random((count, 1)) < 0.3, np.eye(4)[rng.integers(4, size=count)], halves).astype(np.float32)


@pytest.fixture(params=range(4))
def documents(request):
    """Texts and vectors of both kinds, at random. Each job has a word that no resume has, and so a text of its own."""
    rng = np.random.default_rng(request.param)
    found = {
        kind: [(" ".join(rng.choice(WORDS, rng.integers(1, 9))), vector) for vector in unit_vectors(rng, count)]
        for kind, count in (("job", 11), ("resume", 26))
    }
    found["job"] = [(f"{text} x{number}", vector) for number, (text, vector) in enumerate(found["job"])]
    # All indexes then number the words alike, so sums over words are equal to the last bit.
    found["resume"][0] = (" ".join(sorted(WORDS)), found["resume"][0][1])
    return found


class Given:
    """An encoder that knows its vectors."""

    fingerprint = "given"

    def __init__(self, documents):
        self._vectors = {text: vector for rows in documents.values() for text, vector in rows}

    def encode(self, texts, **options):
        """The vectors of known texts."""
        return np.array([self._vectors[text] for text in ([texts] if isinstance(texts, str) else texts)])


@pytest.fixture
def home(request, tmp_path, documents, make_pointer, monkeypatch):
    """Settings of a home that serves these documents, without a word index; queries are encoded as they are served."""
    settings = Settings(home=str(tmp_path), match=MatchSettings(top_k=LIMIT, candidates=CANDIDATES))
    store, versions = settings.store(), {}
    for kind, rows in documents.items():
        columns = {field.name: [None if field.nullable else "x"] * len(rows) for field in table_schema(4)}
        columns |= {"doc_id": [f"{number:032x}" for number in range(len(rows))], "metadata": ["{}"] * len(rows)}
        columns |= {"num_chars": [1] * len(rows), "words": [" ".join(tokenize(text)) for text, _ in rows]}
        columns |= {"vector": [vector for _, vector in rows]}
        columns |= similar_columns(kind, len(rows)) if getattr(request, "param", None) == "similar" else {}
        table = create_table(store, generation="g", kind=kind, embedding_dim=4)
        table.upsert([pa.table(columns, schema=table_schema(4))])
        versions[kind] = table.version
    pointer = make_pointer().model_copy(
        update={"generation": "g", "jobs": versions["job"], "resumes": versions["resume"]}
    )
    monkeypatch.setattr("tasks.queries.search.load_query_encoder", lambda store, checkpoint, settings: Given(documents))
    monkeypatch.setattr("tasks.queries.search.served", lambda store: pointer)
    return settings, pointer


def similar_columns(kind, count):
    """The first eight documents are similar, the one with the highest number being the newest; so are the next two."""
    firsts = [0] * 8 + [8] * 2 + [None] * (count - 10)
    places = [*range(8, 0, -1), 2, 1, *[None] * (count - 10)]
    named = [None if first in (None, number) else f"{first:032x}" for number, first in enumerate(firsts)]
    return {"similar_to": named, "similar_order": places}


def by_search(settings, documents, mode="hybrid"):
    """Hits of every job: number, score, and ranks in both legs."""
    return [
        [
            (int(hit["doc_id"], 16), hit["score"], hit["dense_rank"], hit["lexical_rank"])
            for hit in search(settings, text, kind="resume", mode=mode, limit=LIMIT)
        ]
        for text, _ in documents["job"]
    ]


def in_bulk(settings, pointer, weight, folder):
    """The same, of matching both tables."""
    parts = plan_parts(
        read_sides(settings.store(), pointer, folder),
        settings.match,
        weight=weight,
        checkpoint="f",
        run_id="run",
        advance=lambda count: None,
    )
    rows = pa.concat_tables([part.build() for part in parts if part.direction == "resumes_for_job"]).to_pylist()
    found = {}
    for row in rows:
        hit = (int(row["resume_id"], 16), row["score"], row["dense_rank"], row["lexical_rank"])
        found.setdefault(int(row["job_id"], 16), []).append(hit)
    return [found[number] for number in range(len(found))]


def by_evaluation(documents):
    """Numbers of documents, best first, as mteb gets them; BM25 in the variant that search uses."""
    from llm2vec_core.evaluation.protocols.mteb_models import RankingModel

    model = RankingModel(System("hybrid", "hybrid", encoder=Given(documents), candidates=CANDIDATES))
    corpus = {"id": [str(number) for number in range(len(documents["resume"]))]}
    corpus |= {"title": [""] * len(corpus["id"]), "text": [text for text, _ in documents["resume"]]}
    model.index(corpus)
    model._vectors._own = np.array([vector for _, vector in documents["resume"]])
    model._lexical = LexicalIndex.of_texts(corpus["text"], variant="lucene")
    found = []
    for text, vector in documents["job"]:
        ranked = model._rank(text, vector, among=None, limit=LIMIT)
        assert [score for _, score in ranked] == [-float(place) for place in range(len(ranked))]
        found.append([position for position, _ in ranked])
    return found


def test_search_bulk_matching_and_evaluation_rank_alike(home, documents, tmp_path):
    settings, pointer = home
    searched = by_search(settings, documents)
    matched = in_bulk(settings, pointer, None, tmp_path)
    index = LexicalIndex.of_texts([text for text, _ in documents["resume"]])
    vectors = np.array([vector for _, vector in documents["resume"]])
    for (text, vector), of_search, of_bulk, of_evaluation in zip(
        documents["job"], searched, matched, by_evaluation(documents), strict=True
    ):
        legs = (
            plain_reference.best((vectors @ vector).tolist(), CANDIDATES),
            plain_reference.sharing_words(index.scores(text).tolist(), CANDIDATES),
        )
        expected = plain_reference.by_rank(legs)[:LIMIT]
        assert [(number, score) for number, score, *_ in of_search] == expected
        assert [(number, np.float32(score)) for number, score, *_ in of_search] == [hit[:2] for hit in of_bulk]
        assert [hit[2:] for hit in of_search] == [hit[2:] for hit in of_bulk]
        assert of_evaluation == [number for number, _ in expected]


def test_one_leg_alone_ranks_by_its_scores(home, documents):
    settings, _ = home
    index = LexicalIndex.of_texts([text for text, _ in documents["resume"]])
    vectors = np.array([vector for _, vector in documents["resume"]])
    found = zip(*(by_search(settings, documents, mode) for mode in ("dense", "lexical")), strict=True)
    for (text, vector), (by_vectors, by_words) in zip(documents["job"], found, strict=True):
        cosines, bm25 = (vectors @ vector).tolist(), index.scores(text).tolist()
        best, sharing = plain_reference.best(cosines, LIMIT), plain_reference.sharing_words(bm25, LIMIT)
        assert by_vectors == [(at, cosines[at], rank, None) for rank, at in enumerate(best, start=1)]
        assert by_words == [(at, bm25[at], None, rank) for rank, at in enumerate(sharing, start=1)]


@pytest.mark.parametrize("weight", [0.0, 0.35, 1.0])
def test_search_and_bulk_matching_weigh_alike(home, documents, tmp_path, monkeypatch, weight):
    settings, pointer = home
    every = len(documents["resume"])  # without a word index, search scores only what the lexical leg brings
    settings = settings.model_copy(update={"match": settings.match.model_copy(update={"candidates": every})})
    monkeypatch.setattr("tasks.queries.search.served_weight", lambda *_: weight)
    index = LexicalIndex.of_texts([text for text, _ in documents["resume"]])
    vectors = np.array([vector for _, vector in documents["resume"]])
    matched = in_bulk(settings, pointer, weight, tmp_path)
    for (text, vector), of_search, of_bulk in zip(
        documents["job"], by_search(settings, documents), matched, strict=True
    ):
        cosines, bm25 = (dict(enumerate(scores.tolist())) for scores in (vectors @ vector, index.scores(text)))
        expected = plain_reference.by_weight(cosines, bm25, weight=weight)[:LIMIT]
        assert [(number, score) for number, score, *_ in of_search] == expected
        assert [(number, np.float32(score)) for number, score, *_ in of_search] == [hit[:2] for hit in of_bulk]
        assert [hit[2:] for hit in of_search] == [hit[2:] for hit in of_bulk]


@pytest.mark.parametrize("home", ["similar"], indirect=True)
def test_similar_documents_share_one_place_in_search_as_in_bulk(home, documents, tmp_path, monkeypatch):
    settings, pointer = home
    vectors = np.array([vector for _, vector in documents["resume"]])
    hidden = {*range(7), 8}
    matched = in_bulk(settings, pointer, 1.0, tmp_path)
    monkeypatch.setattr("tasks.queries.search.served_weight", lambda *_: 1.0)
    found = zip(documents["job"], by_search(settings, documents, "dense"), matched, strict=True)
    for (_, vector), of_search, of_bulk in found:
        best = [at for at in plain_reference.best((vectors @ vector).tolist(), len(vectors)) if at not in hidden]
        assert [number for number, *_ in of_search] == best[:LIMIT], "the lists are full"
        assert [number for number, *_ in of_bulk] == best[:LIMIT]
    hits = search(settings, documents["job"][0][0], kind="resume", mode="dense", limit=26)
    assert {int(hit["doc_id"], 16): hit["num_similar"] for hit in hits if hit["num_similar"]} == {7: 7, 9: 1}
    assert len(hits) == len(vectors) - len(hidden)
    # A filter applies first: the newest that passes it stands for the others that pass it.
    hits = search(settings, documents["job"][0][0], kind="resume", mode="dense", limit=26, where=f"doc_id < '{6:032x}'")
    assert [(int(hit["doc_id"], 16), hit["num_similar"]) for hit in hits] == [(5, 5)]

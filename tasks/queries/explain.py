"""Explain why a served job and a served resume match: words, sentences, scores and missing skills.

Reads the served tables and encodes the sentences of both documents; writes nothing. Never imports prefect.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from data.conditions.statement import worst
from data.documents.facets import FACET_SCHEMA
from data.errors import InputError, StoreError
from data.redaction.placeholders import without_placeholders
from data.sample.esco import read_everyday_names, read_skill_names
from data.schema import DocumentKind, encoded_text
from data.vectors.filters import sql_string
from data.vectors.lance import LanceTable
from llm2vec_core.ranking.evidence import SkillFinder, near_threshold, nearest_pairs, split_sentences
from llm2vec_core.ranking.words import spellings
from tasks.conditions.skills import requirements, requirements_sentence, skill_evidence, split_document
from tasks.conditions.verdicts import Conditions
from tasks.encoders.fit import Fit, served_fit
from tasks.encoders.query_encoder import QueryEncoder, load_query_encoder
from tasks.encoders.tuned_fusion import served_weight
from tasks.queries.search import by_words, fuse_legs, ranking, require_query
from tasks.queries.served import require_same_space, served, served_table, split_as_served
from tasks.queries.similar import count_similar, newest_only, shown_instead, similar_columns
from tasks.run.context import utc_now
from tasks.run.settings import Settings

if TYPE_CHECKING:
    from llm2vec_core.pages import Table

MAX_SENTENCES = 64
"""Maximum number of sentences to encode per document. The explanation notes when there are more."""

MAX_PAIRS = 5
"""Maximum number of sentence pairs to show."""

BACKGROUND_SKILLS, BACKGROUND_SHARE, BACKGROUND_SEED = 200, 0.99, 42
"""Number of random skills to compare with a resume, and the share of them that a near skill must beat. Skills that the
job names are left out."""

_SHOWN = ("doc_id", "source", "source_id", "title")


def explain(
    settings: Settings, *, resume: str, job: str | None = None, query: str | None = None, checkpoint: str | None = None
) -> dict[str, Any]:
    """Explain why a served resume has its rank for a served job, or for a text.

    Args:
        settings: Settings of the run.
        resume: ``doc_id`` or ``source_id`` of a served resume.
        job: ``doc_id`` or ``source_id`` of a served job.
        query: Text of a job that is not served, instead of ``job``. Its ids and title are None in the result.
        checkpoint: Fail unless this checkpoint is served (default: explain with the served one).

    Returns:
        ``job`` and ``resume``. ``match``: score and rank of the pair, fused and in each search; a rank is None if the
        search does not find the resume. ``num_similar``: number of similar resumes, such as other versions of it.
        ``shown_instead``: doc_id of the newest of these, which rankings show; None if it is the resume itself, whose
        ranks are None otherwise. ``weight_of_vectors``: weight of vector search, None for fusion by rank.
        ``fit``: class of the pair (None for a short query), limits, and its share among random jobs and among random
        resumes; None if the served documents are too few.
        ``terms``: shared words, as the resume writes them, with their shares of the BM25 score, largest first.
        ``sentences``: the closest pairs.
        ``compared_sentences``: numbers of encoded and of all sentences. ``skills``: the skills that the job names;
        ``missing_skills``: the labels of those that the resume lacks or denies. ``requirements``: labels of the
        skills that the job asks for, ``met``, ``partly_met`` and ``missing``; None if the job names no known skill, so
        that nothing can be said. ``near_threshold``: cosine above which a
        sentence counts as near. ``conditions``: what one side asks for and whether the other meets it, with the words
        of both; ``verdict``: the worst outcome of these, None if neither side asks for anything.

    Raises:
        InputError: No such document is served, or several have this ``source_id``; or not one of ``job`` and ``query``
            is given.
        VectorSpaceError: ``checkpoint`` did not write the served vectors.
        StoreError: The resumes have no word index.
    """
    if (job is None) == (query is None):
        raise InputError("Expected a job or a query, and not both.", hint="Give the id of a job, or the text of one.")
    store = settings.store()
    pointer = served(store)
    if checkpoint is not None:
        require_same_space(store, pointer, checkpoint)
    resumes = served_table(store, pointer, "resume")
    if not resumes.has_word_index:
        raise StoreError(
            "The table of resumes has no word index, which explanations need for BM25.",
            hint="Run `l2v embed` to build the index.",
        )
    resume_row = served_document(resumes, "resume", resume)
    if query is None:
        job_row = served_document(served_table(store, pointer, "job"), "job", str(job))
        encoder = load_query_encoder(store, pointer.checkpoint, settings.encode)
    else:
        require_query(without_placeholders(query))
        encoder = load_query_encoder(store, pointer.checkpoint, settings.encode)
        job_row = _text_as_job(query, encoder, settings)
    texts = {"job": _text(job_row), "resume": _text(resume_row)}
    split = {kind: split_sentences(text) or [text] for kind, text in texts.items()}
    of_job, of_resume = (_Sentences.encoded(encoder, split[kind][:MAX_SENTENCES]) for kind in ("job", "resume"))
    named = _finder().find(texts["job"])
    threshold = _background_threshold(encoder, of_resume, named=named)
    in_resume = _finder().find(texts["resume"])
    unnamed = [skill for skill in named if skill not in in_resume]
    skills = skill_evidence(
        _finder(),
        named,
        split_document("job", job_row["title"], job_row["text"]),
        split_document("resume", resume_row["title"], resume_row["text"]),
        in_resume=in_resume,
        sentences=of_resume.texts,
        cosines=dict(zip(unnamed, encoder.encode(unnamed) @ of_resume.vectors.T, strict=True)),
        threshold=threshold,
    )
    weight = served_weight(settings, store, pointer)
    conditions = Conditions(settings.match.conditions, utc_now().date())
    verdicts = conditions.verdicts(conditions.facts("job", job_row), conditions.facts("resume", resume_row))
    terms = _contributions(resumes, texts["job"], texts["resume"], resume_row["doc_id"])
    return {
        "job": {name: job_row[name] for name in _SHOWN},
        "resume": {name: resume_row[name] for name in _SHOWN},
        "checkpoint": pointer.checkpoint,
        "generation": pointer.generation,
        "weight_of_vectors": weight,
        "match": {**_place(resumes, job_row, resume_row, settings, weight), "lexical_score": math.fsum(terms.values())},
        "num_similar": count_similar(resumes, [resume_row])[0],
        "shown_instead": shown_instead(resumes, resume_row),
        "fit": _fit(job_row, resume_row, served_fit(store, pointer)),
        "terms": _as_written(terms, texts["resume"]),
        "sentences": _near_sentences(of_job, of_resume),
        "compared_sentences": {kind: [min(len(found), MAX_SENTENCES), len(found)] for kind, found in split.items()},
        "skills": [asdict(skill) for skill in skills],
        "missing_skills": [
            skill.skill
            for skill in skills
            if skill.found in ("missing", "denied") and skill.need not in ("waived", "offered")
        ],
        "requirements": requirements(skills),
        "near_threshold": threshold,
        "verdict": worst(verdict.outcome for verdict in verdicts),
        "conditions": [verdict._asdict() for verdict in verdicts],
    }


def explanation_tables(found: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """An explanation as tables: title, columns, rows."""
    match, terms, weight = found["match"], found["terms"], found["weight_of_vectors"]
    weights = {"dense": "by rank", "lexical": "by rank"}
    if weight is not None:
        weights = {"dense": f"{weight:.2f}", "lexical": f"{1 - weight:.2f}"}
    legs = [
        [leg, weights.get(leg, ""), _figure(match[f"{key}score"]), str(match[f"{key}rank"] or "")]
        for leg, key in _LEGS.items()
    ]
    return [
        (f"{_name(found['job'])} and {_name(found['resume'])}", ["leg", "weight", "score", "rank"], legs),
        (
            f"{len(terms)} shared words, the weightiest {min(len(terms), _MAX_TERMS)}",
            ["word", "BM25"],
            [[term["term"], _figure(term["bm25"])] for term in terms[:_MAX_TERMS]],
        ),
        (
            "Nearest sentences",
            ["job", "resume", "cosine"],
            [[pair["job"], pair["resume"], _figure(pair["cosine"])] for pair in found["sentences"]],
        ),
        (
            f"{len(found['skills'])} skills that the job names; near is above {_figure(found['near_threshold'])}",
            ["skill", "the job says", "found", "in the resume", "section", "cosine"],
            [
                [
                    each["skill"],
                    each["need"],
                    each["found"],
                    each["sentence"] or (each["evidence"] if each["found"] == "named" else ""),
                    each["section"] if each["sentence"] else "",
                    _figure(each["cosine"]),
                ]
                for each in found["skills"]
            ],
        ),
        (
            f"{len(found['conditions'])} conditions, beside the scores; unknown: no answer that can be read",
            ["condition", "outcome", "asked", "answer"],
            [[each["condition"], each["outcome"], each["asked"], each["found"]] for each in found["conditions"]],
        ),
    ]


def explanation_page(explanations: Sequence[dict[str, Any]]) -> str:
    """Explanations of one job's resumes as a self-contained HTML page; a section for each resume."""
    from llm2vec_core.pages import render_page

    return render_page(
        "tasks.queries",
        "explanation.j2",
        "html",
        job=_name(explanations[0]["job"]),
        nobody_fits={found["fit"] and found["fit"]["class"] for found in explanations} == {"none"},
        checkpoint=explanations[0]["checkpoint"],
        resumes=[
            (
                _name(found["resume"]),
                fit_sentence(found),
                requirements_sentence(found["requirements"]),
                [_page_table(*table) for table in explanation_tables(found)],
                found,
            )
            for found in explanations
        ],
    )


def _page_table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    from llm2vec_core.pages import Cell, Column, Group, Table, TableRow

    return Table(
        caption=title,
        corner=columns[0],
        columns=tuple(Column(name, is_text=name in _TEXT_COLUMNS) for name in columns[1:]),
        groups=(Group("", tuple(TableRow(head, tuple(map(Cell, values))) for head, *values in rows)),),
    )


def _name(document: Mapping[str, Any]) -> str:
    return str(document["title"] or document["source_id"])


def fit_sentence(found: dict[str, Any]) -> str:
    """One sentence: whether the resume of an explanation fits the job, and why."""
    fit = found["fit"]
    if fit is None:
        return "Whether they fit is not known: too few documents are served, or `l2v match` has not fitted limits yet."
    cosine, limits = found["match"]["dense_score"], fit["limits"]
    verdict = {None: "No class, because the text is short", "none": "They do not fit"}.get(
        fit["class"], f"A {fit['class']} fit"
    )
    return (
        f"{verdict}: cosine {cosine:.3f}, possible from {limits['possible']:.3f}, strong from {limits['strong']:.3f}. "
        f"The resume is nearer to this job than to {fit['among_jobs']:.1%} of random jobs; the job is nearer to this "
        f"resume than to {fit['among_resumes']:.1%} of random resumes."
    )


_TEXT_COLUMNS = ("the job says", "section", "found", "in the resume", "resume", "outcome", "asked", "answer")
_LEGS = {"fused": "", "dense": "dense_", "lexical": "lexical_"}
_MAX_TERMS = 20


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


@dataclass(frozen=True)
class _Sentences:
    """Sentences of a document with their vectors, of length one."""

    texts: Sequence[str]
    vectors: Float32[np.ndarray, "sentences dim"]

    @classmethod
    def encoded(cls, encoder: QueryEncoder, texts: Sequence[str]) -> _Sentences:
        return cls(texts, encoder.encode(texts))


def _text(row: Mapping[str, Any]) -> str:
    return encoded_text(row["title"] or "", row["text"])


def served_document(table: LanceTable, kind: DocumentKind, identity: str, more: Sequence[str] = ()) -> dict[str, Any]:
    """A served document by its ``doc_id`` or its id in the source.

    Args:
        table: Table of the kind.
        kind: Kind of the document.
        identity: The id.
        more: Columns besides ids, title, text, vector and facets.

    Raises:
        InputError: No such document is served, or several have this id.
    """
    wanted = sql_string(identity)
    facets = [name for name in (*FACET_SCHEMA.names, "metadata") if table.has_column(name)]
    rows = table.read(
        [*_SHOWN, "text", "vector", *facets, *similar_columns(table), *more],
        where=f"doc_id = {wanted} OR source_id = {wanted}",
    ).to_pylist()
    if len(rows) == 1:
        return dict(rows[0])
    if not rows:
        raise InputError(
            f"No served {kind} has the id '{identity}'.",
            hint="Look for the id with `l2v search TEXT --in jobs` (or resumes).",
        )
    known = ", ".join(f"{row['doc_id']} (source {row['source']})" for row in rows)
    raise InputError(
        f"{len(rows)} served {kind}s have the id '{identity}' in their sources.", hint=f"Pass the doc_id: {known}."
    )


def _text_as_job(query: str, encoder: QueryEncoder, settings: Settings) -> dict[str, Any]:
    """A text in place of a served job, encoded as search encodes it."""
    text = without_placeholders(query)
    vector = encoder.encode(text, long_texts=settings.encode.long_texts)[0]
    return {**dict.fromkeys(_SHOWN), "text": text, "vector": vector}


def _place(
    table: LanceTable, job: Mapping[str, Any], resume: Mapping[str, Any], settings: Settings, weight: float | None
) -> dict[str, Any]:
    """Score and rank of a resume among a job's candidates; for other resumes, only the cosine."""
    vector, words = np.array(job["vector"], np.float32), split_as_served(table, _text(job))
    limit, shown = settings.match.candidates, newest_only(table)
    dense = ranking(table.nearest(vector, limit=limit, columns=["doc_id"], among=shown), {})
    lexical = ranking(by_words(table, words, limit=limit, where=None, among=shown), {})
    hits = fuse_legs(table, words, vector, dense=dense, lexical=lexical, weight=weight, limit=2 * limit)
    ranks = {doc_id: rank for rank, doc_id in enumerate(hits, start=1)}
    hit = hits.get(resume["doc_id"])
    return {
        "score": hit and hit.score,
        "rank": ranks.get(resume["doc_id"]),
        "dense_score": float(vector @ np.array(resume["vector"], np.float32)),
        "dense_rank": hit and hit.dense_rank,
        "lexical_rank": hit and hit.lexical_rank,
    }


def _fit(job: Mapping[str, Any], resume: Mapping[str, Any], fit: Fit | None) -> dict[str, Any] | None:
    """Class of a pair, its limits, and its shares: of random jobs for the resume, of random resumes for the job."""
    if fit is None:
        return None
    vectors = {"job": np.array([job["vector"]], np.float32), "resume": np.array([resume["vector"]], np.float32)}
    cosine = (vectors["job"] * vectors["resume"]).sum(axis=1)
    first = np.zeros(1, np.int64)
    (among_jobs,), (found,) = fit.of_pairs("resume", cosine, first, vectors["resume"])
    (among_resumes,), _ = fit.of_pairs("job", cosine, first, vectors["job"])
    limits = {"possible": fit.limits.possible, "strong": fit.limits.strong}
    shown = found if fit.has_class("job", _text(job)) else None
    return {"class": shown, "among_jobs": among_jobs, "among_resumes": among_resumes, "limits": limits}


def _contributions(table: LanceTable, job_text: str, resume_text: str, doc_id: str) -> dict[str, float]:
    """Share of each common word in the resume's BM25 score, which is a sum over words; largest first."""
    counts, held = Counter(split_as_served(table, job_text)), set(split_as_served(table, resume_text))
    added = {word: count * _bm25(table, word, doc_id) for word, count in counts.items() if word in held}
    return dict(sorted(added.items(), key=lambda pair: -pair[1]))


def _as_written(terms: Mapping[str, float], text: str) -> list[dict[str, Any]]:
    """Shares of the words that a text has for some tokens. An alias stands for several ("RN")."""
    found, shares = spellings(text, terms.keys()), dict[str, float]()
    for term, bm25 in terms.items():
        word = found.get(term, term)
        shares[word] = shares.get(word, 0.0) + bm25
    return [{"term": word, "bm25": bm25} for word, bm25 in sorted(shares.items(), key=lambda pair: -pair[1])]


def _bm25(table: LanceTable, word: str, doc_id: str) -> float:
    """BM25 of a document for one of its words, with word statistics of the whole table."""
    found = table.best_words([word], limit=1, columns=["doc_id"], where=f"doc_id = {sql_string(doc_id)}")
    return float(found["score"][0].as_py())


def _near_sentences(job: _Sentences, resume: _Sentences) -> list[dict[str, Any]]:
    pairs = nearest_pairs(job.vectors @ resume.vectors.T, MAX_PAIRS)
    return [{"job": job.texts[at.left], "resume": resume.texts[at.right], "cosine": at.cosine} for at in pairs]


def _background_threshold(encoder: QueryEncoder, resume: _Sentences, *, named: Mapping[str, str]) -> float:
    """Cosine that only few random skills, not named by the job, reach with any sentence of the resume."""
    drawn, vectors = _background(encoder)
    unnamed = [at for at, label in enumerate(drawn) if label not in named]
    return near_threshold(vectors[unnamed] @ resume.vectors.T, BACKGROUND_SHARE)


@lru_cache(maxsize=2)
def _background(encoder: QueryEncoder) -> tuple[list[str], Float32[np.ndarray, "skills dim"]]:
    """Random skills and their vectors. A server encodes them once: they take most of an explanation."""
    drawn = random.Random(BACKGROUND_SEED).sample(list(read_skill_names()), BACKGROUND_SKILLS)
    return drawn, encoder.encode(drawn)


@cache
def _finder() -> SkillFinder:
    return SkillFinder(read_skill_names(), everyday=read_everyday_names())

"""The application that ``l2v serve`` runs: search and explanations as JSON, health, and two pages.

Every request reads the pointer. So the request after a promotion finds the new state, and one under way ends on the
state that it began with: table versions are immutable.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import UTC, datetime
from importlib.resources import files
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

import data.errors
import llm2vec_core.errors
from data.schema import DocumentKind
from data.store.credentials import mask_credentials
from tasks.encoders.fit import nobody_fits
from tasks.errors import SettingsError, TaskError
from tasks.queries.explain import explain
from tasks.queries.opened import OpenedState
from tasks.queries.search import MAX_QUERY_CHARS, search
from tasks.queries.served import NothingServedError, served
from tasks.run.settings import Settings
from tasks.run.version import version
from tasks.serve.guard import Guard
from tasks.serve.judging import Judging

logger = logging.getLogger(__name__)

MAX_HITS = 100
"""Maximum number of documents in one answer."""

_MAX_WHERE_CHARS = 2_000
_MAX_ID_CHARS = 500
_MAX_FAULTS = 5

_KINDS: dict[str, DocumentKind] = {"jobs": "job", "resumes": "resume"}

_MISTAKES = (data.errors.InputError, llm2vec_core.errors.InputError, SettingsError)
_FAILURES = (data.errors.DataError, llm2vec_core.errors.CoreError, TaskError)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SearchQuery(_Body):
    """A search, as ``l2v search`` takes it."""

    query: str = Field(description="A few words, or a whole posting.", max_length=MAX_QUERY_CHARS)
    table: Literal["jobs", "resumes"] = Field("resumes", description="Table to search.")
    mode: Literal["hybrid", "dense", "lexical"] = Field(
        "hybrid", description="Rank by words (lexical), by vectors (dense), or by both (hybrid)."
    )
    limit: int = Field(10, ge=1, le=MAX_HITS, description="Maximum number of documents.")
    where: str | None = Field(
        None, max_length=_MAX_WHERE_CHARS, description="SQL filter over the columns of the table, applied first."
    )
    past: bool | None = Field(
        None, description="Also find jobs past their valid_through (default: as in match.past_jobs)."
    )


class ExplainQuery(_Body):
    """A resume, and the served job or the text to explain its rank for."""

    resume: str = Field(description="Served resume: its doc_id, or its id in the source.", max_length=_MAX_ID_CHARS)
    job: str | None = Field(
        None, description="Served job: its doc_id, or its id in the source.", max_length=_MAX_ID_CHARS
    )
    query: str | None = Field(
        None, description="Text of a job that is not served, instead of `job`.", max_length=MAX_QUERY_CHARS
    )


class FoundDocuments(BaseModel):
    """Documents that a search found, best first."""

    hits: list[dict[str, Any]] = Field(
        description="Per document: rank, doc_id, source, source_id, title, score, score and rank in each search, and "
        "the words of the query that it contains. fit: share of random documents of the other kind for which it has a "
        "lower cosine; fit_class: strong, possible or none; both null where they are not known. "
        "num_similar: older copies and versions that the document stands for. verdict and conditions: what one side "
        "asks for, with the words of both."
    )
    nobody_fits: bool | None = Field(None, description="Whether every class is none; null where one is not known.")


class Explanation(BaseModel):
    """Why a resume has its rank: see ``l2v explain --json``."""

    model_config = ConfigDict(extra="allow")

    match: dict[str, Any] = Field(description="Score and rank of the pair, fused and in each search.")
    terms: list[dict[str, Any]] = Field(description="Shared words with their shares of the BM25 score.")
    sentences: list[dict[str, Any]] = Field(description="The closest pairs of sentences.")
    skills: list[dict[str, Any]] = Field(description="Skills that the job names, and the evidence in the resume.")
    missing_skills: list[str] = Field(description="Skills that the resume lacks or denies.")
    requirements: dict[str, list[str]] | None = Field(
        None, description="Skills that the job asks for: met, partly_met, missing; null if it names none that is known."
    )


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok"] = "ok"
    generation: str = Field(description="Served generation.")
    checkpoint: str = Field(description="Checkpoint that wrote its vectors.")
    promoted_at: datetime = Field(description="Time of the promotion.")
    age_hours: float = Field(description="Hours since then.")
    judging: bool = Field(False, description="Whether answers on pairs are kept (l2v serve --judge).")


class ErrorAnswer(BaseModel):
    """Answer to a request that failed."""

    error: str = Field(description="What was found, and what was expected.")
    hint: str = Field(description="What to do.")


class _Page(NamedTuple):
    name: str
    media_type: str


_PAGES = {
    "/": _Page("page.html", "text/html"),
    "/page.js": _Page("page.js", "text/javascript"),
    "/judge.js": _Page("judge.js", "text/javascript"),
    "/page.css": _Page("page.css", "text/css"),
}

_STATUS = {
    400: "The query is wrong: the message says how.",
    401: "The token is missing or wrong.",
    413: "The request is too large.",
    422: "A field is missing, unknown or too long.",
    503: "Nothing is served yet, or too many searches are waiting.",
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": meaning} for status, meaning in _STATUS.items()
}


def build_api(
    settings: Settings,
    *,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    judging: Judging | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        settings: Settings with the store to read.
        token: Token that callers must send; None if nobody needs one.
        hosts: Host names that a request may be sent to; None for any.
        judging: Who judges pairs; None if no answers are kept.
    """
    api = FastAPI(
        title="llm2vec-pipelines",
        version=version(),
        description="Search the served jobs and resumes, and explain why they are found. "
        + ("Read only." if judging is None else "Only /judge writes: it keeps an answer on a pair."),
        docs_url=None,  # the pages of FastAPI load their scripts from elsewhere
        redoc_url=None,
        exception_handlers={
            RequestValidationError: _answer_malformed,
            HTTPException: _answer_unknown,
            Exception: _answer_bug,
            **dict.fromkeys((*_MISTAKES, *_FAILURES), _answer_error),
        },
    )

    opened = OpenedState()

    def find(asked: SearchQuery) -> dict[str, Any]:
        hits = search(
            settings,
            asked.query,
            kind=_KINDS[asked.table],
            mode=asked.mode,
            limit=asked.limit,
            where=asked.where,
            past_jobs=asked.past,
            opened=opened,
        )
        return {"hits": hits, "nobody_fits": nobody_fits(hits)}

    def explain_pair(asked: ExplainQuery) -> dict[str, Any]:
        return explain(settings, job=asked.job, query=asked.query, resume=asked.resume)

    @api.post("/search", response_model=FoundDocuments, responses=_ERRORS, summary="Search")
    def search_by_body(asked: SearchQuery) -> dict[str, Any]:
        """Find served documents. Texts about people belong in a body: addresses are logged on their way."""
        return find(asked)

    @api.get("/search", response_model=FoundDocuments, responses=_ERRORS, summary="Search by an address")
    def search_by_address(asked: Annotated[SearchQuery, Query()]) -> dict[str, Any]:
        """The same with parameters of the address, for short queries."""
        return find(asked)

    @api.post("/explain", response_model=Explanation, responses=_ERRORS, summary="Explain")
    def explain_by_body(asked: ExplainQuery) -> dict[str, Any]:
        """Explain why a resume matches a served job or a text: words, sentences, scores, missing skills."""
        return explain_pair(asked)

    @api.get("/explain", response_model=Explanation, responses=_ERRORS, summary="Explain by an address")
    def explain_by_address(asked: Annotated[ExplainQuery, Query()]) -> dict[str, Any]:
        """The same with parameters of the address."""
        return explain_pair(asked)

    @api.get("/health", response_model=Health, responses={503: _ERRORS[503]}, summary="Health")
    def health() -> Health:
        """State of the server; 503 while nothing is served. Needs no token."""
        pointer = served(settings.store())
        age = datetime.now(UTC) - pointer.promoted_at
        return Health(
            generation=pointer.generation,
            checkpoint=pointer.checkpoint,
            promoted_at=pointer.promoted_at,
            age_hours=round(age.total_seconds() / 3600, 2),
            judging=judging is not None,
        )

    if judging is not None:
        judging.add_routes(api, _ERRORS)

    @api.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(_reference_page(api.openapi()))

    for path, page in _PAGES.items():
        _add_page(api, path, page)
    api.add_middleware(Guard, token=token, hosts=hosts)
    return api


def _add_page(api: FastAPI, path: str, page: _Page) -> None:
    content = (files("tasks.serve") / page.name).read_bytes()
    api.get(path, include_in_schema=False)(lambda: Response(content, media_type=page.media_type))


def _reference_page(schema: dict[str, Any]) -> str:
    """The page that describes the API."""
    from llm2vec_core.pages.rendering import template_environment

    return template_environment("tasks.serve", autoescape=True).get_template("reference.j2").render(schema=schema)


def _answer(status: int, error: str, hint: str) -> JSONResponse:
    return JSONResponse({"error": mask_credentials(error), "hint": hint}, status_code=status)


async def _answer_error(
    _: Request, error: data.errors.DataError | llm2vec_core.errors.CoreError | TaskError
) -> JSONResponse:
    if isinstance(error, NothingServedError):
        return _answer(503, str(error), error.hint)
    if isinstance(error, _MISTAKES):
        return _answer(400, str(error), error.hint)
    logger.error("A request failed: %s", mask_credentials(str(error)))
    return _answer(500, str(error), error.hint)


async def _answer_malformed(_: Request, error: RequestValidationError) -> JSONResponse:
    """Name the faults of a request without repeating its values, which may be long or about people."""
    faults = [
        f"{'.'.join(map(str, fault['loc'][1:])) or 'the body'}: {fault['msg']}"
        for fault in error.errors()[:_MAX_FAULTS]
    ]
    return _answer(422, "; ".join(faults), "See /docs for the fields of a request.")


async def _answer_unknown(request: Request, error: HTTPException) -> JSONResponse:
    """Paths and methods that there are not."""
    return _answer(error.status_code, f"{request.method} {request.url.path[:100]}: {error.detail}.", "See /docs.")


async def _answer_bug(_: Request, error: Exception) -> JSONResponse:
    logger.error("A request failed: %s: %s", type(error).__name__, mask_credentials(str(error)))
    return _answer(500, f"{type(error).__name__}; the log of the server says more.", "This is a bug: please report it.")

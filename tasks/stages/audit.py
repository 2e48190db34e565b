"""Fairness audit of the served encoder: sampled resumes with other names, pronouns, schools and years.

The stored texts are redacted, so the audit adds these attributes. The versions go through the same redaction and
encoder as the night's documents ("as stored"). They are also encoded without redaction, which shows the effect of the
redaction. The result is stored under a hash of its inputs, so an unchanged state is not audited again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import date

import numpy as np
from jaxtyping import Float32

from data.redaction.fairness_lines import fairness_lines, pronoun_swaps
from data.redaction.placeholders import without_placeholders
from data.redaction.redact import Redactor
from data.schema import canonical_json, encoded_text, sha256_json
from data.store.base import Store
from data.store.records import LATEST_AUDIT
from data.vectors.filters import is_one_of
from data.vectors.lance import LanceTable
from data.vectors.pointer import Pointer
from llm2vec_core.evaluation.fairness import FairnessAudit, audit_fairness, render_fairness, render_statement
from llm2vec_core.pages.rendering import PageForm
from tasks.encoders.checkpoints import checkpoint_dir, encode_documents, load_encoder
from tasks.queries.served import past_jobs, served, served_table
from tasks.run.context import Run
from tasks.run.reports import AuditReport
from tasks.run.settings import Settings
from tasks.run.stage_task import stage_task

JOBS = 100
"""Maximum number of jobs that the audited resumes are ranked for."""

POOL = 2000
"""Maximum number of other resumes in each ranking."""

TOP_K = 10
"""Number of ranks that count as the top."""

SEED = 0
"""Seed of the samples."""

_STATEMENTS: dict[PageForm, str] = {"html": "statement.html", "markdown": "statement.md"}

_VERSION = 3


@stage_task("fairness audit")
def audit_served(run: Run) -> AuditReport:
    """Audit the served encoder on a seeded sample of resumes and jobs."""
    started = time.monotonic()
    store, settings = run.store, run.settings
    pointer = served(store)
    job_ids = sampled_jobs(settings, served_table(store, pointer, "job"), run.clock().date())
    key = f"audits/{_audit_id(settings, pointer, job_ids)}"
    raw = store.read(f"{key}/audit.json")
    audits = (
        {way: FairnessAudit.model_validate(found) for way, found in json.loads(raw).items()}
        if raw is not None
        else _audit(settings, store, pointer, job_ids)
    )
    run.lease.check()
    store.put_if_absent(f"{key}/audit.md", render_fairness(audits).encode())
    state = f"generation {pointer.generation}, encoder {pointer.checkpoint[:12]}, {run.clock():%d %B %Y}"
    for form, name in _STATEMENTS.items():
        store.put_if_absent(f"{key}/{name}", render_statement(audits, form, state=state).encode())
    content = canonical_json({way: audit.model_dump(mode="json") for way, audit in audits.items()}).encode()
    store.put_if_absent(f"{key}/audit.json", content)
    LATEST_AUDIT.put(store, key.split("/")[1])
    as_stored = audits["as stored"]
    return AuditReport(
        path=store.location(f"{key}/audit.md"),
        firing=as_stored.firing,
        encoded=0 if raw is not None else sum(audit.encoded for audit in audits.values()),
        findings=[each.sentence() for each in as_stored.attributes],
        seconds=time.monotonic() - started,
    )


def latest_audit(store: Store) -> str:
    """Latest audit as Markdown; empty before the first."""
    audit = LATEST_AUDIT.name(store)
    kept = None if audit is None else store.read(f"audits/{audit}/audit.md")
    return (kept or b"").decode()


def sampled_jobs(settings: Settings, jobs: LanceTable, day: date) -> list[str]:
    """The jobs to rank for: a seeded sample of those that matching uses. It changes only with one of them."""
    past = set() if settings.match.past_jobs else set(past_jobs(jobs, day))
    ids = sorted(jobs.read(["doc_id"])["doc_id"].to_pylist())
    in_order = (ids[place] for place in np.random.default_rng(SEED).permutation(len(ids)))
    return [doc_id for doc_id in in_order if doc_id not in past][:JOBS]


def _audit_id(settings: Settings, pointer: Pointer, job_ids: list[str]) -> str:
    decisive = [pointer.generation, pointer.jobs, pointer.resumes, sha256_json(job_ids), _sizes(settings)]
    return sha256_json([_VERSION, decisive, settings.redact.identity("resume"), fairness_lines()])[:32]


def _sizes(settings: Settings) -> dict[str, int]:
    return {"resumes": settings.audit.resumes, "jobs": JOBS, "pool": POOL, "top_k": TOP_K, "seed": SEED}


def _audit(settings: Settings, store: Store, pointer: Pointer, job_ids: list[str]) -> dict[str, FairnessAudit]:
    chosen = settings.audit
    jobs = served_table(store, pointer, "job")
    resumes = served_table(store, pointer, "resume")
    resume_ids = _sample(resumes, chosen.resumes + POOL, np.random.default_rng(SEED))
    audited, others = resume_ids[: chosen.resumes], resume_ids[chosen.resumes :]
    rows = resumes.read(["title", "text"], where=is_one_of("doc_id", audited)).to_pylist()
    encoder = load_encoder(checkpoint_dir(store, pointer.checkpoint), settings.encode)
    redactor = Redactor(settings.redact, "resume")
    ways: dict[str, Callable[[str], str]] = {
        "as stored": lambda text: without_placeholders(redactor.redact_text(text)),
        "without redaction": str,
    }
    return {
        way: audit_fairness(
            lambda texts: encode_documents(encoder, texts, "resume", settings.encode).vectors,
            [encoded_text(row["title"], row["text"]) for row in rows],
            jobs=_vectors(jobs, job_ids),
            pool=_vectors(resumes, others or audited),
            lists=fairness_lines(),
            rewrites=pronoun_swaps(),
            top_k=TOP_K,
            seed=SEED,
            prepare=prepare,
        )
        for way, prepare in ways.items()
    }


def _sample(table: LanceTable, count: int, draw: np.random.Generator) -> list[str]:
    ids = sorted(table.read(["doc_id"])["doc_id"].to_pylist())
    return [ids[place] for place in draw.permutation(len(ids))[:count]]


def _vectors(table: LanceTable, ids: list[str]) -> Float32[np.ndarray, "documents dim"]:
    column = table.read(["vector"], where=is_one_of("doc_id", ids))["vector"].combine_chunks()
    vectors: Float32[np.ndarray, "documents dim"] = column.flatten().to_numpy().reshape(len(column), -1)
    return vectors

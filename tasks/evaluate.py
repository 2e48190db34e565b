"""Evaluation: score systems on tasks, keep every result, decide what is served, write the report.

A result is kept under what decides it (system, content of the task, version of mteb), so that a night with nothing new
computes nothing and loads no model.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float32
from prefect import task
from prefect.cache_policies import NO_CACHE

from data.errors import InputError
from data.sample import write_test_job_task
from data.schema import canonical_json, sha256_json
from data.store import Store
from llm2vec_core.checkpoint import RECORD_NAME, fingerprint, read_record
from llm2vec_core.evaluation.eval_tasks import EvalTask, discover_eval_tasks, load_eval_task
from llm2vec_core.evaluation.gate import choose_encoder
from llm2vec_core.evaluation.report import (
    Decision,
    EvaluationReport,
    SystemReport,
    plot_main_scores,
    render_html,
    render_markdown,
)
from llm2vec_core.evaluation.sentence import TaskScore, evaluate_task
from llm2vec_core.evaluation.systems import System, SystemMode
from tasks.artifacts import progress
from tasks.checkpoints import checkpoint_dir, load_encoder, read_curves, resolve_encoder
from tasks.refs import CheckpointRef, EvaluateReport
from tasks.settings import Settings
from tasks.writing import utc_now

if TYPE_CHECKING:
    import numpy as np

LEXICAL_NAME = "bm25"
_HYBRID_SUFFIX = "+hybrid"
_LATEST_KEY = "reports/latest.json"


class StoredEncoder:
    """An encoder known by its directory: loaded when the first text comes, each text encoded once.

    The vectors are kept while it lives, so that a dense and a hybrid system, or two tasks, share them.
    """

    def __init__(self, directory: Path, *, token_budget: int) -> None:
        """Read what identifies the encoder; load nothing."""
        self._directory = directory
        self._token_budget = token_budget
        self._vectors: dict[str, np.ndarray] = {}
        has_record = (directory / RECORD_NAME).is_file()
        self.fingerprint = read_record(directory).fingerprint if has_record else fingerprint(directory)

    @property
    def embedding_dim(self) -> int:
        """Length of a vector."""
        return load_encoder(self._directory, self._token_budget).embedding_dim

    def encode(
        self, texts: Sequence[str], *, prompt: str | None = None
    ) -> Float32[np.ndarray, "num_texts embedding_dim"]:
        """One vector a text, in the order of the texts."""
        import numpy as np

        full = [f"{prompt or ''}{text}" for text in texts]
        new = [text for text in dict.fromkeys(full) if text not in self._vectors]
        if new:
            encoder = load_encoder(self._directory, self._token_budget)
            self._vectors.update(zip(new, encoder.encode(new), strict=True))
        return (
            np.stack([self._vectors[text] for text in full]) if full else np.empty((0, self.embedding_dim), np.float32)
        )


@task(task_run_name="evaluate", cache_policy=NO_CACHE)
def evaluate_recipe(
    settings: Settings, *, base: CheckpointRef, trained: CheckpointRef | None, run_id: str
) -> EvaluateReport:
    """Set BM25, the untrained base, the trained encoder and hybrid search side by side; choose what is served.

    Args:
        settings: Settings of the run.
        base: The recipe's base model, untrained.
        trained: The recipe's encoder; None when the recipe has no stages.
        run_id: Run that evaluates.
    """
    store = settings.store()
    encoders = {
        ref.fingerprint: StoredEncoder(
            checkpoint_dir(store, ref.fingerprint), token_budget=settings.encode.token_budget
        )
        for ref in (base, trained)
        if ref is not None
    }
    eval_tasks = _load_eval_tasks(settings)
    scorer = _Scorer(store, total=len(eval_tasks) * (len(encoders) + 2))
    with scorer:
        lexical = scorer.score(System("BM25", "lexical"), eval_tasks, description="keyword search")
        before = scorer.score(
            System("base, untrained", "dense", encoders[base.fingerprint]), eval_tasks, description=base.label
        )
        dense = [before]
        decision: Decision | None = None
        chosen = base
        if trained is not None:
            after = scorer.score(
                System("LLM2Vec, trained", "dense", encoders[trained.fingerprint]),
                eval_tasks,
                description=trained.label,
            )
            dense.append(after)
            decision = choose_encoder(
                candidate=(after.name, after.scores),
                incumbent=(before.name, before.scores),
                min_gain=settings.evaluate.min_gain,
            )
            chosen = trained if decision.served == after.name else base
        hybrid = scorer.score(
            System("hybrid", "hybrid", encoders[chosen.fingerprint]),
            eval_tasks,
            description=f"BM25 and {chosen.label}, fused",
        )
    systems = (lexical, *dense, hybrid)
    notes = _notes(store, trained, decision)
    curves = tuple(read_curves(store, trained.fingerprint)) if trained is not None else ()
    report = EvaluationReport(
        title="Evaluation",
        created_at=utc_now(),
        run_id=run_id,
        systems=systems,
        decision=decision,
        training=curves,
        notes=notes,
        machine=_machine(),
    )
    return scorer.finish(report, served=chosen.fingerprint)


@task(task_run_name="evaluate {names}", cache_policy=NO_CACHE)
def evaluate_named(settings: Settings, names: list[str], *, run_id: str) -> EvaluateReport:
    """Score encoders by name side by side: fingerprints, directories, model names, ``bm25``; ``NAME+hybrid`` fuses.

    Raises:
        InputError: A name that leads to no encoder.
    """
    store = settings.store()
    encoders: dict[Path, StoredEncoder] = {}
    systems: list[tuple[System, str]] = []
    for name in dict.fromkeys(names):
        if name == LEXICAL_NAME:
            systems.append((System("BM25", "lexical"), "keyword search"))
            continue
        mode: SystemMode = "hybrid" if name.endswith(_HYBRID_SUFFIX) else "dense"
        label, directory = resolve_encoder(settings, name.removesuffix(_HYBRID_SUFFIX))
        encoder = encoders.setdefault(directory, StoredEncoder(directory, token_budget=settings.encode.token_budget))
        systems.append((System(label if mode == "dense" else f"{label}{_HYBRID_SUFFIX}", mode, encoder), name))
    eval_tasks = _load_eval_tasks(settings)
    scorer = _Scorer(store, total=len(eval_tasks) * len(systems))
    with scorer:
        scored = tuple(scorer.score(system, eval_tasks, description=description) for system, description in systems)
    report = EvaluationReport(
        title="Evaluation", created_at=utc_now(), run_id=run_id, systems=scored, machine=_machine()
    )
    return scorer.finish(report, served="")


class _Scorer:
    """Scores systems, reuses what was scored before, and counts both."""

    def __init__(self, store: Store, *, total: int) -> None:
        self._store = store
        self._progress = progress("evaluate", total)
        self._started = time.monotonic()
        self.computed = 0
        self.reused = 0

    def __enter__(self) -> None:
        self._advance = self._progress.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._progress.__exit__(*exception)  # type: ignore[arg-type]

    def score(self, system: System, eval_tasks: Sequence[EvalTask], *, description: str) -> SystemReport:
        """Scores of a system on the tasks that it can do."""
        scores = []
        for eval_task in eval_tasks:
            if system.supports(eval_task.type):
                scores.append(self._score(system, eval_task))
            self._advance(1, note=f"{system.name}: {eval_task.name}")
        return SystemReport(
            name=system.name,
            description=description,
            fingerprint=system.fingerprint,
            mode=system.mode,
            scores=tuple(scores),
        )

    def finish(self, report: EvaluationReport, *, served: str) -> EvaluateReport:
        """Keep the report, unless the same was kept before."""
        name = _keep_report(self._store, report)
        return EvaluateReport(
            served=served,
            reason=report.decision.reason if report.decision else "",
            report=name,
            systems=[
                {
                    "name": system.name,
                    "fingerprint": system.fingerprint,
                    "tasks": {
                        score.task: {
                            "main_score": score.main_score,
                            "ci_low": score.ci_low,
                            "ci_high": score.ci_high,
                            "seconds": score.seconds,
                        }
                        for score in system.scores
                    },
                }
                for system in report.systems
            ],
            computed=self.computed,
            reused=self.reused,
            seconds=time.monotonic() - self._started,
        )

    def _score(self, system: System, eval_task: EvalTask) -> TaskScore:
        version = importlib.metadata.version("mteb")
        key = f"evaluations/{system.fingerprint}/{sha256_json([eval_task.content_sha256, version])[:32]}.json"
        known = self._store.read(key)
        if known is not None:
            self.reused += 1
            return TaskScore.model_validate_json(known)
        score = evaluate_task(system, eval_task)
        self._store.put_if_absent(key, score.model_dump_json().encode())
        self.computed += 1
        return score


def _load_eval_tasks(settings: Settings) -> list[EvalTask]:
    chosen = settings.evaluate
    eval_tasks = []
    if chosen.sample_table:
        with settings.store().scratch() as scratch:
            eval_tasks.append(load_eval_task(write_test_job_task(scratch / "JobResumeRetrieval")))
    folder = Path(chosen.tasks_dir).expanduser() if chosen.tasks_dir else None
    if folder is not None and (folder.is_dir() or not chosen.skip_missing_tasks_dir):
        eval_tasks += [
            load_eval_task(path, max_items=chosen.max_items) for path in discover_eval_tasks(folder, chosen.tasks)
        ]
    if not eval_tasks:
        raise InputError(
            "There is no evaluation task to run.", hint="Set evaluate.sample_table = true, or pass --tasks-dir."
        )
    return eval_tasks


def _keep_report(store: Store, report: EvaluationReport) -> str:
    """Keep a report under the hash of what it says; when it was written does not count."""
    name = sha256_json(report.model_dump(mode="json", exclude={"created_at", "run_id", "machine"}))[:16]
    if store.read(f"reports/{name}/report.json") is None:
        for file, content in plot_main_scores(report).items():
            store.put_if_absent(f"reports/{name}/{file}", content)
        store.put_if_absent(f"reports/{name}/report.html", render_html(report).encode())
        store.put_if_absent(f"reports/{name}/report.md", render_markdown(report).encode())
        store.put_if_absent(f"reports/{name}/report.json", report.model_dump_json(indent=2).encode())
    content = canonical_json({"report": name}).encode()
    current = store.read(_LATEST_KEY)
    if current != content:
        store.compare_and_swap(_LATEST_KEY, expected=current, content=content)
    return name


def report_file(store: Store, report: str, suffix: str) -> Path:
    """Path of a kept report as ``html``, ``md`` or ``json``."""
    return store.local_path(f"reports/{report}/report.{suffix}")


def _notes(store: Store, trained: CheckpointRef | None, decision: Decision | None) -> tuple[str, ...]:
    """What a reader must know beside the figures."""
    notes = [
        "The 100 job descriptions are written for this project and the resumes are composed from ESCO: the table "
        "compares systems on the same ground, it does not say how good matching is on your own data."
    ]
    if trained is not None:
        tokens = sum(curve.tokens for curve in read_curves(store, trained.fingerprint))
        if tokens < 1_000_000:
            notes.append(
                f"The encoder was trained on {tokens:,} tokens; the paper's recipe uses about 50 million (16M for MNTP "
                "and up to 33M for SimCSE). So short a run shows that every stage works. It often makes vectors worse "
                "before more training makes them better, and then the untrained base is served."
            )
    if decision is not None and decision.served == decision.incumbent:
        notes.append("Serving the base instead of a poorly trained encoder is the gate doing its work, not a failure.")
    return tuple(notes)


def _machine() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "mteb")}
    return {"processor": platform.machine(), "python": platform.python_version(), **versions}

"""Evaluation: score systems on tasks, decide which encoder is served, write the report.

Outcomes are stored under a key of all their inputs (``tasks.encoders.outcomes``). So a night with nothing new
computes nothing and loads no model, and a killed evaluation resumes where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from data.store.base import Store
from data.vectors.pointer import read_pointer
from llm2vec_core.errors import BaseModelError
from llm2vec_core.evaluation.api import build_report, system_report
from llm2vec_core.evaluation.protocols.mteb_results import write_mteb_results
from llm2vec_core.evaluation.protocols.registry import ScorableTask, can_score
from llm2vec_core.evaluation.protocols.scoring import Outcome
from llm2vec_core.evaluation.results import Decision, TaskOverlap
from llm2vec_core.evaluation.statistics.checkpoint_gate import choose_encoder, defend, succeed
from llm2vec_core.evaluation.statistics.compare import ScoredSystem
from llm2vec_core.evaluation.systems import PAIR_TYPES
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.evaluation.tasks.seen import disclose
from llm2vec_core.ranking.tuning import MIN_JUDGED_QUERIES
from llm2vec_core.training.settings import read_curves
from tasks.encoders.cards import write_model_card
from tasks.encoders.checkpoints import checkpoint_dir, store_candidate
from tasks.encoders.evaluation_reports import headlines, keep_report, report_markdown, report_plots, report_url
from tasks.encoders.judged import training_sets
from tasks.encoders.names import resolve_ours
from tasks.encoders.outcomes import OutcomeStore
from tasks.encoders.pins import find_fine_tuned
from tasks.encoders.systems import (
    NamedSystem,
    dense_system,
    expanded_system,
    hybrid_system,
    lexical_system,
    overlap_system,
    reranked_system,
    resolve_systems,
    tuned_system,
)
from tasks.run.context import Run
from tasks.run.reports import CheckpointRef, EvaluateReport
from tasks.run.settings import Settings
from tasks.run.stage_task import stage_task
from tasks.stages.chosen_tasks import load_tasks
from tasks.ui.artifacts import Advance, progress, publish_link, publish_markdown, publish_plot, publish_table


@stage_task("evaluate", retried=False)
def evaluate_recipe(
    run: Run,
    *,
    base: CheckpointRef,
    trained: CheckpointRef | None,
    unsupervised: CheckpointRef | None = None,
) -> EvaluateReport:
    """Compare BM25, references, base, trained encoder and hybrid search, and choose the encoder to serve.

    Rows are added where they can be scored: word overlap on pairs, BM25 with the training texts of the judgments,
    MiniLM and other references fine-tuned on the same judgments, hybrid search with a tuned weight, and hybrid search
    with reranking.

    Of the base, the trained encoder and the candidates of the settings, the one with the highest mean is preferred. It
    replaces the served encoder only if it is better beyond chance, and in no category worse beyond chance.

    Args:
        run: The run.
        base: The recipe's untrained base model.
        trained: The recipe's encoder; None or the untrained base when the recipe has no stages.
        unsupervised: The encoder before its supervised stage, if it was stored; an extra row of the report.
    """
    trained = trained if trained is not None and trained.trained else None
    store, settings, margin = run.store, run.settings, run.settings.evaluate.gate_margin
    eval_tasks = load_tasks(store, settings.evaluate)
    decision: Decision | None = None
    refused = False
    references = resolve_systems(store, settings, settings.evaluate.references)
    candidates = {name: store_candidate(store, name).fingerprint for name in settings.evaluate.candidates}
    cheap = [lexical_system(), *_cheap_rows(settings, eval_tasks)]
    encoders = [each.fingerprint for each in (trained, base, unsupervised) if each is not None]
    encoders += candidates.values()
    with progress("evaluate", _num_missing(run, eval_tasks, [*cheap, *references], encoders)) as advance:
        scorer = _Scorer(run, eval_tasks, advance=advance)
        by_words = [scorer.score(named) for named in cheap]
        preferred = before = scorer.score_checkpoint(base.fingerprint, name=BASE_NAME)
        dense = [before]
        if unsupervised is not None:
            dense.append(scorer.score_checkpoint(unsupervised.fingerprint, name=UNSUPERVISED_NAME))
        if trained is not None:
            after = scorer.score_checkpoint(trained.fingerprint, name=_trained_name(settings))
            dense.append(after)
            decision = choose_encoder(
                candidate=(after.name, after.outcomes),
                incumbent=(before.name, before.outcomes),
                margin=margin,
            )
            preferred = after if decision.served == after.name else before
        for name, fingerprint in candidates.items():
            candidate = scorer.score_checkpoint(fingerprint, name=name)
            dense.append(candidate)
            decision = choose_encoder(
                candidate=(candidate.name, candidate.outcomes),
                incumbent=(preferred.name, preferred.outcomes),
                margin=margin,
            )
            preferred = candidate if decision.served == candidate.name else preferred
        served = read_pointer(store)
        if served is not None and served.checkpoint != preferred.fingerprint:
            incumbent = next((entry for entry in dense if entry.fingerprint == served.checkpoint), None)
            if incumbent is None:
                incumbent = scorer.score_checkpoint(served.checkpoint, name="served until now")
                dense.append(incumbent)
            decision = succeed(
                candidate=(preferred.name, preferred.outcomes),
                incumbent=(incumbent.name, incumbent.outcomes),
                margin=margin,
            )
            refused = decision.refused
            preferred = incumbent if decision.served == incumbent.name else preferred
        if decision is not None and trained is not None and preferred.fingerprint != trained.fingerprint:
            plain = f"{decision.reason} {preferred.name} is served, not the encoder that the recipe trained."
            decision = decision.model_copy(update={"reason": plain})
        fine_tuned = _fine_tuned(store, settings, scorer)
        known = {entry.fingerprint for entry in (*by_words, *dense)}
        beside = [scorer.score(named) for named in references if named.system.fingerprint not in known]
        hybrid = scorer.score(hybrid_system(settings, preferred.named, name="hybrid"))
        tuned = scorer.score(tuned_system(settings, preferred.named, name="hybrid, tuned"))
        reranked, no_reranker = _score_reranked(run, scorer, preferred)
    entries = [*by_words, *beside, *fine_tuned, *dense, hybrid]
    entries += [entry for entry in (tuned, reranked) if entry is not None and entry.outcomes]
    report = build_report(
        "Evaluation",
        [entry.scored for entry in entries],
        eval_tasks=eval_tasks,
        created_at=run.clock(),
        run_id=run.id,
        headlines=headlines(eval_tasks),
        decision=decision,
        training=read_curves(checkpoint_dir(store, trained.fingerprint)) if trained is not None else (),
        notes=(*_notes(store, eval_tasks, trained, decision), *_tuning_offer(settings, eval_tasks)),
        not_run=_not_run(entries) | _not_fine_tuned(settings, fine_tuned) | no_reranker,
        seen=_seen(settings, eval_tasks),
    )
    for entry in dense:
        write_model_card(store, entry.fingerprint, scores=entry.scored.report.scores)
    found = scorer.report(
        keep_report(store, report), entries, decision=decision, served=preferred.fingerprint, refused=refused
    )
    return _publish(run, found)


@stage_task("evaluate {names}", retried=False)
def evaluate_named(
    run: Run, names: list[str], *, against: str | None = None, mteb_results: str | None = None
) -> EvaluateReport:
    """Score systems by name side by side: fingerprints, directories, model names, ``bm25``, ``NAME+hybrid``.

    Args:
        run: The run.
        names: Systems to score; with ``against``, the first is the candidate.
        against: Encoder that the candidate must not be worse than; ``served`` means the served one.
        mteb_results: Directory to write the results to in mteb's own format.

    Raises:
        InputError: A name matches no encoder, or nothing is served.
    """
    store, settings = run.store, run.settings
    if against == SERVED:
        against = _require_served(store)
    systems = resolve_systems(store, settings, [*names, *([against] if against else [])])
    eval_tasks = load_tasks(store, settings.evaluate)
    with progress("evaluate", _num_missing(run, eval_tasks, systems, ())) as advance:
        scorer = _Scorer(run, eval_tasks, advance=advance)
        entries = [scorer.score(named) for named in systems]
    decision: Decision | None = None
    if against:
        candidate, incumbent = entries[0], _entry_of(entries, resolve_systems(store, settings, [against])[0])
        decision = defend(
            candidate=(candidate.name, candidate.outcomes),
            incumbent=(incumbent.name, incumbent.outcomes),
            margin=settings.evaluate.gate_margin,
        )
    if mteb_results is not None:
        _write_mteb_results(Path(mteb_results), entries)
    scored = [entry.scored for entry in entries]
    report = build_report(
        "Evaluation",
        scored,
        eval_tasks=eval_tasks,
        created_at=run.clock(),
        run_id=run.id,
        headlines=headlines(eval_tasks),
        decision=decision,
    )
    refused = decision is not None and decision.served != entries[0].name
    found = scorer.report(keep_report(store, report), entries, decision=decision, served="", refused=refused)
    return _publish(run, found)


BASE_NAME = "base, before training"
"""Name in reports of the recipe's untrained base model: a plain decoder, or one with an adapter."""

UNSUPERVISED_NAME, SUPERVISED_NAME = "LLM2Vec, unsupervised", "LLM2Vec, supervised"
"""Names in reports of the recipe's encoder, without and with the supervised stage."""

SERVED = "served"
"""Name that always means the served encoder."""

_SMALL_TRAINING = 1_000_000
"""Number of training tokens below which a report warns."""


@dataclass(frozen=True)
class _Entry:
    """A system that was scored."""

    named: NamedSystem
    scored: ScoredSystem

    @property
    def name(self) -> str:
        return self.named.system.name

    @property
    def fingerprint(self) -> str:
        return self.named.system.fingerprint

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return self.scored.outcomes


class _Scorer:
    """Scores systems on the same tasks, and shows how many scores it computed."""

    def __init__(
        self,
        run: Run,
        eval_tasks: Sequence[ScorableTask],
        *,
        advance: Advance,
    ) -> None:
        self._outcomes = OutcomeStore(run.store, dtype=run.settings.encode.dtype, fence=run.lease.check)
        self._run = run
        self._eval_tasks = eval_tasks
        self._advance = advance
        self._started = time.monotonic()

    def score_checkpoint(self, fingerprint: str, *, name: str) -> _Entry:
        """Score a stored checkpoint, named by its role."""
        encoder = resolve_ours(checkpoint_dir(self._run.store, fingerprint))
        return self.score(dense_system(self._run.settings, encoder, name=name))

    def score(self, named: NamedSystem) -> _Entry:
        """Score a system on the tasks that it supports."""
        system, outcomes = named.system, []
        for eval_task in self._eval_tasks:
            if can_score(system, eval_task):
                before = self._outcomes.computed
                self._advance(0, note=f"{system.name}: {eval_task.name}")
                outcomes.append(self._outcomes.find_or_compute(system, eval_task))
                self._advance(self._outcomes.computed - before, note=f"{system.name}: {eval_task.name}")
        report = system_report(system, named.description, outcomes)
        return _Entry(named, ScoredSystem(report, tuple(outcomes)))

    def report(
        self, name: str, entries: Sequence[_Entry], *, decision: Decision | None, served: str, refused: bool
    ) -> EvaluateReport:
        """The report of the stage: id of the stored report, decision, and work done."""
        return EvaluateReport(
            served=served,
            reason=decision.reason if decision else "",
            findings=list(decision.findings) if decision else [],
            refused=refused,
            report=name,
            systems=[_summary(entry) for entry in entries],
            computed=self._outcomes.computed,
            reused=self._outcomes.reused,
            seconds=time.monotonic() - self._started,
        )


def _num_missing(
    run: Run, eval_tasks: Sequence[ScorableTask], systems: Sequence[NamedSystem], encoders: Sequence[str]
) -> int:
    """Number of scores to compute of systems and checkpoints, and of the fusions of the encoder that is chosen.

    Which one is chosen depends on scores, so the fusions of the first count for it, and the served one counts, too.
    """
    store, settings = run.store, run.settings
    served = read_pointer(store)
    known = dict.fromkeys([*encoders, *([served.checkpoint] if served is not None and encoders else [])])
    dense = [dense_system(settings, resolve_ours(checkpoint_dir(store, fingerprint))) for fingerprint in known]
    fused = [make(settings, dense[0]) for make in (hybrid_system, tuned_system)] if dense else []
    outcomes = OutcomeStore(store, dtype=settings.encode.dtype)
    return outcomes.count_missing((named.system for named in (*systems, *dense, *fused)), eval_tasks)


def _publish(run: Run, report: EvaluateReport) -> EvaluateReport:
    """Publish scores, decision, page and plots in the Prefect UI."""
    description = f"Evaluation of run {run.id}"
    publish_table("evaluation-scores", report.score_rows(), description=description)
    if report.reason:
        verdict = {"refused": report.refused, "reason": report.reason, "findings": " ".join(report.findings)}
        publish_table("evaluation-gate", [verdict], description=description)
    page = report_url(run, report.report)
    publish_link("evaluation-report", page, text="The report as one page", description=description)
    publish_markdown(
        "evaluation", f"[As one page]({page})\n\n{report_markdown(run.store, report.report)}", description=description
    )
    for name, png in report_plots(run.store, report.report):
        publish_plot(f"evaluation-{name.replace('_', '-')}", png, description=description)
    return report


def _score_reranked(run: Run, scorer: _Scorer, dense: _Entry) -> tuple[_Entry | None, dict[str, str]]:
    """Score hybrid search with reranking, or return the reason why there is no cross-encoder."""
    name = "hybrid + re-ranking"
    try:
        reranked = reranked_system(run.store, run.settings, dense.named, name=name)
    except (InputError, BaseModelError) as error:
        return None, {name: str(error)}
    return scorer.score(reranked), {}


def _seen(settings: Settings, eval_tasks: Sequence[ScorableTask]) -> list[TaskOverlap]:
    """What of the tasks is in the recipe's judgments, and in those that its base was trained on."""
    if not (settings.train.reads_judgments or settings.evaluate.trained_on):
        return []
    sets = training_sets(settings.judgments, settings.evaluate)
    return [found for each in eval_tasks if isinstance(each, EvalTask) for found in disclose(each, sets)]


def _cheap_rows(settings: Settings, eval_tasks: Sequence[ScorableTask]) -> list[NamedSystem]:
    """Rows by words alone that some task can be scored on."""
    rows = [overlap_system()] if any(each.type in PAIR_TYPES for each in eval_tasks) else []
    if settings.train.reads_judgments and settings.judgments.sources:
        expanded = expanded_system(settings)
        corpora = [
            each.tables["corpus"] for each in eval_tasks if isinstance(each, EvalTask) and "corpus" in each.tables
        ]
        if expanded.system.expansion is not None and any(map(expanded.system.expansion.count, corpora)):
            rows.append(expanded)
    return rows


def _fine_tuned(store: Store, settings: Settings, scorer: _Scorer) -> list[_Entry]:
    """References that were fine-tuned on the recipe's judgments with the same budget, if they were trained."""
    found = ((name, find_fine_tuned(store, settings, name)) for name in settings.evaluate.references)
    return [
        scorer.score_checkpoint(ref.fingerprint, name=_fine_tuned_name(name)) for name, ref in found if ref is not None
    ]


def _fine_tuned_name(reference: str) -> str:
    return f"{reference.rsplit('/', 1)[-1].rsplit(':', 1)[-1]}, fine-tuned on the same judgments"


def _not_fine_tuned(settings: Settings, fine_tuned: Sequence[_Entry]) -> dict[str, str]:
    """How to add a fine-tuned reference, if there is none."""
    names = [name for name in settings.evaluate.references if "+" not in name]
    if fine_tuned or not names or not settings.train.reads_judgments:
        return {}
    command = f"l2v train --base-model {names[0]} --set 'train.stages=[\"supervised\"]'"
    return {_fine_tuned_name(names[0]): f"Train it once with the same settings: {command}."}


def _trained_name(settings: Settings) -> str:
    return SUPERVISED_NAME if settings.train.reads_judgments else UNSUPERVISED_NAME


_COMPARED = {
    UNSUPERVISED_NAME: "Only the supervised recipe was trained; `l2v train` without its last stage keeps this encoder.",
    SUPERVISED_NAME: "The recipe has no supervised stage, or was not trained.",
    "all-minilm-l6-v2": "evaluate.references does not name it.",
}
"""Rows that a headline task's table should have, with the reason to show if one is missing."""


def _not_run(entries: Sequence[_Entry]) -> dict[str, str]:
    """Reasons of missing rows, by row."""
    names = [entry.name for entry in entries]
    return {name: reason for name, reason in _COMPARED.items() if not any(name in one for one in names)}


def _require_served(store: Store) -> str:
    pointer = read_pointer(store)
    if pointer is None:
        raise InputError("Nothing is served yet, so nothing can be compared with it.", hint="Run `l2v nightly` first.")
    return pointer.checkpoint


def _entry_of(entries: Sequence[_Entry], named: NamedSystem) -> _Entry:
    wanted = (named.system.mode, named.system.fingerprint)
    return next(entry for entry in entries if (entry.named.system.mode, entry.fingerprint) == wanted)


def _summary(entry: _Entry) -> dict[str, object]:
    """A system as printed by ``l2v evaluate --json``."""
    return {
        "name": entry.name,
        "fingerprint": entry.fingerprint,
        "tasks": {
            score.task: {
                "main_score": score.main_score,
                "ci_low": score.ci_low,
                "ci_high": score.ci_high,
                "seconds": score.seconds,
                "num_tokens": score.num_tokens,
                "tokens_per_s": score.tokens_per_s,
            }
            for score in entry.scored.report.scores
        },
    }


def _write_mteb_results(folder: Path, entries: Sequence[_Entry]) -> None:
    for entry in entries:
        results = {
            outcome.score.task: outcome.task_result for outcome in entry.outcomes if outcome.task_result is not None
        }
        if results:
            write_mteb_results(
                folder,
                name=entry.name,
                revision=entry.fingerprint,
                task_results=results,
                description=entry.named.description,
            )


def _tuning_offer(settings: Settings, eval_tasks: Sequence[ScorableTask]) -> list[str]:
    """Name the tasks whose judgments suffice to tune the weight of the vectors, unless it is tuned already."""
    if settings.match.fusion == "tuned":
        return []
    judged = {
        task.name: len({row["query"] for row in task.tables["qrels"]})
        for task in eval_tasks
        if isinstance(task, EvalTask) and task.type == "Retrieval"
    }
    return [
        f'{name} has {count} judged queries, enough to tune the weight of the vectors: set match.fusion = "tuned", and '
        f"match.judged to the task."
        for name, count in judged.items()
        if count >= MIN_JUDGED_QUERIES
    ]


def _notes(
    store: Store, eval_tasks: Sequence[ScorableTask], trained: CheckpointRef | None, decision: Decision | None
) -> tuple[str, ...]:
    """Notes on how to interpret the figures."""
    notes = [headline.note for headline in headlines(eval_tasks) if headline.note]
    if trained is not None:
        tokens = sum(curve.tokens for curve in read_curves(checkpoint_dir(store, trained.fingerprint)))
        if tokens < _SMALL_TRAINING:
            notes.append(
                f"The encoder was trained on {tokens:,} tokens; the paper's recipe uses about 50 million (16M for MNTP "
                "and up to 33M for SimCSE). So short a run shows that every stage works. It often makes vectors worse "
                "before more training makes them better, and then the base is served."
            )
    if decision is not None and decision.served == decision.incumbent == BASE_NAME:
        notes.append("Serving the base instead of a poorly trained encoder is the gate doing its work, not a failure.")
    return tuple(notes)

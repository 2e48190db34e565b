"""Evaluation from Python: score encoders on tasks side by side, and build a report.

Does not belong here: storing results between evaluations, and choosing the served encoder (``tasks.stages.evaluate``).
"""

from __future__ import annotations

import importlib.metadata
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from llm2vec_core.errors import InputError, require_extra
from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce
from llm2vec_core.evaluation.protocols.registry import ScorableTask, can_score
from llm2vec_core.evaluation.protocols.scoring import Outcome, evaluate_task
from llm2vec_core.evaluation.results import Decision, Headline, SystemReport, TaskOverlap
from llm2vec_core.evaluation.statistics.compare import ScoredSystem, compare_systems
from llm2vec_core.evaluation.systems import HOW_LONG_TEXTS_ARE_READ, LEXICAL_NAME, OVERLAP_NAME, System, SystemTraits
from llm2vec_core.evaluation.tasks.benchmarks import load_official
from llm2vec_core.evaluation.tasks.folders import discover_eval_tasks, load_eval_task
from llm2vec_core.model.modes import parse_encoder_name
from llm2vec_core.training.settings import StageCurve

if TYPE_CHECKING:
    from llm2vec_core.encoding.encoder import Encoder
    from llm2vec_core.evaluation.report import EvaluationReport


_NOTED_CUT_SHARE = 0.01


def evaluate(
    encoders: Encoder | str | Path | Sequence[Encoder | str | Path],
    tasks: str | Path | Sequence[str | Path],
    *,
    max_items: int | None = None,
    title: str = "Evaluation",
    show_progress: bool = False,
) -> EvaluationReport:
    """Score encoders on tasks and compare them.

    Every score has a 95 % interval. Each text is encoded once for all tasks. Tasks that a system does not support, such
    as classification with BM25, are skipped for it.

    Args:
        encoders: Systems to compare: encoders, names as in :meth:`Encoder.load`, ``bm25``, or ``jaccard`` (word overlap
            of pairs). A name can end in
            ``+instructed`` (the task's instruction before its queries), ``+hybrid`` (fused with BM25 by rank) or
            ``+tuned`` (fused by a weight tuned on judged queries).
        tasks: Tasks to score them on: task folders, folders of task folders, or names of MTEB tasks or benchmarks, such
            as ``STSBenchmark`` or ``MTEB(eng, v2)``, whose data come from the hub.
        max_items: Score a random sample of this many items of each task folder. Default: all.
        title: Heading of the report.
        show_progress: Show a progress bar.

    Returns:
        The report. ``report.save(directory)`` writes it as HTML, Markdown and JSON.

    Raises:
        MissingPackageError: The extra ``evaluation`` is not installed.
        InputError: A name matches no encoder or task.
        EvalTaskError: A task folder cannot be used, or the data of a task are not available.
    """
    require_extra("`evaluate`", "evaluation", "mteb", "jinja2", "matplotlib")
    named = [encoders] if isinstance(encoders, str | Path) or not isinstance(encoders, Sequence) else list(encoders)
    systems = _distinct([_system(each) for each in named])
    places = [tasks] if isinstance(tasks, str | Path) else tasks
    eval_tasks = [eval_task for place in places for eval_task in _load_tasks(place, max_items=max_items)]
    scored = []
    with tqdm(total=len(systems) * len(eval_tasks), unit="task", disable=not show_progress) as bar:
        for system, description in systems:
            outcomes = []
            for eval_task in eval_tasks:
                bar.set_description(f"{system.name}: {eval_task.name}")
                if can_score(system, eval_task):
                    outcomes.append(evaluate_task(system, eval_task))
                bar.update()
            scored.append(ScoredSystem(system_report(system, description, outcomes), tuple(outcomes)))
    run_id = uuid.uuid4().hex[:8]
    return build_report(title, scored, eval_tasks=eval_tasks, created_at=datetime.now(UTC), run_id=run_id)


def system_report(system: System, description: str, outcomes: Sequence[Outcome]) -> SystemReport:
    """A system and its scores, as shown in a report."""
    return SystemReport(
        name=system.name,
        description=description,
        fingerprint=system.fingerprint,
        mode=system.mode,
        traits=system.traits,
        scores=tuple(outcome.score for outcome in outcomes),
    )


def build_report(
    title: str,
    systems: Sequence[ScoredSystem],
    *,
    eval_tasks: Sequence[ScorableTask],
    created_at: datetime,
    run_id: str,
    headlines: Sequence[Headline] = (),
    decision: Decision | None = None,
    training: Sequence[StageCurve] = (),
    notes: Sequence[str] = (),
    not_run: Mapping[str, str] | None = None,
    seen: Sequence[TaskOverlap] = (),
) -> EvaluationReport:
    """Compare systems that were scored on the same tasks.

    Args:
        title: Heading of the report.
        systems: The systems, in the order of the columns.
        eval_tasks: Tasks that they were scored on.
        created_at: Time of the evaluation, with a time zone.
        run_id: Identity of the evaluation.
        headlines: Tasks that get their own section.
        decision: The encoder to serve from now on, if the evaluation decided that.
        training: Curves of the stages behind a candidate.
        notes: Paragraphs of plain text. Notes on cut texts are added.
        not_run: Missing systems, with the reason.
        seen: What of the tasks is in training sets.
    """
    from llm2vec_core.evaluation.report import EvaluationReport

    side_by_side = compare_systems(systems, eval_tasks, headlines=[headline.task for headline in headlines])
    return EvaluationReport(
        title=title,
        created_at=created_at,
        run_id=run_id,
        systems=tuple(system.report for system in systems),
        averages=side_by_side.averages,
        comparisons=side_by_side.comparisons,
        distributions=side_by_side.distributions,
        slices=side_by_side.slices,
        worst=side_by_side.worst,
        decision=decision,
        training=tuple(training),
        notes=(*notes, *_cut_notes(systems)),
        not_run=dict(not_run or {}),
        headlines=tuple(headlines),
        seen=tuple(seen),
        machine=_machine(),
    )


def _cut_notes(systems: Sequence[ScoredSystem]) -> list[str]:
    """Where a system left out more than a hundredth of a task's tokens."""
    notes = []
    for system in systems:
        for score in system.report.scores:
            total = score.num_tokens + score.num_cut_tokens
            if score.num_cut_tokens > _NOTED_CUT_SHARE * total:
                notes.append(
                    f"{system.report.name} read {score.num_tokens:,} of {total:,} tokens of the texts that it encoded "
                    f"for {score.task}; {score.num_cut_tokens / total:.1%} were cut. With +parts after its name, an "
                    "encoder reads texts whole."
                )
    return notes


def _machine() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "mteb")}
    return {"processor": platform.machine(), "python": platform.python_version(), **versions}


def _system(encoder: Encoder | str | Path) -> tuple[System, str]:
    """A system and its description in one phrase.

    Raises:
        InputError: The name matches no encoder, or requests reranking.
    """
    from llm2vec_core.encoding.encoder import Encoder

    if isinstance(encoder, Encoder):
        return _dense_system(encoder)
    if str(encoder).lower() == LEXICAL_NAME:
        return System("BM25", "lexical"), "keyword search"
    if str(encoder).lower() == OVERLAP_NAME:
        return System("Word overlap", "overlap"), "shared words of two texts (Jaccard)"
    name = parse_encoder_name(str(encoder))
    if name.ranking == "reranked":
        raise InputError(
            f"'{name}' asks for re-ranking, which needs a cross-encoder.",
            hint="Leave +reranked out, or run `l2v evaluate` with match.reranker set.",
        )
    if name.expanded:
        raise InputError(
            f"'{name}' asks for training texts, which belong to a configuration.",
            hint="Leave +expanded out, or run `l2v evaluate` with judgments.sources set.",
        )
    system, description = _dense_system(Encoder.load(str(replace(name, instructed=False, ranking=None))))
    if name.instructed:
        system = replace(system, name=f"{system.name}, instructed", instructed=True)
        description = f"{description}, with the instruction of each task"
    if name.ranking is not None:
        system = replace(system, name=f"{system.name}, {name.ranking}", mode=name.ranking)
        description = f"BM25 and {description}"
    return system, description


def _dense_system(encoder: Encoder) -> tuple[System, str]:
    spec, traits = encoder.spec, None
    if encoder.pooling_mode is not None and spec is not None and not encoder.prompted:
        traits = SystemTraits(
            base_model=spec.base_name,
            attention=encoder.attention,
            stages=spec.stages,
            pooling_mode=encoder.pooling_mode,
            echo=encoder.echo,
            standardised=encoder.standardised,
        )
    name = encoder.name if traits is None else traits.title
    if encoder.prompted:
        name = f"{name} {'Uni' if encoder.attention == 'causal' else 'Bi'}, prompted"
    identity = encoder.fingerprint
    if encoder.long_texts != "cut":
        name, identity = f"{name}, {HOW_LONG_TEXTS_ARE_READ[encoder.long_texts]}", f"{identity} {encoder.long_texts}"
    return System(name, "dense", EncodeOnce(identity, lambda: encoder), traits), encoder.name


def _distinct(systems: Sequence[tuple[System, str]]) -> list[tuple[System, str]]:
    """Remove repeated systems, and add fingerprints to names that several systems share."""
    once = {(system.mode, system.fingerprint): (system, description) for system, description in systems}
    names = [system.name for system, _ in once.values()]
    return [
        (system, description)
        if names.count(system.name) == 1
        else (replace(system, name=f"{system.name} ({system.fingerprint[:6]})"), description)
        for system, description in once.values()
    ]


def _load_tasks(place: str | Path, *, max_items: int | None) -> Iterator[ScorableTask]:
    """Tasks of a folder, or of a name in MTEB."""
    folder = Path(place).expanduser()
    if isinstance(place, Path) or folder.is_dir() or len(folder.parts) > 1:
        for found in discover_eval_tasks(folder):
            yield load_eval_task(found, max_items=max_items)
    else:
        yield from load_official(place)

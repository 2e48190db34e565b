"""Scores that an evaluation would compute, and the encoders that it may choose.

Mirrors ``tasks.stages.evaluate.evaluate_recipe`` without encoding a text: it counts the outcomes that are not stored.
Where the choice depends on such outcomes, all possible choices are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

from data.vectors.pointer import read_pointer
from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce
from llm2vec_core.evaluation.protocols.registry import ScorableTask, can_score
from llm2vec_core.evaluation.protocols.scoring import Outcome
from llm2vec_core.evaluation.statistics.checkpoint_gate import choose_encoder, succeed
from llm2vec_core.evaluation.systems import System
from tasks.encoders.checkpoints import checkpoint_dir, find_untrained
from tasks.encoders.names import resolve_ours
from tasks.encoders.outcomes import OutcomeStore
from tasks.encoders.pins import find_unsupervised
from tasks.encoders.systems import (
    NamedSystem,
    dense_system,
    hybrid_system,
    lexical_system,
    reranked_system,
    resolve_systems,
    tuned_system,
)
from tasks.preview.records import CountRange
from tasks.run.context import Run
from tasks.run.reports import CheckpointRef
from tasks.stages.chosen_tasks import load_tasks

NEW = "new"
"""Stands for the fingerprint of an encoder that is not made yet."""


@dataclass(frozen=True)
class ScorePlan:
    """Scores to compute, and fingerprints of the encoders that may be served afterwards (:data:`NEW`: not made yet)."""

    scores: CountRange
    served: tuple[str, ...]


def plan_scores(run: Run, trained: CheckpointRef | None, *, is_new: bool, known_references: Iterable[str]) -> ScorePlan:
    """Count the scores that an evaluation of the recipe would compute.

    Args:
        run: A rehearsal.
        trained: The recipe's encoder, if it exists.
        is_new: Whether the recipe's encoder is still to be trained.
        known_references: Encoders of ``evaluate.references`` that an earlier night scored. Others are not looked for,
            because that may download weights.

    Raises:
        InputError: There is no evaluation task, or a named one is missing.
    """
    return _Planner(run, load_tasks(run.store, run.settings.evaluate)).plan(trained, is_new, {*known_references})


@dataclass(frozen=True)
class _Planned:
    """An encoder of the comparison; ``system`` is None if it is not made yet."""

    name: str
    fingerprint: str
    system: NamedSystem | None


class _Planner:
    def __init__(self, run: Run, eval_tasks: Sequence[ScorableTask]) -> None:
        self._run, self._tasks = run, eval_tasks
        self._outcomes = OutcomeStore(run.store, dtype=run.settings.encode.dtype)

    def plan(self, trained: CheckpointRef | None, is_new: bool, known: set[str]) -> ScorePlan:
        store, settings = self._run.store, self._run.settings
        base = self._encoder("base", find_untrained(store, settings, settings.train.base_model))
        after = None
        if is_new or (trained is not None and trained.trained):
            after = self._encoder("trained", None if is_new else trained)
        unsupervised = find_unsupervised(store, settings)
        before = None if unsupervised is None else self._encoder("unsupervised", unsupervised)
        dense = [each for each in (base, before, after) if each is not None]
        certain = self._missing(lexical_system()) + sum(self._missing_of(each) for each in dense)
        references = self._references(known, {each.fingerprint for each in dense})
        choices = list(self._choices(base, after, dense))
        return ScorePlan(
            CountRange.of(certain) + references + CountRange.of(*(count for _, count in choices)),
            tuple(dict.fromkeys(chosen.fingerprint for chosen, _ in choices)),
        )

    def _choices(self, base: _Planned, after: _Planned | None, dense: list[_Planned]) -> Iterator[tuple[_Planned, int]]:
        """Encoders that may be chosen, with the number of scores that only this choice needs."""
        served = read_pointer(self._run.store)
        for preferred in self._better(after, base, defending=False) if after is not None else [base]:
            if served is None or served.checkpoint == preferred.fingerprint:
                yield preferred, self._missing_fused(preferred)
                continue
            incumbent = next((each for each in dense if each.fingerprint == served.checkpoint), None)
            count = 0
            if incumbent is None:
                encoder = resolve_ours(checkpoint_dir(self._run.store, served.checkpoint))
                named = dense_system(self._run.settings, encoder, name="served")
                incumbent = _Planned("served", served.checkpoint, named)
                count = self._missing(named)
            for chosen in self._better(preferred, incumbent, defending=True):
                yield chosen, count + self._missing_fused(chosen)

    def _better(self, candidate: _Planned, incumbent: _Planned, *, defending: bool) -> list[_Planned]:
        """The better of two encoders, or both if a score of one is not computed yet."""
        outcomes = [self._stored(candidate.system), self._stored(incumbent.system)]
        if any(each is None for each in outcomes):
            return [candidate, incumbent]
        judge = succeed if defending else choose_encoder
        decision = judge(
            candidate=(candidate.name, cast(list[Outcome], outcomes[0])),
            incumbent=(incumbent.name, cast(list[Outcome], outcomes[1])),
            margin=self._run.settings.evaluate.gate_margin,
        )
        return [candidate if decision.served == candidate.name else incumbent]

    def _encoder(self, name: str, ref: CheckpointRef | None) -> _Planned:
        if ref is None:
            return _Planned(name, NEW, None)
        encoder = resolve_ours(checkpoint_dir(self._run.store, ref.fingerprint))
        return _Planned(name, ref.fingerprint, dense_system(self._run.settings, encoder, name=name))

    def _references(self, known: set[str], compared: set[str]) -> CountRange:
        """Scores of references and candidates; for new ones that nobody looked for yet, from none to all."""
        settings = self._run.settings
        names = (*settings.evaluate.references, *settings.evaluate.candidates)
        found = resolve_systems(self._run.store, settings, [name for name in names if name in known])
        count = sum(self._missing(each) for each in found if each.system.fingerprint not in compared)
        num_new = len([name for name in names if name not in known])
        return CountRange(low=count, high=count + num_new * self._num_tasks(_unmade("dense")))

    def _missing_fused(self, dense: _Planned) -> int:
        """Scores of the fused rankings of an encoder that are not stored."""
        settings, reranker = self._run.settings, self._run.settings.match.reranker
        if dense.system is None:
            modes = ["hybrid", "tuned", *(["hybrid"] if reranker else [])]  # what is fused can be reranked
            return sum(self._num_tasks(_unmade(mode)) for mode in modes)
        fused = [hybrid_system(settings, dense.system), tuned_system(settings, dense.system)]
        if reranker is not None and Path(reranker).expanduser().is_dir():
            fused.append(reranked_system(self._run.store, settings, dense.system))
        return sum(self._missing(each) for each in fused)

    def _missing_of(self, planned: _Planned) -> int:
        return self._num_tasks(_unmade("dense")) if planned.system is None else self._missing(planned.system)

    def _missing(self, named: NamedSystem) -> int:
        tasks = [each for each in self._tasks if can_score(named.system, each)]
        return sum(self._outcomes.find(named.system, each) is None for each in tasks)

    def _stored(self, named: NamedSystem | None) -> list[Outcome] | None:
        """All outcomes of a system; None if one is missing."""
        if named is None:
            return None
        found = [self._outcomes.find(named.system, each) for each in self._tasks if can_score(named.system, each)]
        return None if any(each is None for each in found) else cast(list[Outcome], found)

    def _num_tasks(self, system: System) -> int:
        return sum(can_score(system, each) for each in self._tasks)


def _unmade(mode: str) -> System:
    """A system of an encoder that does not exist; only its mode counts."""

    def load() -> NoReturn:
        raise AssertionError("a preview encodes nothing")

    return System(NEW, mode, EncodeOnce(NEW, load))  # type: ignore[arg-type]  # the mode of a caller in this module

"""Stored evaluation outcomes: each system is scored once per task, and later runs find the score by its key.

The key of an outcome covers the system's fingerprint (weights, tokenizer, attention, pooling, reading), the content of
the task, whether intervals draw clusters, the prompt, the precision and the version of mteb. A killed evaluation
resumes after its last outcome. The sample has outcomes of fixed encoders under the same keys. Never imports prefect.
"""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from data.sample.outcomes import bundled_outcome
from data.schema import sha256_json
from data.store.base import Store
from llm2vec_core.evaluation.protocols.registry import ScorableTask, can_score
from llm2vec_core.evaluation.protocols.scoring import Outcome, evaluate_task
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.evaluation.statistics.stats import Estimate
from llm2vec_core.evaluation.systems import System
from llm2vec_core.evaluation.tasks.clusters import item_clusters
from llm2vec_core.evaluation.tasks.queries import QueryScores
from llm2vec_core.evaluation.tasks.types import WORD_TASK_TYPE

_VERSION = 4
"""Record version; bump to invalidate old outcomes."""


_BY_QUERY = "by_query/"


class OutcomeStore:
    """Scores systems on tasks, and reuses stored outcomes.

    Attributes:
        computed: Outcomes computed by this object.
        reused: Outcomes found in the store, or in the sample.
    """

    def __init__(self, store: Store, *, dtype: str = "float32", fence: Callable[[], None] | None = None) -> None:
        """Start with both counts at zero.

        Args:
            store: Where outcomes are kept.
            dtype: Number type that encoders compute in (``EncodeSettings.dtype``).
            fence: Called before an outcome is stored; raises if the run lost its lease.
        """
        self._store = store
        self._dtype = dtype
        self._fence = fence
        self.computed = 0
        self.reused = 0

    def find_or_compute(self, system: System, eval_task: ScorableTask) -> Outcome:
        """The outcome of a system on a task."""
        key = outcome_key(system, eval_task, dtype=self._dtype)
        known = self.find(system, eval_task)
        if known is not None:
            self.reused += 1
            return known
        outcome = evaluate_task(system, eval_task)
        if self._fence is not None:
            self._fence()
        self._keep(key, outcome)
        self.computed += 1
        return outcome

    def count_missing(self, systems: Iterable[System], eval_tasks: Sequence[ScorableTask]) -> int:
        """Number of outcomes of these systems on the tasks that they support which are not stored."""
        keys = {
            outcome_key(system, eval_task, dtype=self._dtype)
            for system in systems
            for eval_task in eval_tasks
            if can_score(system, eval_task)
        }
        return sum(self._read(f"{key}.json") is None for key in keys)

    def find(self, system: System, eval_task: ScorableTask) -> Outcome | None:
        """The outcome of a system on a task, from the store or the sample; None if it was never computed."""
        key = outcome_key(system, eval_task, dtype=self._dtype)
        score, arrays = self._read(f"{key}.json"), self._read(f"{key}.npz")
        if score is None or arrays is None:
            return None
        record = TaskScore.model_validate_json(score)
        with np.load(io.BytesIO(arrays), allow_pickle=False) as found:
            estimate = Estimate(record.main_score, found.get("deviations"))
            names = [name.removeprefix(_BY_QUERY) for name in found if name.startswith(_BY_QUERY)]
            by_query = {name: found[_BY_QUERY + name] for name in names}
            queries = QueryScores(by_query, found["first"].tolist(), item_clusters(eval_task)) if names else None
        task_result = self._read(f"{key}.mteb.json")
        return Outcome(record, estimate, queries, task_result.decode() if task_result is not None else None)

    def _read(self, key: str) -> bytes | None:
        """A file of an outcome, from the store or from the sample, which has those of fixed encoders."""
        found = self._store.read(key)
        return bundled_outcome(key) if found is None else found

    def _keep(self, key: str, outcome: Outcome) -> None:
        """Store an outcome. The score is written last, because it makes the outcome known."""
        arrays: dict[str, np.ndarray | None] = {"deviations": outcome.estimate.deviations}
        if outcome.queries is not None:
            arrays |= {_BY_QUERY + name: values for name, values in outcome.queries.metrics.items()}
            arrays["first"] = np.array(outcome.queries.first)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{name: array for name, array in arrays.items() if array is not None})
        if outcome.task_result is not None:
            self._store.put_if_absent(f"{key}.mteb.json", outcome.task_result.encode())
        self._store.put_if_absent(f"{key}.npz", buffer.getvalue())
        self._store.put_if_absent(f"{key}.json", outcome.score.model_dump_json().encode())


def outcome_key(system: System, eval_task: ScorableTask, *, dtype: str = "float32") -> str:
    """Key of the outcome of a system on a task, without a suffix."""
    decisive: dict[str, object] = {
        "content": eval_task.content_sha256,
        "prompt": "",
        "precision": dtype,
        "label_shift": system.label_shift if eval_task.type == WORD_TASK_TYPE else None,
        "mteb": importlib.metadata.version("mteb"),
        "version": _VERSION,
    }
    if item_clusters(eval_task) is not None:
        decisive["drawn"] = "clusters"  # earlier versions drew every item by itself
    return f"evaluations/{system.fingerprint}/{sha256_json(decisive)[:32]}"

"""The checkpoint gate: which of two encoders is served.

The first, simple form: the mean of the main scores over the tasks that both were scored on. Does not belong here:
computing scores (``sentence``) and moving what is served (``data.generations``).
"""

from __future__ import annotations

from collections.abc import Sequence

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.report import Decision
from llm2vec_core.evaluation.sentence import TaskScore


def choose_encoder(
    *,
    candidate: tuple[str, Sequence[TaskScore]],
    incumbent: tuple[str, Sequence[TaskScore]],
    min_gain: float = 0.0,
) -> Decision:
    """Choose between a new encoder and the one it would replace.

    Args:
        candidate: Name and scores of the new encoder.
        incumbent: Name and scores of the encoder that is kept unless the new one is better.
        min_gain: Points on the 0-100 scale by which the candidate's mean must be higher.

    Raises:
        InputError: No task was scored for both.
    """
    scores = [{score.task: score.main_score for score in scored} for _, scored in (candidate, incumbent)]
    shared = sorted(scores[0].keys() & scores[1].keys())
    if not shared:
        raise InputError(
            f"{candidate[0]} and {incumbent[0]} share no evaluation task, so neither can be preferred.",
            hint="Set evaluate.sample_table, or evaluate.tasks_dir.",
        )
    means = [sum(of[task] for task in shared) / len(shared) for of in scores]
    is_better = means[0] > means[1] + min_gain
    names = (candidate[0], incumbent[0]) if is_better else (incumbent[0], candidate[0])
    best, other = (means[0], means[1]) if is_better else (means[1], means[0])
    verdict = "is better than" if is_better else "is not beaten by"
    reason = (
        f"{names[0]} ({best:.1f}) {verdict} {names[1]} ({other:.1f}) in the mean of the main scores of "
        f"{', '.join(shared)}."
    )
    return Decision(served=names[0], reason=reason, candidate=candidate[0], incumbent=incumbent[0])

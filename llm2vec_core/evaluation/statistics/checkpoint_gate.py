"""The checkpoint gate: decide whether a new encoder may replace the served one.

Does not belong here: computing scores (``scoring``), the statistics (``stats``), and moving what is served
(``data.vectors.pointer``).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.protocols.scoring import Outcome
from llm2vec_core.evaluation.results import Decision
from llm2vec_core.evaluation.statistics.compare import category_estimates
from llm2vec_core.evaluation.statistics.stats import (
    LEVEL,
    Estimate,
    holm,
    mean_estimate,
    probability_not_better,
    probability_not_worse,
)


@dataclass(frozen=True)
class CategoryFinding:
    """The candidate against the incumbent in one category.

    Attributes:
        category: Name of the category.
        tasks: Tasks with scores of both.
        difference: Mean main score of the candidate minus that of the incumbent, in points.
        p_value: P-value of the hypothesis that the candidate is not worse by more than the margin; one-sided,
            Holm-corrected over the categories.
        margin: Accepted loss in points.
    """

    category: str
    tasks: tuple[str, ...]
    difference: Estimate
    p_value: float
    margin: float

    @property
    def is_worse(self) -> bool:
        """Whether the candidate is significantly worse by more than the margin."""
        return self.p_value < LEVEL

    def sentence(self) -> str:
        """The finding in words."""
        verdict = (
            f"worse by more than the accepted {self.margin:g}"
            if self.is_worse
            else "not shown to be worse than accepted"
        )
        return f"{self.category}: {_in_points(self.difference)}, {verdict}."


def judge_categories(
    *, candidate: Sequence[Outcome], incumbent: Sequence[Outcome], margin: float
) -> list[CategoryFinding]:
    """Compare two encoders by category, on the tasks with scores of both.

    Args:
        candidate: Outcomes of the new encoder.
        incumbent: Outcomes of the served encoder.
        margin: Points that a category may lose.

    Raises:
        InputError: No task was scored for both.
    """
    shared = _shared_content(candidate, incumbent)
    if not shared:
        raise InputError(
            "The two encoders share no evaluation task, so neither can be preferred.",
            hint="Set evaluate.sample_tasks, or evaluate.tasks_dirs.",
        )
    new, old = category_estimates(candidate, among=shared), category_estimates(incumbent, among=shared)
    differences = {category: new[category][1] - old[category][1] for category in new}
    p_values = holm([probability_not_worse(difference, margin=margin) for difference in differences.values()])
    return [
        CategoryFinding(category, tuple(new[category][0]), difference, p_value, margin)
        for (category, difference), p_value in zip(differences.items(), p_values, strict=True)
    ]


def choose_encoder(
    *,
    candidate: tuple[str, Sequence[Outcome]],
    incumbent: tuple[str, Sequence[Outcome]],
    min_gain: float = 0.0,
    margin: float = 1.0,
) -> Decision:
    """Choose between a new encoder and the one that it would replace.

    The candidate is served if its mean over the shared tasks is higher and no category is significantly worse.

    Args:
        candidate: Name and outcomes of the new encoder.
        incumbent: Name and outcomes of the encoder that is kept unless the new one is better.
        min_gain: Points on the 0-100 scale by which the candidate's mean must be higher.
        margin: Points that a category may lose.

    Raises:
        InputError: No task was scored for both.
    """
    findings = judge_categories(candidate=candidate[1], incumbent=incumbent[1], margin=margin)
    tasks = sorted(task for finding in findings for task in finding.tasks)
    shared = _shared_content(candidate[1], incumbent[1])
    means = [_mean(outcomes, shared).score for _, outcomes in (candidate, incumbent)]
    losses = [finding.category for finding in findings if finding.is_worse]
    is_better = means[0] > means[1] + min_gain
    served = candidate[0] if is_better and not losses else incumbent[0]
    if is_better and losses:
        reason = f"{candidate[0]} is better in the mean but worse in {', '.join(losses)}"
    elif is_better:
        reason = f"{candidate[0]} ({means[0]:.1f}) is better than {incumbent[0]} ({means[1]:.1f})"
    else:
        reason = f"{incumbent[0]} ({means[1]:.1f}) is not beaten by {candidate[0]} ({means[0]:.1f})"
    return Decision(
        served=served,
        reason=f"{reason}, by the mean of the main scores of {', '.join(tasks)}.",
        candidate=candidate[0],
        incumbent=incumbent[0],
        findings=tuple(finding.sentence() for finding in findings),
    )


def defend(
    *, candidate: tuple[str, Sequence[Outcome]], incumbent: tuple[str, Sequence[Outcome]], margin: float
) -> Decision:
    """Let a new encoder replace the served one unless it is significantly worse.

    A refusal needs evidence: a category that is worse by more than the margin, one-sided, at the 5 % level after the
    correction for the number of categories. The candidate does not need to be better.

    Args:
        candidate: Name and outcomes of the new encoder.
        incumbent: Name and outcomes of the encoder that is served.
        margin: Points that a category may lose.

    Raises:
        InputError: No task was scored for both.
    """
    findings = judge_categories(candidate=candidate[1], incumbent=incumbent[1], margin=margin)
    losses = [finding.category for finding in findings if finding.is_worse]
    if losses:
        reason = f"{candidate[0]} is worse than {incumbent[0]} in {', '.join(losses)}, by more than {margin:g} points."
    else:
        reason = f"{candidate[0]} is in no category worse than {incumbent[0]} by more than {margin:g} points."
    return Decision(
        served=incumbent[0] if losses else candidate[0],
        reason=reason,
        candidate=candidate[0],
        incumbent=incumbent[0],
        findings=tuple(finding.sentence() for finding in findings),
        refused=bool(losses),
    )


def succeed(
    *, candidate: tuple[str, Sequence[Outcome]], incumbent: tuple[str, Sequence[Outcome]], margin: float
) -> Decision:
    """Let a new encoder replace the served one only with evidence, because the whole corpus is then encoded again.

    The candidate must be better on the average of the shared tasks, one-sided at the 5 % level, and in no category
    worse by more than the margin (:func:`defend`). Otherwise the served encoder stays; that is a refusal only if the
    candidate is worse.

    Args:
        candidate: Name and outcomes of the new encoder.
        incumbent: Name and outcomes of the encoder that is served.
        margin: Points that a category may lose.

    Raises:
        InputError: No task was scored for both.
    """
    defended = defend(candidate=candidate, incumbent=incumbent, margin=margin)
    if defended.refused:
        return defended
    shared = _shared_content(candidate[1], incumbent[1])
    difference = _mean(candidate[1], shared) - _mean(incumbent[1], shared)
    p_value = probability_not_better(difference)
    average = f"on the average of the tasks: {_in_points(difference)}, p = {p_value:.3f}"
    if p_value >= LEVEL:
        reason = f"{incumbent[0]} stays, because {candidate[0]} is not better beyond chance {average}."
        return defended.model_copy(update={"served": incumbent[0], "reason": reason})
    reason = f"{defended.reason.removesuffix('.')}, and is better {average}."
    return defended.model_copy(update={"reason": reason})


def _in_points(difference: Estimate) -> str:
    """A difference with its interval, in words."""
    change = f"{difference.score:+.1f} points"
    if interval := difference.interval():
        change += f" (95 % interval {interval[0]:+.1f} to {interval[1]:+.1f})"
    return change


def _shared_content(candidate: Sequence[Outcome], incumbent: Sequence[Outcome]) -> set[str]:
    """Hashes of the tasks with scores of both, because tasks with equal names may differ."""
    return {each.score.content_sha256 for each in candidate} & {each.score.content_sha256 for each in incumbent}


def _mean(outcomes: Sequence[Outcome], shared: Set[str]) -> Estimate:
    """The mean over the shared tasks, in an order that does not depend on the system."""
    by_content = {each.score.content_sha256: each.estimate for each in outcomes}
    return mean_estimate([by_content[content] for content in sorted(shared)])

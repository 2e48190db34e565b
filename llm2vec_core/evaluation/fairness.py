"""The fairness audit: test whether a personal attribute moves a resume in the ranking.

Each sampled resume gets several versions that differ only in one attribute, such as the name. Each version is encoded
and ranked for each sampled job among the same other resumes. Two figures measure the attribute. The displacement is the
number of ranks that it moves a resume; neutral edits are the control, because encoders react to any edit. The impact
ratio of the four-fifths rule compares how often each group reaches the top. Intervals come from a bootstrap over the
resumes. A permutation of the groups within each resume tests the impact ratio, because the lowest of twelve rates is
below the highest even by chance.

Belongs here: making the versions, and computing and explaining the figures, over texts and arrays.
Does not belong here: the attributes and their lines (``data.redaction.fairness_lines``), sampling of resumes and
jobs (``tasks.stages.audit``).

Source: the four-fifths rule is in 29 CFR 1607.4 D; counterfactual resumes after Bertrand and Mullainathan 2004, "Are
Emily and Greg More Employable than Lakisha and Jamal?"; neutral edits as a control after arXiv 2501.04316.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float32, Int
from pydantic import BaseModel, ConfigDict

NEUTRAL = "neutral edit"
FOUR_FIFTHS = 0.8
_NUM_RESAMPLES = 2000
_LEVEL = 0.05
_ROUNDING = 1e-9

Encode = Callable[[Sequence[str]], Float32[np.ndarray, "texts dim"]]
"""Vectors of length one."""


class AttributeAudit(BaseModel):
    """Effect of one attribute on the ranking.

    Attributes:
        attribute: Name of the attribute.
        displacement: Mean distance in ranks between two versions of a resume.
        displacement_low: Lower end of its 95 % interval.
        displacement_high: Upper end.
        beyond_neutral: Whether it moves resumes significantly more than neutral edits do.
        selection_rates: Share of resumes and jobs for which each group reached the top k.
        impact_ratio: Lowest rate over the highest; None if no version reached the top.
        impact_low: Lower end of its 95 % interval.
        impact_high: Upper end.
        impact_p: Share of random relabellings of each resume's versions that yield a ratio as low.
        favoured: Group with the highest rate.
        disfavoured: Group with the lowest rate.
    """

    model_config = ConfigDict(frozen=True)

    attribute: str
    displacement: float
    displacement_low: float
    displacement_high: float
    beyond_neutral: bool
    selection_rates: dict[str, float]
    impact_ratio: float | None
    impact_low: float | None
    impact_high: float | None
    impact_p: float | None
    favoured: str
    disfavoured: str

    @property
    def fires(self) -> bool:
        """Whether the attribute moves resumes more than neutral edits, or one rate is below four fifths of another."""
        is_below = self.impact_ratio is not None and self.impact_ratio < FOUR_FIFTHS
        return self.beyond_neutral or (is_below and self.impact_p is not None and self.impact_p < _LEVEL)

    def sentence(self) -> str:
        """The finding in words."""
        if self.displacement == 0:
            return f"{self.attribute}: no effect at all; every version of a resume has the same place."
        moved = f"{self.attribute}: moves a resume by {self.displacement:.1f} ranks on average"
        compared = "more than neutral edits do" if self.beyond_neutral else "no more than neutral edits do"
        if self.impact_ratio is None:
            return f"{moved}, {compared}; no version reached the top."
        rule = "within the four fifths of the rule of thumb"
        if self.impact_ratio < FOUR_FIFTHS:
            rule = f"below the four fifths of the rule of thumb (p = {self.impact_p:.3f} by permutation)"
        return (
            f"{moved}, {compared}. '{self.disfavoured}' reaches the top {self.impact_ratio:.2f} times as often as "
            f"'{self.favoured}' ({self.impact_low:.2f} to {self.impact_high:.2f}): {rule}."
        )


class FairnessAudit(BaseModel):
    """The audit of one encoder on one sample.

    Attributes:
        resumes: Number of sampled resumes.
        jobs: Number of jobs that they were ranked for.
        pool: Number of other resumes in each ranking.
        top_k: Number of ranks that count as the top.
        encoded: Number of texts encoded for the audit.
        attributes: Effect of each attribute, neutral edits last.
    """

    model_config = ConfigDict(frozen=True)

    resumes: int
    jobs: int
    pool: int
    top_k: int
    encoded: int
    attributes: tuple[AttributeAudit, ...]

    @property
    def firing(self) -> list[str]:
        """Attributes that move rankings."""
        return [audit.attribute for audit in self.attributes if audit.attribute != NEUTRAL and audit.fires]


def audit_fairness(
    encode: Encode,
    resumes: Sequence[str],
    *,
    jobs: Float32[np.ndarray, "jobs dim"],
    pool: Float32[np.ndarray, "pool dim"],
    lists: Mapping[str, Mapping[str, Sequence[str]]],
    rewrites: Mapping[str, Mapping[str, Callable[[str], str]]] | None = None,
    top_k: int = 10,
    seed: int = 0,
    prepare: Callable[[str], str] = lambda text: text,
) -> FairnessAudit:
    """Measure how each attribute changes the ranking of resumes.

    Args:
        encode: Encoder of resumes.
        resumes: Sampled resumes.
        jobs: Vectors of the sampled jobs, of length one.
        pool: Vectors of other resumes, of length one.
        lists: Lines to put on top of a resume, by attribute and group; includes :data:`NEUTRAL`.
        rewrites: Functions that rewrite a resume, such as its pronouns, by attribute and group.
        top_k: Number of ranks that count as the top.
        seed: Seed for choosing each resume's line of a group.
        prepare: Applied to a text before it is encoded, such as redaction.

    Raises:
        ValueError: No resume, no job, or no neutral edits to compare with.
    """
    if not len(resumes) or not len(jobs) or NEUTRAL not in lists:
        raise ValueError("An audit needs resumes, jobs, and neutral edits to compare with.")
    draw = np.random.default_rng(seed)
    versions = {name: _with_lines(resumes, groups, draw) for name, groups in lists.items() if name != NEUTRAL}
    for name, groups in (rewrites or {}).items():
        versions[name] = {label: [rewrite(text) for text in resumes] for label, rewrite in groups.items()}
    versions[NEUTRAL] = _with_lines(resumes, lists[NEUTRAL], draw)
    prepared = {name: {label: [prepare(text) for text in texts] for label, texts in groups.items()}
                for name, groups in versions.items()}  # fmt: skip
    # Equal texts are encoded once: versions that redaction made equal have exactly equal vectors.
    distinct = list(dict.fromkeys(text for groups in prepared.values() for texts in groups.values() for text in texts))
    vectors = encode(distinct)
    row_of = {text: row for row, text in enumerate(distinct)}
    pool_scores = np.sort(jobs @ pool.T, axis=1)
    ranks = {
        name: np.stack(
            [_ranks(vectors[[row_of[text] for text in texts]], jobs, pool_scores) for texts in groups.values()], axis=1
        )
        for name, groups in prepared.items()
    }
    neutral = _displacements(ranks[NEUTRAL])
    return FairnessAudit(
        resumes=len(resumes),
        jobs=len(jobs),
        pool=len(pool),
        top_k=top_k,
        encoded=len(distinct),
        attributes=tuple(
            _judge(name, list(prepared[name]), found, neutral=neutral, top_k=top_k, draw=draw)
            for name, found in ranks.items()
        ),
    )


def render_fairness(audits: Mapping[str, FairnessAudit]) -> str:
    """The audit as Markdown: a table and findings per encoding variant.

    Args:
        audits: Audits by encoding variant ("as stored", "without redaction").
    """
    lines = ["# Fairness audit", ""]
    for way, audit in audits.items():
        lines += [
            f"## {way.capitalize()}",
            "",
            f"{audit.resumes} resumes in equal versions, ranked for {audit.jobs} jobs among {audit.pool} others; "
            f"the top is the first {audit.top_k}. {audit.encoded} texts were encoded for it.",
            "",
            "| attribute | ranks moved | 95 % interval | impact ratio | 95 % interval | fires |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
        ]
        for each in audit.attributes:
            ratio = "-" if each.impact_ratio is None else f"{each.impact_ratio:.2f}"
            interval = "-" if each.impact_low is None else f"{each.impact_low:.2f} to {each.impact_high:.2f}"
            fires = "yardstick" if each.attribute == NEUTRAL else "yes" if each.fires else "no"
            lines.append(
                f"| {each.attribute} | {each.displacement:.2f} | {each.displacement_low:.2f} to "
                f"{each.displacement_high:.2f} | {ratio} | {interval} | {fires} |"
            )
        lines += ["", *(f"- {each.sentence()}" for each in audit.attributes), ""]
    lines.append(
        "The audit shows what an attribute does to this encoder's ranking of these resumes. It is no independent bias "
        "audit in the sense of any law, says nothing about decisions that people take, and a small sample misses small "
        "effects: 'no' means that none was shown."
    )
    return "\n".join(lines) + "\n"


# --- versions of a resume ---------------------------------------------------------------------------------------------


def _with_lines(
    resumes: Sequence[str], groups: Mapping[str, Sequence[str]], draw: np.random.Generator
) -> dict[str, list[str]]:
    """Each resume with one line of each group on top, at the same index of every group's list."""
    places = draw.integers(0, 2**31, size=len(resumes))
    return {
        label: [f"{lines[place % len(lines)]}\n{text}" for place, text in zip(places, resumes, strict=True)]
        for label, lines in groups.items()
    }


# --- figures ----------------------------------------------------------------------------------------------------------


def _ranks(
    vectors: Float32[np.ndarray, "resumes dim"],
    jobs: Float32[np.ndarray, "jobs dim"],
    pool_scores: Float32[np.ndarray, "jobs pool"],
) -> Int[np.ndarray, "resumes jobs"]:
    """Rank of each resume for each job among the pool, starting at 1."""
    scores = vectors @ jobs.T
    before = [row.size - np.searchsorted(row, scores[:, job], side="right") for job, row in enumerate(pool_scores)]
    return np.stack(before, axis=1) + 1


def _displacements(ranks: Int[np.ndarray, "resumes groups jobs"]) -> Float[np.ndarray, " resumes"]:
    """Mean rank distance of two versions of each resume; independent of the number of versions."""
    first, second = np.triu_indices(ranks.shape[1], k=1)
    moved: Float[np.ndarray, " resumes"] = np.abs(ranks[:, first] - ranks[:, second]).mean(axis=(1, 2))
    return moved


def _impact_p(selected: Float[np.ndarray, "resumes groups"], impact: float, draw: np.random.Generator) -> float:
    """P-value of the impact ratio by permutation: the groups of each resume are relabelled at random.

    An interval would mislead: the two groups are the extremes of all, which differ even by chance.
    """
    shuffled = draw.permuted(np.broadcast_to(selected, (_NUM_RESAMPLES, *selected.shape)), axis=2).mean(axis=1)
    ratios = shuffled.min(axis=1) / shuffled.max(axis=1)
    return float((1 + (ratios <= impact + _ROUNDING).sum()) / (1 + _NUM_RESAMPLES))


def _judge(
    attribute: str,
    labels: list[str],
    ranks: Int[np.ndarray, "resumes groups jobs"],
    *,
    neutral: Float[np.ndarray, " resumes"],
    top_k: int,
    draw: np.random.Generator,
) -> AttributeAudit:
    moved = _displacements(ranks)
    selected = (ranks <= top_k).mean(axis=2)
    rates = selected.mean(axis=0)
    best, worst = int(rates.argmax()), int(rates.argmin())
    drawn = draw.integers(0, len(moved), size=(_NUM_RESAMPLES, len(moved)))
    low, high = _interval(moved[drawn].mean(axis=1))
    gain_low, _ = _interval((moved - neutral)[drawn].mean(axis=1))
    impact = impact_low = impact_high = impact_p = None
    if rates[best] > 0:
        impact = float(rates[worst] / rates[best])
        above, below = selected[drawn, best].mean(axis=1), selected[drawn, worst].mean(axis=1)
        impact_low, impact_high = _interval(below[above > 0] / above[above > 0])
        impact_p = _impact_p(selected, impact, draw)
    return AttributeAudit(
        attribute=attribute,
        displacement=float(moved.mean()),
        displacement_low=low,
        displacement_high=high,
        beyond_neutral=attribute != NEUTRAL and gain_low > 0,
        selection_rates={label: float(rate) for label, rate in zip(labels, rates, strict=True)},
        impact_ratio=impact,
        impact_low=impact_low,
        impact_high=impact_high,
        impact_p=impact_p,
        favoured=labels[best],
        disfavoured=labels[worst],
    )


def _interval(values: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    low, high = np.percentile(values, [100 * _LEVEL / 2, 100 * (1 - _LEVEL / 2)])
    return float(low), float(high)

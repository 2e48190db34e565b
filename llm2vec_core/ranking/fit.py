"""Whether a pair fits at all: its share among random pairs, and its class. No judgments are needed.

A rank says who is best; it does not say that the best is any good. Two figures do, both from a background: a random
sample of the documents of either side.

- The *fit* of a ranked document is the share of the background queries for which it would have a lower cosine.
- The *class* compares the cosine with two limits. They come from the pairs of the background that choose each other: a
  document and its nearest, which has it among its own nearest 1 %. A job that nobody fits also has a nearest resume,
  but many other jobs are nearer to that one. The limits are low quantiles of the cosines of such pairs.

Belongs here: arithmetic over vectors. Does not belong here: which documents are the background, and where limits are
kept (the callers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from pydantic import BaseModel, ConfigDict

FitClass = Literal["strong", "possible", "none"]

MAX_BACKGROUND = 1000
"""Maximum number of background documents of either side. A share is then known to about 0.1 to 1.5 points."""

MIN_BACKGROUND = 50
"""Minimum number of background documents of either side."""

MIN_MUTUAL = 20
"""Minimum number of pairs that choose each other. The lowest of 20 estimates their 5 % quantile."""

MISSED: Mapping[str, float] = {"possible": 0.05, "strong": 0.25}
"""Share of the pairs that choose each other that may be below each limit."""

_NEAREST_SHARE = 0.01

_ROUNDING = 1e-6
"""Cosines that differ by less count as equal: the order of a product's sums depends on its size."""

_DRIFT_P = 0.001
_ROWS_AT_ONCE = 4096


class FitLimits(BaseModel):
    """Limits of the classes, for the vectors of one encoder.

    Attributes:
        possible: Least cosine of a possible fit.
        strong: Least cosine of a strong fit.
        random_possible: Share of the random pairs of the background that reach ``possible``.
        random_strong: Share of the random pairs that reach ``strong``.
        jobs: Number of background jobs.
        resumes: Number of background resumes.
        mutual: Number of pairs that choose each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    possible: float
    strong: float
    random_possible: float
    random_strong: float
    jobs: int
    resumes: int
    mutual: int

    def classes(self, cosines: Float32[np.ndarray, " pairs"]) -> np.ndarray:
        """Class of each pair: an array of :data:`FitClass`."""
        return np.select([cosines >= self.strong, cosines >= self.possible], ["strong", "possible"], "none")

    def sentence(self) -> str:
        """One sentence: the limits and the error rates that they stand for."""
        return (
            f"Possible from cosine {self.possible:.3f}, strong from {self.strong:.3f}: of {self.mutual:,} pairs that "
            f"choose each other among {self.jobs:,} jobs and {self.resumes:,} resumes, {MISSED['possible']:.0%} and "
            f"{MISSED['strong']:.0%} are below; of random pairs, {self.random_possible:.1%} and "
            f"{self.random_strong:.1%} are above."
        )


class Rate(BaseModel):
    """A stated rate, and what held-back documents show.

    Attributes:
        name: What is counted.
        stated: Rate that the figure or limit stands for.
        found: Rate among the held-back documents.
        low: Lower end of the 95 % interval of ``found``.
        high: Upper end.
        count: Number of held-back pairs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    stated: float
    found: float
    low: float
    high: float
    count: int


def fit_limits(jobs: Float32[np.ndarray, "jobs dim"], resumes: Float32[np.ndarray, "resumes dim"]) -> FitLimits | str:
    """Fit the limits on a background of jobs and resumes; a sentence says why it is too small.

    Args:
        jobs: Vectors of random jobs, of length one.
        resumes: Vectors of random resumes.
    """
    if min(len(jobs), len(resumes)) < MIN_BACKGROUND:
        return (
            f"Fit is not shown: the background has {len(jobs):,} jobs and {len(resumes):,} resumes; its limits need "
            f"{MIN_BACKGROUND} different ones of each."
        )
    cosines = jobs @ resumes.T
    chosen = mutual_cosines(cosines)
    if len(chosen) < MIN_MUTUAL:
        return (
            f"Fit is not shown: {len(chosen):,} pairs of the background choose each other; its limits need "
            f"{MIN_MUTUAL}."
        )
    possible, strong = (float(limit) for limit in np.quantile(chosen, [MISSED["possible"], MISSED["strong"]]))
    return FitLimits(
        possible=possible,
        strong=strong,
        random_possible=float((cosines >= possible).mean()),
        random_strong=float((cosines >= strong).mean()),
        jobs=len(jobs),
        resumes=len(resumes),
        mutual=len(chosen),
    )


def mutual_cosines(cosines: Float32[np.ndarray, "jobs resumes"]) -> Float32[np.ndarray, " pairs"]:
    """Cosines of the pairs that choose each other: a document and its nearest, which has it among its nearest 1 %.

    Documents of both sides choose; a pair counts once. The nearest 1 % are at least two.
    """
    pairs = [
        at if chooses == "jobs" else at[::-1]
        for chooses, view in (("jobs", cosines), ("resumes", cosines.T))
        for at in (_chosen_back(view),)
    ]
    flat = np.unique(np.concatenate([jobs * cosines.shape[1] + resumes for jobs, resumes in pairs]))
    found: Float32[np.ndarray, " pairs"] = cosines.ravel()[flat]
    return found


def _chosen_back(cosines: Float32[np.ndarray, "rows columns"]) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and the nearest column of each, where the column has the row among its nearest 1 %."""
    nearest = cosines.argmax(axis=1)
    num_nearer = (cosines[:, nearest] > cosines.max(axis=1)).sum(axis=0)
    rows = np.flatnonzero(num_nearer < max(2, math.ceil(_NEAREST_SHARE * len(cosines))))
    return rows, nearest[rows]


def has_drifted(limits: FitLimits, cosines: Float32[np.ndarray, "jobs resumes"]) -> bool:
    """Whether the pairs of a newer background miss a limit more than twice, or less than half as often as stated.

    The rate must also differ beyond chance, by a two-sided binomial test.
    """
    chosen = mutual_cosines(cosines)
    if len(chosen) < MIN_MUTUAL:
        return False
    for name, limit in (("possible", limits.possible), ("strong", limits.strong)):
        missed = int((chosen < limit).sum())
        if not MISSED[name] / 2 <= missed / len(chosen) <= 2 * MISSED[name]:
            from scipy.stats import binomtest  # takes a second to load, which a night without a change saves

            if binomtest(missed, len(chosen), MISSED[name]).pvalue < _DRIFT_P:
                return True
    return False


def shares_below(
    cosines: Float32[np.ndarray, " pairs"],
    found: Int64[np.ndarray, " pairs"],
    vectors: Float32[np.ndarray, "documents dim"],
    background: Float32[np.ndarray, "background dim"],
) -> Float64[np.ndarray, " pairs"]:
    """Fit of each pair: the share of the background queries for which its document has a lower cosine.

    Args:
        cosines: Cosine of each pair.
        found: Number of the ranked document of each pair.
        vectors: Vectors of all ranked documents; may be mapped from a file.
        background: Vectors of random queries.
    """
    shares = np.empty(len(cosines))
    documents, of_pair = np.unique(found, return_inverse=True)
    by_document = np.argsort(of_pair, kind="stable")
    ends = np.searchsorted(of_pair[by_document], np.arange(len(documents) + 1))
    for start in range(0, len(documents), _ROWS_AT_ONCE):
        part = documents[start : start + _ROWS_AT_ONCE]
        ranked = np.sort(vectors[part] @ background.T, axis=1)
        for offset, row in enumerate(ranked):
            pairs = by_document[ends[start + offset] : ends[start + offset + 1]]
            shares[pairs] = np.searchsorted(row, cosines[pairs] - _ROUNDING) / len(background)
    return shares


def held_back_rates(
    jobs: Float32[np.ndarray, "jobs dim"], resumes: Float32[np.ndarray, "resumes dim"], *, seed: int
) -> list[Rate]:
    """Fit limits and shares on a random half of the jobs, and count on the other half whether they hold.

    Returns:
        Rates of mutual pairs below each limit, of random pairs above each limit, and of random pairs whose fit is at
        least 0.5, 0.9, 0.95 and 0.99; empty if a half is too small.
    """
    fitted_on, held_back = np.array_split(np.random.default_rng(seed).permutation(len(jobs)), 2)
    limits = fit_limits(jobs[fitted_on], resumes)
    if isinstance(limits, str):
        return []
    cosines = jobs[held_back] @ resumes.T
    chosen = mutual_cosines(cosines)
    everybody = np.tile(np.arange(len(resumes)), len(held_back))
    shares = shares_below(cosines.ravel(), everybody, resumes, jobs[fitted_on]).reshape(cosines.shape)
    rates = [
        _rate(f"pairs that choose each other, below {name}", MISSED[name], chosen < limit)
        for name, limit in (("possible", limits.possible), ("strong", limits.strong))
    ]
    rates += [
        _rate_of_pairs("random pairs, possible or strong", limits.random_possible, cosines >= limits.possible),
        _rate_of_pairs("random pairs, strong", limits.random_strong, cosines >= limits.strong),
    ]
    return rates + [
        _rate_of_pairs(f"random pairs with a fit of {share:g} or more", 1 - share, shares >= share) for share in _SHARES
    ]


_SHARES = (0.5, 0.9, 0.95, 0.99)
_RESAMPLES = 500


def _rate(name: str, stated: float, is_case: Bool[np.ndarray, " pairs"]) -> Rate:
    """Rate among independent pairs, with its exact interval."""
    from scipy.stats import binomtest

    found = binomtest(int(is_case.sum()), len(is_case))
    low, high = found.proportion_ci()
    return Rate(name=name, stated=stated, found=found.statistic, low=low, high=high, count=len(is_case))


def _rate_of_pairs(name: str, stated: float, is_case: Bool[np.ndarray, "jobs resumes"]) -> Rate:
    """Rate among all pairs, with an interval over resampled jobs: the pairs of a job depend on each other."""
    from scipy.stats import bootstrap

    of_jobs = is_case.mean(axis=1)
    low = high = float(of_jobs.mean())
    if np.ptp(of_jobs):
        resampled = bootstrap((of_jobs,), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=0)
        low, high = (float(end) for end in resampled.confidence_interval)
    return Rate(name=name, stated=stated, found=float(of_jobs.mean()), low=low, high=high, count=is_case.size)

"""Coverage of the 95 % intervals, and distribution of p-values without a true difference.

Samples are drawn repeatedly from populations with a known true score, and each is analysed with the intervals and tests
of ``llm2vec_core.evaluation.statistics.stats``. The last line of stdout is one JSON object.

    python -m benchmarks.interval_coverage [--quick]
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Int
from scipy.stats import kstest, norm

from llm2vec_core.evaluation.statistics.observations import (
    AveragePrecision,
    Clustering,
    Correlation,
    MeanOfDraws,
    MeanOfItems,
    Observations,
    RatioOfSums,
    VMeasure,
    score_all,
)
from llm2vec_core.evaluation.statistics.stats import Estimate, compare_all, estimate

Random = np.random.Generator
Population = Callable[[Random], Observations]

_LARGE = 200_000
"""Size of the sample that replaces a whole population if its score has no formula."""


def queries(random: Random, size: int = 100) -> Observations:
    """Something like nDCG of queries: many zeros, many ones."""
    return MeanOfItems(100 * random.choice([0.0, 0.3, 0.6, 1.0], p=[0.4, 0.1, 0.2, 0.3], size=size))


def classified(random: Random, size: int = 400) -> Observations:
    """Ten classifiers on texts of differing difficulty."""
    chance = norm.cdf(1.0 + random.normal(size=size))
    return MeanOfDraws(100.0 * (random.random((10, size)) < chance))


def words(random: Random, size: int = 200) -> Observations:
    """Sentences whose words are right or wrong together."""
    lengths, skill = random.integers(5, 40, size=size), random.beta(8, 2, size=size)
    return RatioOfSums(random.binomial(lengths, skill), lengths)


def correlated(random: Random, size: int = 300) -> Observations:
    """Similarities that correlate with human judgment."""
    gold = random.normal(size=size)
    return Correlation(gold, 0.7 * gold + math.sqrt(0.51) * random.normal(size=size))


def ranked_pairs(random: Random, size: int = 400) -> Observations:
    """Pairs in which those with the same meaning are closer on average."""
    labels = (random.random(size) < 0.3).astype(int)
    return AveragePrecision(labels, random.normal(size=size) + 1.2 * labels)


def clustered(random: Random, size: int = 400) -> Observations:
    """Clusters that agree with the groups in two of three texts."""
    labels = random.integers(8, size=size)
    clusters = np.where(random.random(size) < 0.6, labels, random.integers(8, size=size))
    return VMeasure([Clustering(np.arange(size), labels, clusters)], num_items=size)


POPULATIONS: dict[str, Population] = {
    function.__name__: function for function in (queries, classified, words, correlated, ranked_pairs, clustered)
}


Clustered = tuple[Observations, Int[np.ndarray, " num_items"]]
"""Observations, and the number of each item's cluster."""


def _siblings(random: Random, num_clusters: int) -> Int[np.ndarray, " num_items"]:
    """Numbers of clusters with one to eight items."""
    return np.repeat(np.arange(num_clusters), random.integers(1, 9, size=num_clusters))


def sibling_queries(random: Random, num_clusters: int = 40) -> Clustered:
    """Queries in 40 clusters, hard or easy together, like job descriptions of one occupation."""
    clusters = _siblings(random, num_clusters)
    values = 50 + 15 * random.normal(size=num_clusters)[clusters] + 8 * random.normal(size=len(clusters))
    return MeanOfItems(values), clusters


def sibling_pairs(random: Random, num_clusters: int = 80) -> Clustered:
    """Pairs that share a sentence, so that a system is wrong about them together."""
    clusters = _siblings(random, num_clusters)
    gold = random.normal(size=num_clusters)[clusters] + 0.5 * random.normal(size=len(clusters))
    wrong = random.normal(size=num_clusters)[clusters] + 0.5 * random.normal(size=len(clusters))
    return Correlation(gold, gold + wrong, by_rank=False), clusters


CLUSTERED: dict[str, Callable[[Random], Clustered]] = {
    function.__name__: function for function in (sibling_queries, sibling_pairs)
}


def true_score(name: str) -> float:
    """The true score of a population."""
    if name in CLUSTERED:
        return score_all(CLUSTERED[name](np.random.default_rng(10**6), _LARGE // 5)[0])  # type: ignore[call-arg]
    if name == "clustered":  # V-measure depends on the size of the set, so on sets of the same size
        return float(np.mean([score_all(clustered(np.random.default_rng(10**6 + number))) for number in range(2000)]))
    return score_all(POPULATIONS[name](np.random.default_rng(10**6), _LARGE))  # type: ignore[call-arg]


def estimate_of(
    observations: Observations, number: int, clusters: Int[np.ndarray, " num_items"] | None = None
) -> Estimate:
    """The estimate of one simulated task, with its number as content hash."""
    content = f"{number:016x}".ljust(64, "0")
    return estimate(score_all(observations), [observations], content_sha256=content, clusters=clusters)


def coverage(name: str, simulations: int) -> float:
    """Share of the intervals that contain the true score."""
    true, covered = true_score(name), 0
    for number in range(simulations):
        random = np.random.default_rng(number)
        observed, clusters = CLUSTERED[name](random) if name in CLUSTERED else (POPULATIONS[name](random), None)
        interval = estimate_of(observed, number, clusters).interval()
        assert interval is not None
        covered += interval[0] <= true <= interval[1]
    return covered / simulations


def equal_queries(random: Random, size: int = 150) -> tuple[Observations, Observations]:
    """Two systems on the same queries, neither of them better."""
    ease = random.normal(size=size)
    first, second = (MeanOfItems(100 * norm.cdf(ease + random.normal(size=size))) for _ in range(2))
    return first, second


def equal_correlations(random: Random, size: int = 150) -> tuple[Observations, Observations]:
    """Two systems on the same pairs, neither of them better."""
    gold = random.normal(size=size)
    first, second = (Correlation(gold, gold + random.normal(size=size)) for _ in range(2))
    return first, second


NullPair = tuple[Observations, Observations, Int[np.ndarray, " num_items"] | None]


def equal_siblings(random: Random, num_clusters: int = 40) -> NullPair:
    """Two systems on the same clustered queries; each is better on some clusters, neither on all."""
    clusters = _siblings(random, num_clusters)
    ease = random.normal(size=num_clusters)[clusters]
    first, second = (
        MeanOfItems(50 + 10 * (ease + random.normal(size=num_clusters)[clusters] + random.normal(size=len(clusters))))
        for _ in range(2)
    )
    return first, second, clusters


NULL_PAIRS: dict[str, Callable[[Random], NullPair]] = {
    "queries": lambda random: (*equal_queries(random), None),
    "correlated": lambda random: (*equal_correlations(random), None),
    "siblings": equal_siblings,
}


def null_p_values(name: str, simulations: int) -> list[float]:
    """p-values of comparisons without a true difference."""
    p_values = []
    for number in range(simulations):
        one, other, clusters = NULL_PAIRS[name](np.random.default_rng(number))
        first, second = (estimate_of(each, number, clusters) for each in (one, other))
        (comparison,) = compare_all("simulated", {"first": first, "second": second})
        p_values.append(comparison.p_value)
    return p_values


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="300 simulations each instead of 2,000")
    simulations = 300 if parser.parse_args().quick else 2000
    started = time.perf_counter()
    result: dict[str, object] = {"simulations": simulations, "machine": f"{platform.machine()}, {platform.system()}"}
    for name in (*POPULATIONS, *CLUSTERED):
        result[f"coverage_{name}"] = round(coverage(name, simulations), 4)
        print(name, result[f"coverage_{name}"], flush=True)
    for name in NULL_PAIRS:
        p_values = null_p_values(name, simulations)
        result[f"rejected_{name}"] = round(float(np.mean(np.array(p_values) < 0.05)), 4)
        result[f"uniform_p_{name}"] = round(float(kstest(p_values, "uniform").pvalue), 4)
    result["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

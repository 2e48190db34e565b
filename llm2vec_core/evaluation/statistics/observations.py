"""Results of a system on single items of a task, which allow scoring any resample of the items.

A bootstrap draws items with replacement and scores them again. For a mean over queries that is a mean; for a rank
correlation or a V-measure the metric has to be computed anew. Each class here is one such metric over plain arrays. A
resample is given as the number of times that each item was drawn, because items may be drawn in clusters.

Every score is on the 0-100 scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int, Shaped

DrawnCounts = Int[np.ndarray, "resamples num_items"]
Draws = Int[np.ndarray, "resamples num_draws"]
Scores = Float[np.ndarray, " resamples"]


class Observations(Protocol):
    """One system on the items of one task.

    Attributes:
        num_items: Items that can be drawn: pairs, queries, texts, sentences.
        num_draws: Repetitions of a randomised protocol (classifiers on drawn texts, clusterings); otherwise one.
    """

    @property
    def num_items(self) -> int:
        """Number of items."""

    @property
    def num_draws(self) -> int:
        """Number of repetitions of the protocol."""

    def scores(self, counts: DrawnCounts, draws: Draws) -> Scores:
        """Score resamples: in each row how often each item was drawn, and the positions of the drawn repetitions."""


@dataclass(frozen=True)
class MeanOfItems:
    """A mean over items, such as nDCG and MAP over queries, or correlations over summarised texts.

    Attributes:
        values: The metric of each item, from 0 to 100.
    """

    values: Float[np.ndarray, " num_items"]
    num_draws: int = 1

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.values)

    def scores(self, counts: DrawnCounts, draws: Draws) -> Scores:
        """Means of the drawn items."""
        return _means(self.values, counts)


@dataclass(frozen=True)
class MeanOfDraws:
    """A mean over items and repetitions: accuracy of classifiers with different training texts.

    Both are drawn: a new test set and new training texts would both change the score (two-way bootstrap; Owen 2007,
    "The pigeonhole bootstrap").

    Attributes:
        values: The metric of each item in each repetition, from 0 to 100.
    """

    values: Float[np.ndarray, "num_draws num_items"]

    @property
    def num_draws(self) -> int:
        """Number of repetitions of the protocol."""
        return len(self.values)

    @property
    def num_items(self) -> int:
        """Number of items."""
        return int(self.values.shape[1])

    def scores(self, counts: DrawnCounts, draws: Draws) -> Scores:
        """Means over the drawn repetitions of the means over the drawn items."""
        by_draw = np.stack([_means(row, counts) for row in self.values], axis=1)
        means: Scores = np.take_along_axis(by_draw, draws, axis=1).mean(axis=1)
        return means


@dataclass(frozen=True)
class RatioOfSums:
    """A ratio of sums over items: word accuracy and entity F1, drawn by sentence.

    Attributes:
        numerators: Numerator of each item (correct words; twice the true positives).
        denominators: Denominator of each item (words; predicted and true entities).
    """

    numerators: Shaped[np.ndarray, " num_items"]
    denominators: Shaped[np.ndarray, " num_items"]
    num_draws: int = 1

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.numerators)

    def scores(self, counts: DrawnCounts, draws: Draws) -> Scores:
        """Ratios of the drawn items; zero if the denominator is zero."""
        above, below = counts @ self.numerators, counts @ self.denominators
        ratios: Scores = 100.0 * above / np.where(below > 0, below, 1.0)
        return ratios


@dataclass(frozen=True)
class Correlation:
    """Correlation of predicted with human similarity over pairs.

    Attributes:
        gold: Human judgment of each pair.
        predicted: Similarity of each pair.
        by_rank: Whether to compute Spearman's correlation instead of Pearson's.
    """

    gold: Float[np.ndarray, " num_items"]
    predicted: Float[np.ndarray, " num_items"]
    by_rank: bool = True
    num_draws: int = 1

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.gold)

    def scores(self, counts: DrawnCounts, draws: Draws) -> Scores:
        """Correlations over the drawn pairs; zero if one side is constant."""
        gold, predicted = (
            _centred(_midranks(side, counts) if self.by_rank else np.broadcast_to(side, counts.shape), counts)
            for side in (self.gold, self.predicted)
        )
        scale = np.sqrt((counts * gold**2).sum(axis=1) * (counts * predicted**2).sum(axis=1))
        shared = (counts * gold * predicted).sum(axis=1)
        correlations: Scores = 100.0 * shared / np.where(scale > 0, scale, 1.0)
        return correlations


def count_drawn(items: Int[np.ndarray, "resamples drawn"], num_items: int) -> DrawnCounts:
    """How often each item was drawn, from the positions of the drawn ones."""
    return np.stack([np.bincount(drawn, minlength=num_items) for drawn in items])


def _means(values: Float[np.ndarray, " num_items"], counts: DrawnCounts) -> Scores:
    """Mean of the drawn values."""
    means: Scores = counts @ values / counts.sum(axis=1)
    return means


def _midranks(
    values: Float[np.ndarray, " num_items"], counts: Int[np.ndarray, "resamples num_items"]
) -> Float[np.ndarray, "resamples num_items"]:
    """Rank of each value among the drawn ones, equal values sharing the mean of their ranks."""
    distinct, groups = np.unique(values, return_inverse=True)
    by_group = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[by_group], np.arange(len(distinct)))
    sizes = np.add.reduceat(counts[:, by_group], starts, axis=1)
    ranks: Float[np.ndarray, "resamples num_items"] = (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, groups]
    return ranks


def _centred(
    values: Float[np.ndarray, "resamples num_items"], counts: Int[np.ndarray, "resamples num_items"]
) -> Float[np.ndarray, "resamples num_items"]:
    """Values minus the mean of the drawn ones."""
    means = (counts * values).sum(axis=1, keepdims=True) / counts.sum(axis=1, keepdims=True)
    centred: Float[np.ndarray, "resamples num_items"] = values - means
    return centred


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of similarity as a classifier of pairs with the same meaning.

    Attributes:
        labels: 1 for pairs with the same meaning, 0 for others.
        similarities: Higher is closer.
    """

    labels: Int[np.ndarray, " num_items"]
    similarities: Float[np.ndarray, " num_items"]
    num_draws: int = 1

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.labels)

    def scores(self, counts: DrawnCounts, draws: Draws) -> Scores:
        """Average precision over the drawn pairs, as scikit-learn defines it; zero without positive pairs."""
        order = np.argsort(-self.similarities, kind="stable")
        ends = np.flatnonzero(
            np.diff(self.similarities[order], append=np.nan) != 0
        )  # equal similarities enter together
        drawn = counts[:, order]
        found = np.cumsum(drawn * self.labels[order], axis=1)[:, ends]
        seen = np.cumsum(drawn, axis=1)[:, ends]
        precision = found / np.maximum(seen, 1)
        steps = np.diff(found, axis=1, prepend=0)
        areas: Scores = 100.0 * (precision * steps).sum(axis=1) / np.maximum(found[:, -1], 1)
        return areas


@dataclass(frozen=True)
class Clustering:
    """One clustering of drawn items (mteb draws them with replacement).

    Attributes:
        items: Position of each clustered text among the items.
        labels: Number of its true group.
        clusters: Number of its cluster.
    """

    items: Int[np.ndarray, " clustered"]
    labels: Int[np.ndarray, " clustered"]
    clusters: Int[np.ndarray, " clustered"]


@dataclass(frozen=True)
class VMeasure:
    """Mean V-measure of several clusterings (Rosenberg and Hirschberg 2007).

    Attributes:
        clusterings: The repetitions.
        num_items: Items that they are drawn from.
    """

    clusterings: Sequence[Clustering]
    num_items: int

    @property
    def num_draws(self) -> int:
        """Number of repetitions of the protocol."""
        return len(self.clusterings)

    def scores(self, counts: DrawnCounts, draws: Draws) -> Scores:
        """Mean V-measures of the drawn clusterings, each text counting as often as its item was drawn."""
        by_clustering = np.stack([_v_measures(clustering, counts) for clustering in self.clusterings], axis=1)
        means: Scores = np.take_along_axis(by_clustering, draws, axis=1).mean(axis=1)
        return means


def _v_measures(clustering: Clustering, counts: Int[np.ndarray, "resamples num_items"]) -> Scores:
    """V-measures of weighted texts: twice the mutual information over the sum of both entropies."""
    shape = (int(clustering.labels.max()) + 1, int(clustering.clusters.max()) + 1)
    cells = np.ravel_multi_index((clustering.labels, clustering.clusters), shape)
    tables = np.stack(
        [np.bincount(cells, weights=row[clustering.items], minlength=math.prod(shape)) for row in counts]
    ).reshape(-1, *shape)
    by_label, by_cluster = _entropies(tables.sum(axis=2)), _entropies(tables.sum(axis=1))
    both = by_label + by_cluster
    mutual = both - _entropies(tables.reshape(len(tables), -1))
    measures: Scores = np.where(both > 0, 200.0 * mutual / np.where(both > 0, both, 1.0), 100.0)
    return measures


def _entropies(weights: Float[np.ndarray, "resamples cells"]) -> Float[np.ndarray, " resamples"]:
    """Entropy of each row, in nats."""
    from scipy.special import entr

    totals = weights.sum(axis=1, keepdims=True)
    entropies: Float[np.ndarray, " resamples"] = entr(weights / np.where(totals > 0, totals, 1.0)).sum(axis=1)
    return entropies


def score_all(observations: Observations) -> float:
    """The score of all items without resampling; it must equal the main score of the task."""
    every_item = np.ones((1, observations.num_items), dtype=int)
    every_draw = np.arange(observations.num_draws)[None, :]
    return float(observations.scores(every_item, every_draw)[0])

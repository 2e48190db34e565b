"""Metrics that reports explain, and those stored for each query of a ranking task.

mteb computes the metrics of the seven categories, ``protocols.word`` those of word-level tasks. A task names its main
score in ``task.json``. CONTRIBUTING.md, "Adding", says how to add one.
"""

from __future__ import annotations

RANKING_METRICS = {
    "nDCG@10": "ndcg_at_10",
    "MAP": "map_at_1000",
    "MRR@10": "mrr_at_10",
    "P@1": "precision_at_1",
    "P@5": "precision_at_5",
    "P@10": "precision_at_10",
    "Recall@50": "recall_at_50",
}
"""Column titles of a headline task's table, with their mteb metrics."""

WHOLE_RANKING_METRICS = ("mrr", "map", "rp_at_5", "rp_at_10")
"""Metrics of rankings to the last document (``protocols.whole_rankings``), for tasks that name one as main score."""

METRIC_MEANINGS = {
    "mrr": "One over the rank of the first relevant document, averaged; the ranking is read to its end.",
    "map": "Mean average precision over the whole ranking.",
    "rp_at_5": "Share of relevant documents among the first five; with fewer relevant ones, the share of these that "
    "are found.",
    "rp_at_10": "Share of relevant documents among the first ten; with fewer relevant ones, the share of these that "
    "are found.",
    "ndcg_at_10": "How many relevant documents are among the first ten, and how high they are ranked, compared with "
    "the best possible order.",
    "map_at_1000": "Mean average precision: precision at the rank of each relevant document, averaged; rewards "
    "finding all of them early.",
    "mrr_at_10": "One over the rank of the first relevant document among the first ten, averaged.",
    "precision_at_1": "Share of the queries whose first document is relevant.",
    "precision_at_10": "Share of the first ten documents that are relevant; with fewer than ten relevant documents "
    "it cannot reach 100.",
    "recall_at_50": "Share of the relevant documents that are among the first fifty.",
    "precision_at_5": "Share of the first five documents that are relevant; with fewer than five relevant documents "
    "it cannot reach 100.",
    "accuracy": "Share of texts that a logistic regression on the vectors labels correctly; it learns from 8 texts "
    "per label; mean of ten draws.",
    "v_measure": "Agreement of clusters of the vectors with the true groups; 0: no agreement, 100: the clusters are "
    "the groups.",
    "cosine_spearman": "Rank correlation of the cosine of two vectors with human judgment; 0: unrelated, below 0: "
    "reversed.",
    "cosine_ap": "Average precision of the cosine as a sign that two texts mean the same.",
    "max_ap": "Average precision of closeness as a sign that two texts mean the same, with the best of mteb's "
    "distances.",
}
"""Meanings of the metrics of the seven categories, as printed in reports."""

WORD_METRIC_MEANINGS = {
    "accuracy": "Share of words that a linear classifier on their hidden states labels correctly.",
    "f1": "Harmonic mean of the share of found spans that are right and the share of true spans that are found; a span "
    "counts only if its bounds and its label are right.",
}
"""Meanings of the metrics of word-level tasks."""

"""Ranking of documents by words and vectors: BM25, dense products, fusion, re-ranking, evidence for a match."""

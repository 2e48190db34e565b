"""Ranking of documents by words and vectors: BM25, dense products, fusion, reranking, evidence for a match."""

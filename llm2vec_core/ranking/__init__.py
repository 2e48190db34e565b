"""From words and vectors to ranked documents: BM25, dense products, fusion, re-ranking, explanations."""

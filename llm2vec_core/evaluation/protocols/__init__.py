"""How a system is scored on a task: by mteb, by words, by BM25."""

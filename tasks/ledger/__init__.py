"""Records of runs: summaries, effective settings, usage, cost, and lineage events."""

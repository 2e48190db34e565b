"""Evaluation tasks: folders, benchmarks by name, and how they become tasks of mteb."""

"""Evaluation tasks: folders, benchmarks by name, and their conversion to mteb tasks."""

"""Artifacts and events of a run for the Prefect UI, and progress bars for the terminal."""

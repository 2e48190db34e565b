"""What the Prefect UI shows of a run: artifacts, events, retry policies; and the terminal's progress bars."""

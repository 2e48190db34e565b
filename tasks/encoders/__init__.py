"""Encoders by name, their checkpoints in the store, and what is known of them: scores, reports, tuned weights."""

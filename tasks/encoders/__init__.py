"""Encoders by name, their stored checkpoints, and their scores, reports and tuned fusion weights."""

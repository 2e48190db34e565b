"""Removing a person from everything at rest, and the scan that proves it."""

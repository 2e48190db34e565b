"""Snapshots: the latest documents of all sources of one kind, stored under a hash of their content."""

"""Snapshots: the latest documents of all sources of one kind, stored once under a hash of their content."""

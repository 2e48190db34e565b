"""Readers of source files, one module a format; ``data.documents.sources.READERS`` assigns them to suffixes."""

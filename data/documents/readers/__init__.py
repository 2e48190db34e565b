"""Readers of source files, one module per format; ``data.documents.sources.READERS`` assigns them to suffixes."""

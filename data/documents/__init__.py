"""Documents: reading source files, cleaning texts, near duplicates, facets of metadata, and judgments for training.

``data.redaction`` replaces personal data, ``data.snapshots`` stores the result.
"""

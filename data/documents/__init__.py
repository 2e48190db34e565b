"""Documents as people have them, and what we make of them.

Reading source files, cleaning texts, finding near duplicates, typed metadata columns (facets), and judgments for
training. Personal data is replaced in ``data.redaction``; the result is stored by ``data.snapshots``.
"""

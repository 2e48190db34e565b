"""Results of a nightly run (matches, Parquet exports), and removal of obsolete data."""

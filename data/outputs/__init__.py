"""The results of a night (matches, Parquet exports), and the removal of what nobody needs any more."""

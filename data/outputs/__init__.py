"""What a night hands on: matches, Parquet exports, and the removal of what nobody needs any more."""

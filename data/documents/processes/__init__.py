"""Reading of documents in worker processes."""

"""Which documents and pairs matching may use, and what it says about conditions beside the scores."""

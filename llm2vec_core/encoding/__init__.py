"""Texts to vectors: the encoder, and its tokens, batches and long texts."""

"""Texts to vectors: tokenizing, batching, long texts, and the encoder itself."""

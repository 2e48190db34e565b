"""Stored vectors: shards, LanceDB tables and indexes, generations, the gate, and the pointer to the served state."""

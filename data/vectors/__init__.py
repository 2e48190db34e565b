"""Stored vectors: shards, LanceDB tables and indexes, generations, the gate, and the pointer to what is served."""

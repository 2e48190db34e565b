"""Vectors at rest: shards, LanceDB tables and their indexes, generations, the pointer, and the gate before it moves."""

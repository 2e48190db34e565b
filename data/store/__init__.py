"""The store of everything at rest (a directory or a bucket), the writer's lease, records, and hashes as arrays."""

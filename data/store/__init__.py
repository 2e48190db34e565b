"""The store of all persistent data (a directory or a bucket), the writer's lease, records, and hashes as arrays."""

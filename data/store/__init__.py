"""The store that holds everything at rest (a directory or a bucket), the writer's lease, records, and hashes as arrays.

Does not belong here: what the keys mean.
"""

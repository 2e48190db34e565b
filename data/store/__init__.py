"""The store that everything at rest lives in: a directory or a bucket, the writer's lease, and hashes as arrays.

Does not belong here: what the keys mean.
"""

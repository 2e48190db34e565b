"""Encoding shards: in this process, on Ray, or shared by several Prefect workers."""

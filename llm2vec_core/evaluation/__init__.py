"""How good the vectors are: evaluation tasks through mteb, and the reports about them.

The only place that imports mteb. Does not belong here: caching of results at rest and artifacts
(``tasks.stages.evaluate``).
"""

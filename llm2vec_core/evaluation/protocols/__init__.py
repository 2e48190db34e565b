"""Protocols that score a system on a task.

``registry`` lists the protocols (task type to scorer) and explains how to add one; ``scoring.evaluate_task`` runs the
matching one and returns the outcome.

=======================  ==========================================================================
``registry``             the list of protocols
``scoring``              scores a system on a task: score, interval, cost
``sentence``             tasks about whole texts, by mteb
``word``                 tasks about words, by a linear probe
``lexical_pairs``        pairs of texts, by BM25
``mteb_models``          our systems as mteb models
``mteb_observations``    mteb's predictions as scores of single items
``mteb_results``         results in mteb's own file layout
``encode_once``          encodes each text once for all tasks, and counts the cost
=======================  ==========================================================================
"""

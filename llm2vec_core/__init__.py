"""Text to vectors, and how good the vectors are.

Belongs here: the bidirectional switch, LoRA, MNTP and SimCSE training, checkpoints, the encoder, lexical scoring,
fusion, evaluation and its reports. Plain Python and torch over texts and arrays.
Does not belong here: documents at rest (``data``), orchestration (``tasks``, ``flows``).
Nothing in this package imports prefect, lancedb or ``data``.
"""

"""Training stages: masked next token prediction, unsupervised and supervised contrastive training.

Each stage reads a model directory and writes one; ``recipe`` chains them. Optimizers, schedules, saving and resuming
are the Hugging Face trainer's. Does not belong here: which documents are trained on (``tasks.stages.train``).
"""

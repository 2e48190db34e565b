"""Training stages: masked next token prediction, unsupervised and supervised contrastive training.

Each stage reads a model directory and writes one; ``recipe`` chains them, and ``stages`` names their trainers.
Optimizers, schedules, saving and resuming are the Hugging Face trainer's. Does not belong here: the choice of training
documents (``tasks.stages.train``).
"""

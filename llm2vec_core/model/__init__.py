"""The model behind an encoder: base models, attention, pooling, LoRA, and the checkpoint directory."""

"""The device of a model: its precision, its memory, and attention without padding."""

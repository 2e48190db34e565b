"""Echo: a text stands twice in a prompt, and only the second copy is pooled.

Under causal attention every token of the second copy has seen the whole text. No training, twice the tokens. The paper
pools the mean of the second copy; here the pooling is that of the encoder or its view.

Source: Springer et al. 2024, Repetition improves language model embeddings, arXiv 2402.15449, section 3.
"""

from __future__ import annotations

FIRST_COPY = "Rewrite the sentence: "
"""Stands before the first copy of the text."""

SECOND_COPY = "\nRewritten sentence: "
"""Stands between the two copies."""


def echo_text(text: str, *, prompt: str = "") -> str:
    """The prompt, and after it the text twice in the template of the paper."""
    return f"{prompt}{FIRST_COPY}{text}{SECOND_COPY}{text}"

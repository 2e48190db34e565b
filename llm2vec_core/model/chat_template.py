"""Chat templates: the frame that a chat model expects around a user's message, as part of a tokenizer.

The tokenizer's post-processor adds the frame, as it adds a start token to other texts. So every program that reads the
directory adds it, and a text that is cut keeps it. Pooling treats its tokens like other added tokens.

Source: LLM2Vec's code, which puts texts into the template of chat models in supervised training and in evaluation.
"""

from __future__ import annotations

from typing import Any

from llm2vec_core.errors import BaseModelError

_MESSAGE = "qz"  # in no template


def apply_chat_template(tokenizer: Any, *, name: str) -> None:  # noqa: ANN401 - tokenizers ship no types
    """Make a tokenizer put every text into its chat template, as a user's message.

    Args:
        tokenizer: Tokenizer of the base model; it is changed.
        name: Base model's name, for messages.

    Raises:
        BaseModelError: The tokenizer has no chat template, or cannot add tokens around a text.
    """
    from tokenizers.processors import TemplateProcessing

    before, after = chat_frame(tokenizer, name=name)
    pieces = [(piece, ids) for piece, ids in (("before", before), ("after", after)) if ids]
    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single=[*(["before"] if before else []), "$A", *(["after"] if after else [])],
        special_tokens=[
            {"id": piece, "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)} for piece, ids in pieces
        ],
    )


def chat_frame(tokenizer: Any, *, name: str) -> tuple[list[int], list[int]]:  # noqa: ANN401
    """Token ids before and after a user's message; the start token is among the first.

    Raises:
        BaseModelError: As :func:`apply_chat_template`.
    """
    if not tokenizer.is_fast or tokenizer.chat_template is None:
        found = "no chat template" if tokenizer.is_fast else "a slow tokenizer, which cannot add one"
        raise BaseModelError(
            f"{name} has {found}; expected a chat model with a fast tokenizer.",
            hint="Set train.chat_template to false, or choose a chat model as base model.",
        )
    rendered: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": _MESSAGE}], tokenize=False, add_generation_prompt=False
    )
    before, _, after = rendered.partition(_MESSAGE)

    def ids_of(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    message, first, last = ids_of(_MESSAGE), ids_of(before + _MESSAGE), ids_of(_MESSAGE + after)
    # A tokenizer may join the space before a message with its first word.
    fits_before, fits_after = first[-len(message) :] == message, last[: len(message)] == message
    return (
        first[: -len(message)] if fits_before else ids_of(before),
        last[len(message) :] if fits_after else ids_of(after),
    )

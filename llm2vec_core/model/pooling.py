"""Pooling modes: from one hidden state per token to one vector per text.

The arithmetic is sentence-transformers' ``Pooling`` module, so that a saved checkpoint loads anywhere; this file maps
the usual names of the modes to it, and selects the tokens to pool.

Source: LLM2Vec section 2.2 (EOS, mean, weighted mean); Muennighoff 2022, SGPT, equation 2 (weighted mean).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Int

from llm2vec_core.errors import CheckpointError, InputError
from llm2vec_core.model.modes import PoolingMode

if TYPE_CHECKING:
    from torch import Tensor

# `eos` is `last` with a token appended to the text, which no pooling module can record: see `tokenizing`.
_MODULE_MODE: dict[PoolingMode, str] = {
    "mean": "mean",
    "weighted_mean": "weightedmean",
    "last": "lasttoken",
    "eos": "lasttoken",
}
_SAVED_MODE: dict[str, PoolingMode] = {"mean": "mean", "weightedmean": "weighted_mean", "lasttoken": "last"}


def pooling_module(pooling_mode: PoolingMode, *, hidden_size: int, pools_prompt: bool = True) -> Any:  # noqa: ANN401 - an untyped module
    """The sentence-transformers module that pools ``[batch, seq, hidden_size]`` to ``[batch, hidden_size]``.

    Args:
        pooling_mode: The mode.
        hidden_size: Width of the states.
        pools_prompt: Whether the tokens of a prompt, and the start token before it, are pooled.

    Raises:
        InputError: EOS pooling. A later load would pool another token, because the module cannot record that the
            tokenizer must append the EOS token.
    """
    if pooling_mode == "eos":
        raise InputError(
            "EOS pooling cannot be trained or saved: a pooling module cannot record that an EOS token is appended.",
            hint="Save the encoder with the pooling 'last' or 'mean', and read it through a view: NAME+eos.",
        )
    return _module(pooling_mode, hidden_size, include_prompt=pools_prompt)


def pooling_position(model: Any) -> int | None:  # noqa: ANN401 - SentenceTransformer, which ships no types
    """Index of the pooling module in a model; None if it has none."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    return next((position for position, module in enumerate(model) if isinstance(module, Pooling)), None)


def saved_pooling_mode(model: Any) -> PoolingMode | None:  # noqa: ANN401
    """Pooling mode of a loaded model; None for one that this package does not name, such as CLS."""
    position = pooling_position(model)
    if position is None or not isinstance(model[position].pooling_mode, str):
        return None
    return _SAVED_MODE.get(model[position].pooling_mode)


def with_pooling(model: Iterable[Any], pooling_mode: PoolingMode, *, name: str) -> list[Any]:
    """The modules of a model with another pooling; the model itself is not changed.

    Raises:
        CheckpointError: The model has no pooling module.
    """
    modules = list(model)
    position = require_pooling(modules, name=name)
    saved = modules[position]
    modules[position] = _module(pooling_mode, saved.embedding_dimension, include_prompt=saved.include_prompt)
    return modules


def require_pooling(model: Any, *, name: str) -> int:  # noqa: ANN401
    """Index of the pooling module.

    Raises:
        CheckpointError: The model has no pooling module, so the pooled tokens are unknown.
    """
    position = pooling_position(model)
    if position is None:
        modules = ", ".join(type(module).__name__ for module in model)
        raise CheckpointError(
            f"{name} has no pooling module (its modules: {modules}), so its pooling cannot be changed.",
            hint="Read it as it was saved, without a pooling mode and without echo.",
        )
    return position


def pooled_mask(attention_mask: Int[Tensor, "batch seq"], pooled: Sequence[range]) -> Int[Tensor, "batch seq"]:
    """Mask of the tokens to pool; padding can be on either side.

    Args:
        attention_mask: 1 for tokens, 0 for padding.
        pooled: For each row the tokens to pool, counted from the row's first token.
    """
    import torch

    position = attention_mask.cumsum(dim=1) - 1
    bounds = torch.tensor([(tokens.start, tokens.stop) for tokens in pooled])
    if attention_mask.is_cuda:
        bounds = bounds.pin_memory()  # so that the copy need not be waited for
    start, stop = bounds.to(attention_mask.device, non_blocking=True).unsqueeze(2).unbind(1)
    return attention_mask * (position >= start) * (position < stop)


def _module(pooling_mode: PoolingMode, hidden_size: int, **settings: bool) -> Any:  # noqa: ANN401
    from sentence_transformers.sentence_transformer.modules import Pooling

    return Pooling(hidden_size, pooling_mode=_MODULE_MODE[pooling_mode], **settings)

"""Pooling modes: from one hidden state per token to one vector per text.

The arithmetic is sentence-transformers' ``Pooling`` module, so that a saved checkpoint loads anywhere; this file maps
the field's names of the modes to it.

Source: LLM2Vec section 2.2 (mean, weighted mean, last token); Muennighoff 2022, SGPT, equation 2 (weighted mean).
"""

from __future__ import annotations

from typing import Any

from llm2vec_core.modes import PoolingMode

_MODULE_MODE: dict[PoolingMode, str] = {"mean": "mean", "weighted_mean": "weightedmean", "last": "lasttoken"}


def pooling_module(pooling_mode: PoolingMode, *, hidden_size: int) -> Any:  # noqa: ANN401 - an untyped module
    """The sentence-transformers module that pools ``[batch, seq, hidden_size]`` to ``[batch, hidden_size]``."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    return Pooling(hidden_size, pooling_mode=_MODULE_MODE[pooling_mode])

"""Standardisation after pooling: subtract the mean of every dimension, and divide by its standard deviation.

A few dimensions of a decoder's states are large for every text, so that all cosines look alike. Means and deviations
are measured on texts without labels, never on test texts. They become a sentence-transformers
``Dense`` module with a diagonal weight, so that a saved encoder loads anywhere.

Source: Su et al. 2021, Whitening Sentence Representations, of which this is the diagonal case; Timkey and van
Schijndel 2021, All Bark and No Bite: Rogue Dimensions in Transformer Language Models (standardisation as the remedy).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from llm2vec_core.errors import InputError

MIN_TEXTS = 50
"""Minimum number of texts to measure a standard deviation on."""

_SMALLEST_DEVIATION = 1e-6
"""A dimension whose deviation is below this share of the largest one counts as constant, and is only centred."""


def standardisation_module(vectors: Float32[np.ndarray, "num_texts dim"]) -> Any:  # noqa: ANN401 - an untyped module
    """Module that gives vectors of similar texts mean 0 and standard deviation 1 in every dimension.

    Args:
        vectors: Pooled vectors of calibration texts, not normalised.

    Raises:
        InputError: Fewer than :data:`MIN_TEXTS` vectors.
    """
    from sentence_transformers.sentence_transformer.modules import Dense

    if len(vectors) < MIN_TEXTS:
        raise InputError(
            f"Standardisation found {len(vectors)} calibration texts; at least {MIN_TEXTS} were expected.",
            hint="Pass more texts like those to encode, or leave standardisation out.",
        )
    mean, deviation = vectors.mean(axis=0, dtype=np.float64), vectors.std(axis=0, dtype=np.float64)
    scale = np.divide(
        1.0, deviation, out=np.ones_like(deviation), where=deviation > _SMALLEST_DEVIATION * deviation.max()
    )
    dim = vectors.shape[1]
    return Dense(
        in_features=dim,
        out_features=dim,
        bias=True,
        activation_function=nn.Identity(),
        init_weight=torch.diag(torch.from_numpy(scale).float()),
        init_bias=torch.from_numpy(-mean * scale).float(),
    )


def is_standardisation(module: Any) -> bool:  # noqa: ANN401
    """Whether a module of a loaded encoder is a standardisation."""
    from sentence_transformers.sentence_transformer.modules import Dense

    if not isinstance(module, Dense) or not isinstance(module.activation_function, nn.Identity):
        return False
    weight = module.linear.weight
    return weight.shape[0] == weight.shape[1] and bool(torch.equal(weight, torch.diag(weight.diagonal())))

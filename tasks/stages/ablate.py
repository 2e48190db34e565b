"""The ablation of the paper, attention x training x pooling on one base model, as recipes and encoder names.

Source: BehnamGhader et al. 2024, LLM2Vec, table 5 and figure 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from llm2vec_core.model.modes import ATTENTIONS, STANDARDISED, PoolingMode, Stage
from llm2vec_core.training.settings import PAPER_STAGES
from tasks.run.reports import CheckpointRef
from tasks.run.settings import Settings

ABLATED_POOLINGS: tuple[PoolingMode, ...] = ("eos", "mean", "weighted_mean")
ABLATED_STAGES: tuple[tuple[Stage, ...], ...] = ((), ("mntp",), ("simcse",), PAPER_STAGES)


def ablation_settings(settings: Settings) -> Iterator[Settings]:
    """Settings of each encoder of the ablation: the recipe with every attention and every training.

    All are trained with mean pooling and without standardisation; both are chosen when a trained encoder is read.
    """
    for attention, stages in itertools.product(ATTENTIONS, ABLATED_STAGES):
        recipe = settings.train.model_copy(
            update={"attention": attention, "stages": stages, "pooling_mode": "mean", "standardised": False}
        )
        yield settings.model_copy(update={"train": recipe})


def ablation_names(settings: Settings, trained: CheckpointRef | None, *, standardised: bool) -> list[str]:
    """Names of one ablation encoder, one per pooling.

    Args:
        settings: Settings of the encoder, one of :func:`ablation_settings`.
        trained: The checkpoint that its recipe made; None for the untrained base.
        standardised: Also return names with standardisation.
    """
    recipe = settings.train
    source = f"{recipe.base_model}+{recipe.attention}" if trained is None else trained.fingerprint
    scalings = ("", f"+{STANDARDISED}") if standardised else ("",)
    return [f"{source}+{pooling}{scaling}" for scaling in scalings for pooling in ABLATED_POOLINGS]

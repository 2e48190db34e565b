"""Unsupervised SimCSE: a text is its own positive, with another dropout mask.

Decoders come without attention dropout, so the stage sets it; LoRA's dropout is the only other noise. Encoder-only
models have their own dropouts: the stage sets the one on attention weights and keeps the others.

Source: Gao et al. 2021, SimCSE, equation 4 (temperature 0.05); LLM2Vec section 2.1 and appendix D.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from datasets import Dataset

from llm2vec_core.training.contrastive import (
    add_adapter,
    contrastive_encoder,
    contrastive_trainer,
    in_batch_negatives,
    in_given_order,
)
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.loop import draw_order, train_and_merge
from llm2vec_core.training.settings import StageCurve

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")


def distinct_sentences(texts: Iterable[str], *, min_words: int) -> list[str]:
    """Distinct sentences of the texts with at least ``min_words`` words, in order of appearance."""
    sentences = (part.strip() for text in texts for part in _SENTENCE_END.split(text))
    return list(dict.fromkeys(sentence for sentence in sentences if len(sentence.split()) >= min_words))


def train_simcse(job: StageJob) -> tuple[Path, StageCurve]:
    """Train the SimCSE stage on the sentences of ``job.texts``, and merge its adapter.

    Returns:
        Directory of the merged transformer without output layer, and the curve.

    Raises:
        BaseModelError: See :func:`~llm2vec_core.training.contrastive.contrastive_encoder`.
        TrainingError: There are too few sentences, or the loss is not finite.
    """
    recipe, settings = job.recipe, job.recipe.simcse
    sentences = distinct_sentences(job.texts, min_words=settings.min_words)
    order = draw_order(job, sentences, unit="sentences")
    drawn = [sentences[index] for index in order]
    model = contrastive_encoder(
        job.base,
        attention=recipe.attention,
        pooling_mode=recipe.pooling_mode,
        max_tokens=settings.max_tokens,
        name=recipe.base_model,
        attention_dropout=settings.simcse_dropout,
    )
    add_adapter(model, settings)
    trainer = contrastive_trainer(
        model,
        Dataset.from_dict({"anchor": drawn, "positive": drawn}),
        loss=in_batch_negatives(model, settings),
        settings=settings,
        output_dir=job.saves_dir,
        num_examples=len(sentences),
        batch_sampler=in_given_order,
    )
    token_ids = model.tokenizer(sentences, truncation=True, max_length=settings.max_tokens)["input_ids"]
    tokens_per_step = 2 * sum(len(token_ids[index]) for index in order) / settings.steps  # two views of each
    return train_and_merge(trainer, job, tokens_per_step=tokens_per_step)

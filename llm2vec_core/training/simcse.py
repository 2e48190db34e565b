"""Unsupervised SimCSE: a text and itself, seen through two dropout masks, are each other's positives.

Trainer, loss and gradient cache are sentence-transformers'. Decoders ship without attention dropout, so it is set here;
LoRA's dropout is the only other noise. Encoder-only models bring dropouts of their own: the one on attention weights is
set by the same setting, the others stay on.

Source: Gao et al. 2021, SimCSE, equation 4 (temperature 0.05); LLM2Vec section 2.1 and appendix D.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardCallback
from torch.utils.data import SequentialSampler

from llm2vec_core.model.modes import Attention, PoolingMode
from llm2vec_core.training.loop import (
    add_adapter,
    contrastive_encoder,
    example_order,
    in_batch_negatives,
    require_examples,
    run_trainer,
    save_merged,
    trainer_arguments,
)
from llm2vec_core.training.settings import OnStep, SimcseSettings, StageCurve

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")


def split_sentences(texts: Iterable[str], *, min_words: int) -> list[str]:
    """Distinct sentences of the texts with at least ``min_words`` words, in order of appearance."""
    sentences = (part.strip() for text in texts for part in _SENTENCE_END.split(text))
    return list(dict.fromkeys(sentence for sentence in sentences if len(sentence.split()) >= min_words))


def train_simcse(
    base: Path,
    texts: Sequence[str],
    *,
    settings: SimcseSettings,
    attention: Attention,
    pooling_mode: PoolingMode,
    work_dir: Path,
    name: str,
    on_step: OnStep | None = None,
) -> tuple[Path, StageCurve]:
    """Train the SimCSE stage and merge its adapter.

    Args:
        base: Directory of a transformer with its tokenizer.
        texts: Training texts; their sentences are the examples.
        settings: Settings of the stage.
        attention: Attention that the encoder will have.
        pooling_mode: Pooling that the encoder will have.
        work_dir: Holds the saves; a second call continues from them.
        name: Base model's name, for messages.
        on_step: Called after every update.

    Returns:
        Directory of the merged transformer without output layer, and the curve.

    Raises:
        BaseModelError: The base model is neither a decoder nor encoder-only, its architecture ignores the switch to the
            attention or has no attention dropout, or its positions do not reach as far as ``max_tokens``.
        TrainingError: Too few sentences, or a loss that is not finite.
    """
    sentences = split_sentences(texts, min_words=settings.min_words)
    require_examples(sentences, needed=settings.batch_size, stage="simcse", unit="sentences")
    order = example_order(
        len(sentences),
        num_draws=settings.steps * settings.batch_size,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    drawn = [sentences[index] for index in order]
    model = contrastive_encoder(
        base,
        attention=attention,
        pooling_mode=pooling_mode,
        max_tokens=settings.max_tokens,
        name=name,
        attention_dropout=settings.simcse_dropout,
    )
    add_adapter(model, settings)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=trainer_arguments(
            SentenceTransformerTrainingArguments,
            settings,
            output_dir=work_dir / "saves",
            per_device_train_batch_size=settings.batch_size,
            batch_sampler=_in_given_order,
        ),
        train_dataset=Dataset.from_dict({"anchor": drawn, "positive": drawn}),
        loss=in_batch_negatives(
            model,
            temperature=settings.temperature,
            settings=settings,
        ),
    )
    trainer.remove_callback(SentenceTransformerModelCardCallback)  # encodes examples for a card that is not written
    lengths = [
        len(ids) for ids in model.tokenizer(sentences, truncation=True, max_length=settings.max_tokens)["input_ids"]
    ]
    tokens_per_step = 2 * sum(lengths[index] for index in order) / settings.steps  # two views of each
    curve = run_trainer(trainer, stage="simcse", tokens_per_step=tokens_per_step, on_step=on_step)
    return save_merged(model, base, attention=attention, name=name, work_dir=work_dir), curve


def _in_given_order(dataset: Dataset, *, batch_size: int, drop_last: bool, **_: object) -> DefaultBatchSampler:
    """Batches of consecutive rows: the dataset already has the order of training."""
    return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

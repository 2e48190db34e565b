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
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.modules import Transformer
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardCallback
from torch.utils.data import SequentialSampler
from transformers import AutoConfig, AutoModel, AutoTokenizer

from llm2vec_core.architectures import apply_attention, attention_dropout_overrides, seeded_missing_weights
from llm2vec_core.lora import lora_config, merge_adapter
from llm2vec_core.modes import Attention, PoolingMode
from llm2vec_core.pooling import pooling_module
from llm2vec_core.training.loop import (
    example_order,
    require_examples,
    run_trainer,
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
        BaseModelError: The architecture ignores the switch to the attention, or has no attention dropout.
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
    model = _noisy_encoder(base, settings=settings, attention=attention, pooling_mode=pooling_mode, name=name)
    torch.manual_seed(settings.seed)  # LoRA's initial weights
    model.add_adapter(lora_config(settings.lora, model[0].model))
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            **trainer_arguments(settings, output_dir=work_dir / "saves"),
            per_device_train_batch_size=settings.batch_size,
            batch_sampler=_in_given_order,
        ),
        train_dataset=Dataset.from_dict({"anchor": drawn, "positive": drawn}),
        loss=_in_batch_negatives(model, settings),
    )
    trainer.remove_callback(SentenceTransformerModelCardCallback)  # encodes examples for a card that is not written
    lengths = [
        len(ids) for ids in model.tokenizer(sentences, truncation=True, max_length=settings.max_tokens)["input_ids"]
    ]
    tokens_per_step = 2 * sum(lengths[index] for index in order) / settings.steps  # two views of each
    curve = run_trainer(trainer, stage="simcse", tokens_per_step=tokens_per_step, on_step=on_step)
    model.save_pretrained(str(work_dir / "adapter"), create_model_card=False)
    with seeded_missing_weights():
        plain = AutoModel.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    apply_attention(plain, attention, name=name)
    merged = merge_adapter(plain, work_dir / "adapter")
    merged.save_pretrained(work_dir / "merged")
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(work_dir / "merged")
    return work_dir / "merged", curve


def _in_batch_negatives(model: SentenceTransformer, settings: SimcseSettings) -> Any:  # noqa: ANN401 - an untyped module
    """The contrastive loss over the whole batch.

    A batch that does not fit goes through the model in micro batches (GradCache), at the price of a second forward.
    """
    scale = 1 / settings.temperature
    if settings.micro_batch_size >= settings.batch_size:
        return MultipleNegativesRankingLoss(model, scale=scale)
    return CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=settings.micro_batch_size)


def _noisy_encoder(
    base: Path, *, settings: SimcseSettings, attention: Attention, pooling_mode: PoolingMode, name: str
) -> SentenceTransformer:
    """The encoder with dropout on its attention weights."""
    config = AutoConfig.from_pretrained(base, local_files_only=True)
    transformer = Transformer(
        str(base),
        max_seq_length=settings.max_tokens,
        model_kwargs={"dtype": torch.float32, "local_files_only": True},
        config_kwargs=attention_dropout_overrides(config, settings.simcse_dropout),
    )
    apply_attention(transformer.model, attention, name=name)
    pooling = pooling_module(pooling_mode, hidden_size=transformer.get_embedding_dimension())
    return SentenceTransformer(modules=[transformer, pooling])


def _in_given_order(dataset: Dataset, *, batch_size: int, drop_last: bool, **_: object) -> DefaultBatchSampler:
    """Batches of consecutive rows: the dataset already has the order of training."""
    return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

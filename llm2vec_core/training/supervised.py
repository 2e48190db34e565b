"""The supervised stage: anchors move towards texts that fit them, and away from texts that do not.

Trainer, loss, gradient cache, Matryoshka loss, mining and samplers are sentence-transformers'. Here is what they are
fed: rows of one anchor, one positive and at most one negative (an anchor with several negatives makes several rows),
and batches of one source each, since texts of another source are told apart too easily.

Source: LLM2Vec section 5 and its training code (homogeneous batches, one hard negative a row, temperature 0.02);
Moreira et al. 2024, NV-Retriever (a mined negative must be less similar than the positive); Kusupati et al. 2022,
Matryoshka Representation Learning.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import (
    MultiDatasetDefaultBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)
from sentence_transformers.base.training_args import BatchSamplers
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardCallback
from sentence_transformers.util import mine_hard_negatives
from torch.utils.data import BatchSampler, ConcatDataset

from llm2vec_core.errors import InputError, TrainingError
from llm2vec_core.model.modes import Attention, PoolingMode
from llm2vec_core.training.loop import (
    add_adapter,
    contrastive_encoder,
    in_batch_negatives,
    run_trainer,
    save_merged,
    trainer_arguments,
)
from llm2vec_core.training.settings import OnStep, StageCurve, SupervisedSettings, TrainingTriple

logger = logging.getLogger(__name__)

_MINED_NAME = "mined.jsonl"
_MINING_QUERIES = 1024
"""Anchors that are compared with all candidates at once; bounds the memory of their similarities."""


class Row(NamedTuple):
    """One example of the trainer."""

    anchor: str
    positive: str
    negative: str | None


Negatives = dict[tuple[str, str], tuple[str, ...]]
"""Of one source: (anchor, positive) to the texts that do not fit the anchor."""


def train_supervised(
    base: Path,
    triples: Sequence[TrainingTriple],
    *,
    settings: SupervisedSettings,
    attention: Attention,
    pooling_mode: PoolingMode,
    work_dir: Path,
    name: str,
    on_step: OnStep | None = None,
) -> tuple[Path, StageCurve]:
    """Train the supervised stage and merge its adapter.

    Args:
        base: Directory of a transformer with its tokenizer.
        triples: What to learn from.
        settings: Settings of the stage.
        attention: Attention that the encoder will have.
        pooling_mode: Pooling that the encoder will have.
        work_dir: Holds the saves; a second call continues from them.
        name: Base model's name, for messages.
        on_step: Called after every update.

    Returns:
        Directory of the merged transformer without output layer, and the curve.

    Raises:
        BaseModelError: The base model is of no use here (see :func:`~llm2vec_core.training.loop.contrastive_encoder`).
        InputError: A Matryoshka dimension is greater than the encoder's.
        TrainingError: A source cannot fill a batch, or a loss that is not finite.
    """
    model = contrastive_encoder(
        base, attention=attention, pooling_mode=pooling_mode, max_tokens=settings.max_tokens, name=name
    )
    loss = contrastive_loss(model, settings)
    sources = negatives_by_source(triples)
    if settings.hard_negatives:
        with PartialState().main_process_first():
            sources = _with_mined(sources, model, settings=settings, path=work_dir / _MINED_NAME)
    rows = {source: list(as_rows(negatives)) for source, negatives in sources.items()}
    add_adapter(model, settings)
    trainer = _trainer(model, rows, loss=loss, settings=settings, output_dir=work_dir / "saves")
    tokens_per_step = settings.batch_size * _tokens_per_row(model, rows, instruction=settings.instruction)
    curve = run_trainer(trainer, stage="supervised", tokens_per_step=tokens_per_step, on_step=on_step)
    return save_merged(model, base, attention=attention, name=name, work_dir=work_dir), curve


def contrastive_loss(model: SentenceTransformer, settings: SupervisedSettings) -> Any:  # noqa: ANN401 - untyped
    """The loss of the stage; with Matryoshka dimensions, its sum over them and the full width.

    Raises:
        InputError: A dimension is greater than the encoder's.
    """
    loss = in_batch_negatives(
        model,
        temperature=settings.temperature,
        settings=settings,
    )
    if not settings.matryoshka_dims:
        return loss
    full = model.get_embedding_dimension()
    if max(settings.matryoshka_dims) > full:
        raise InputError(
            f"matryoshka_dims has {max(settings.matryoshka_dims)}, and the vectors of this encoder have {full} "
            "dimensions; at most that was expected.",
            hint="Lower train.supervised.matryoshka_dims.",
        )
    return MatryoshkaLoss(model, loss, sorted({*settings.matryoshka_dims, full}))


def negatives_by_source(triples: Iterable[TrainingTriple]) -> dict[str, Negatives]:
    """Gather the negatives of each anchor and positive, by source; what comes twice counts once."""
    sources: dict[str, Negatives] = {}
    for triple in triples:
        negatives = sources.setdefault(triple.source, {})
        pair = (triple.anchor, triple.positive)
        negatives[pair] = tuple(dict.fromkeys((*negatives.get(pair, ()), *triple.negatives)))
    return sources


def as_rows(negatives: Negatives) -> Iterator[Row]:
    """One row for each negative of an anchor and its positive, or one without a negative where there is none."""
    for (anchor, positive), texts in negatives.items():
        for negative in texts or (None,):
            yield Row(anchor, positive, negative)


def mine_negatives(negatives: Negatives, model: SentenceTransformer, *, settings: SupervisedSettings) -> Negatives:
    """The negatives of one source, and near misses that the encoder finds among its positives.

    Anchors for which no candidate keeps the margin keep what they have.
    """
    anchors, positives = zip(*negatives, strict=True)
    # Its progress bars cannot be turned off, and they go to stderr.
    with contextlib.redirect_stderr(io.StringIO()):
        mined = mine_hard_negatives(
            Dataset.from_dict({"anchor": anchors, "positive": positives}),
            model,
            query_prompt=settings.instruction or None,
            relative_margin=settings.false_negative_margin,
            num_negatives=settings.hard_negatives,
            batch_size=settings.micro_batch_size,
            faiss_batch_size=_MINING_QUERIES,
            verbose=False,
        )
    together = dict(negatives)
    for row in mined:
        pair = (row["anchor"], row["positive"])
        together[pair] = tuple(dict.fromkeys((*together[pair], row["negative"])))
    return together


def _with_mined(
    sources: dict[str, Negatives], model: SentenceTransformer, *, settings: SupervisedSettings, path: Path
) -> dict[str, Negatives]:
    """Mine for all sources, or read what was mined before the run was killed: it must go on with the same rows."""
    if not path.is_file():
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as stream:
            for source, negatives in sources.items():
                together = mine_negatives(negatives, model, settings=settings)
                num_without = sum(not texts for texts in together.values())
                logger.info("%s: %d of %d anchors have no negative after mining", source, num_without, len(together))
                stream.writelines(f"{json.dumps([source, *pair, texts])}\n" for pair, texts in together.items())
        temporary.rename(path)
    mined: dict[str, Negatives] = {}
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            source, anchor, positive, texts = json.loads(line)
            mined.setdefault(source, {})[anchor, positive] = tuple(texts)
    return mined


def _trainer(
    model: SentenceTransformer,
    rows: Mapping[str, Sequence[Row]],
    *,
    loss: Any,  # noqa: ANN401 - an untyped module
    settings: SupervisedSettings,
    output_dir: Path,
) -> SentenceTransformerTrainer:
    """The trainer, with one dataset for the rows of a source that have a negative and one for those that have none."""
    parts: list[tuple[str, Dataset]] = []
    for source, listed in rows.items():
        with_negative = [row for row in listed if row.negative is not None]
        pairs = [row for row in listed if row.negative is None]
        for part, columns in ((with_negative, Row._fields), (pairs, Row._fields[:2])):
            if 0 < len(part) < settings.batch_size and len(part) < len(listed):
                logger.warning("%s: %d rows of %s cannot fill a batch", source, len(part), " + ".join(columns))
            if part:
                values = zip(*part, strict=True)
                parts.append((source, Dataset.from_dict(dict(zip(columns, values, strict=False)))))
    trainer = SentenceTransformerTrainer(
        model=model,
        args=trainer_arguments(
            SentenceTransformerTrainingArguments,
            settings,
            output_dir=output_dir,
            per_device_train_batch_size=settings.batch_size,
            dataloader_drop_last=True,
            prompts={"anchor": settings.instruction} if settings.instruction else None,
            batch_sampler=BatchSamplers.NO_DUPLICATES,
            multi_dataset_batch_sampler=partial(
                _draw_batches, sources=tuple(source for source, _ in parts), num_batches=settings.steps
            ),
        ),
        # Numbered: the trainer would take the name of a dataset for the name of a column.
        train_dataset=DatasetDict({str(number): dataset for number, (_, dataset) in enumerate(parts)}),
        loss=loss,
    )
    trainer.remove_callback(SentenceTransformerModelCardCallback)  # encodes examples for a card that is not written
    return trainer


class _DrawnBatches(MultiDatasetDefaultBatchSampler):  # type: ignore[misc]
    """All batches of the stage, drawn beforehand.

    To the trainer they are one epoch, so that a resumed run sees what an uninterrupted one would have seen. (How many
    batches an epoch without duplicates really has is known only when it is over.)
    """

    def __init__(
        self, dataset: ConcatDataset[Any], *, batch_samplers: list[BatchSampler], batches: list[list[int]]
    ) -> None:
        super().__init__(dataset, batch_samplers=batch_samplers)
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


def _draw_batches(
    dataset: ConcatDataset[Any],
    *,
    batch_samplers: list[BatchSampler],
    generator: torch.Generator,
    seed: int,
    sources: tuple[str, ...],
    num_batches: int,
) -> _DrawnBatches:
    """Draw all batches: the sources take turns, and within a source its datasets do so by size.

    Args:
        dataset: All datasets.
        batch_samplers: What draws batches from each of them.
        generator: Source of the randomness; every epoch seeds it anew.
        seed: Seed of the first epoch.
        sources: Source of each dataset; those of one source stand side by side.
        num_batches: Batches to draw.

    Raises:
        TrainingError: A source cannot fill a batch without repeating a text.
    """
    merged: list[ConcatDataset[Any]] = []
    turns: list[BatchSampler] = []
    parts = zip(sources, dataset.datasets, batch_samplers, strict=True)
    for source, group in itertools.groupby(parts, key=itemgetter(0)):
        _, datasets, samplers = zip(*group, strict=True)
        whole: ConcatDataset[Any] = ConcatDataset(datasets)
        turn = ProportionalBatchSampler(whole, batch_samplers=samplers, generator=generator, seed=seed)
        if next(iter(turn), None) is None:
            raise _too_few(source, num_rows=len(whole), batch_size=turn.batch_size)
        merged.append(whole)
        turns.append(turn)
    alternating = RoundRobinBatchSampler(ConcatDataset(merged), batch_samplers=turns, generator=generator, seed=seed)
    batches: list[list[int]] = []
    for epoch in itertools.count():
        alternating.set_epoch(epoch)
        drawn = list(itertools.islice(alternating, num_batches - len(batches)))
        if not drawn:  # a source that filled one batch in the first epoch, and by its luck none in this one
            raise _too_few(
                " or ".join(dict.fromkeys(sources)), num_rows=len(dataset), batch_size=alternating.batch_size
            )
        batches += drawn
        if len(batches) == num_batches:
            break
    return _DrawnBatches(dataset, batch_samplers=batch_samplers, batches=batches)


def _too_few(source: str, *, num_rows: int, batch_size: int) -> TrainingError:
    return TrainingError(
        f"The {num_rows} rows of the source {source} cannot fill a batch of {batch_size} in which no text comes twice.",
        hint="Lower train.supervised.batch_size, bring more judgments, or leave the source out.",
    )


def _tokens_per_row(model: SentenceTransformer, rows: Mapping[str, Sequence[Row]], *, instruction: str) -> float:
    """Mean number of tokens of a row's texts, all sources counting alike, since they take turns."""
    texts = {
        source: [[f"{instruction}{anchor}", *filter(None, others)] for anchor, *others in listed]
        for source, listed in rows.items()
    }
    distinct = list(dict.fromkeys(text for listed in texts.values() for row in listed for text in row))
    token_ids = model.tokenizer(distinct, truncation=True, max_length=model.max_seq_length)["input_ids"]
    lengths = {text: len(ids) for text, ids in zip(distinct, token_ids, strict=True)}
    return fmean(fmean(sum(lengths[text] for text in row) for row in listed) for listed in texts.values())

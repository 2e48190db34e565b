"""The supervised stage: contrastive training of anchors with positives and hard negatives.

Matryoshka loss, mining and samplers are those of sentence-transformers. This module makes their input. Each row has one
anchor, one positive and at most one negative; an anchor with several negatives makes several rows. Each batch has one
source, because texts of different sources are too easy to tell apart. Sources are drawn in proportion to their size.

Source: LLM2Vec section 5 and its training code (homogeneous batches, one hard negative per row, temperature 0.02);
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

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from jaxtyping import Float16, Float64
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.base.sampler import MultiDatasetDefaultBatchSampler, ProportionalBatchSampler
from sentence_transformers.base.training_args import BatchSamplers
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
from sentence_transformers.util import mine_hard_negatives
from torch import Tensor
from torch.utils.data import BatchSampler, ConcatDataset

from llm2vec_core.errors import InputError, TrainingError
from llm2vec_core.training.contrastive import (
    add_adapter,
    contrastive_encoder,
    contrastive_trainer,
    encoding_on_device,
    in_batch_negatives,
)
from llm2vec_core.training.distil import TEACHER_NAME, ContrastiveWithTeacher, teacher_vectors
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.loop import train_and_merge
from llm2vec_core.training.settings import START, StageCurve, SupervisedSettings, TrainingTriple

logger = logging.getLogger(__name__)

_MINED_NAME = "mined.jsonl"
_MINING_QUERIES = 1024
"""Number of anchors to compare with all candidates at once; bounds the memory of the similarities."""


class TripleRow(NamedTuple):
    """One example of the trainer: an anchor, a positive, and a negative if there is one."""

    anchor: str
    positive: str
    negative: str | None


Negatives = dict[tuple[str, str], tuple[str, ...]]
"""The negatives of one source, by (anchor, positive)."""


def train_supervised(job: StageJob) -> tuple[Path, StageCurve]:
    """Train the supervised stage on ``job.triples`` and merge its adapter.

    Returns:
        Directory of the merged transformer without output layer, and the curve.

    Raises:
        BaseModelError: See :func:`~llm2vec_core.training.contrastive.contrastive_encoder`.
        InputError: A Matryoshka dimension is greater than the encoder's.
        TrainingError: A source cannot fill a batch, or the loss is not finite.
    """
    recipe, settings = job.recipe, job.recipe.supervised
    model = contrastive_encoder(
        job.base,
        attention=recipe.attention,
        pooling_mode=recipe.pooling_mode,
        max_tokens=settings.max_tokens,
        name=recipe.base_model,
        pools_prompt=not settings.instruction,
        chat_template=recipe.chat_template,
    )
    sources = negatives_by_source(job.triples)
    if settings.hard_negatives:
        with PartialState().main_process_first(), encoding_on_device(model, settings):
            sources = _with_mined(sources, model, settings=settings, path=job.work_dir / _MINED_NAME)
    rows = {source: list(as_rows(negatives)) for source, negatives in sources.items()}
    positions = teacher = None
    if settings.teacher:
        positions = _positions(rows)
        named = model if settings.teacher == START else settings.teacher
        with encoding_on_device(model, settings) if named is model else contextlib.nullcontext():
            vectors = teacher_vectors(list(positions), named, path=job.work_dir / TEACHER_NAME)
        teacher = torch.from_numpy(vectors)
    loss = contrastive_loss(model, settings, teacher=teacher)
    add_adapter(model, settings)
    trainer = _trainer(model, rows, loss=loss, settings=settings, output_dir=job.saves_dir, positions=positions)
    tokens_per_step = settings.batch_size * _tokens_per_row(model, rows, settings=settings)
    return train_and_merge(trainer, job, tokens_per_step=tokens_per_step)


def contrastive_loss(
    model: SentenceTransformer,
    settings: SupervisedSettings,
    *,
    teacher: Float16[Tensor, "num_texts teacher_dim"] | None = None,
) -> Any:  # noqa: ANN401 - untyped
    """The loss of the stage; with Matryoshka dimensions, the sum of the losses at each of them and at the full width.

    Args:
        model: Encoder to train.
        settings: Settings of the stage.
        teacher: Unit vectors of the teacher, if there is one.

    Raises:
        InputError: A dimension is greater than the encoder's, or a batch with a teacher is to be split.
    """
    loss = in_batch_negatives(model, settings)
    if teacher is not None:
        if isinstance(loss, CachedMultipleNegativesRankingLoss):
            raise InputError(
                f"A batch of {settings.batch_size} with micro_batch_size {settings.micro_batch_size} would be split, "
                "but a teacher compares all texts of a batch.",
                hint="Set train.supervised.micro_batch_size to the batch_size, or leave train.supervised.teacher out.",
            )
        loss = ContrastiveWithTeacher(loss, teacher, weight=settings.teacher_weight)
    if not settings.matryoshka_dims:
        return loss
    full = model.get_embedding_dimension()
    if max(settings.matryoshka_dims) > full:
        raise InputError(
            f"matryoshka_dims has {max(settings.matryoshka_dims)}, but this encoder's vectors have {full} dimensions.",
            hint="Lower train.supervised.matryoshka_dims.",
        )
    return MatryoshkaLoss(model, loss, sorted({*settings.matryoshka_dims, full}))


def negatives_by_source(triples: Iterable[TrainingTriple]) -> dict[str, Negatives]:
    """Negatives of each anchor and positive, by source, without duplicates."""
    sources: dict[str, Negatives] = {}
    for triple in triples:
        negatives = sources.setdefault(triple.source, {})
        pair = (triple.anchor, triple.positive)
        negatives[pair] = tuple(dict.fromkeys((*negatives.get(pair, ()), *triple.negatives)))
    return sources


def as_rows(negatives: Negatives) -> Iterator[TripleRow]:
    """One row per negative of an anchor and its positive, or one row without a negative."""
    for (anchor, positive), texts in negatives.items():
        for negative in texts or (None,):
            yield TripleRow(anchor, positive, negative)


def _positions(rows: Mapping[str, Sequence[TripleRow]]) -> dict[str, int]:
    """Number of each distinct text of the rows."""
    texts = (text for listed in rows.values() for row in listed for text in row if text is not None)
    return {text: number for number, text in enumerate(dict.fromkeys(texts))}


def mine_negatives(negatives: Negatives, model: SentenceTransformer, *, settings: SupervisedSettings) -> Negatives:
    """Add hard negatives to those of one source: positives of other anchors that the encoder finds similar.

    An anchor without a candidate beyond the margin gets no negative.
    """
    anchors, positives = zip(*negatives, strict=True)
    # Its progress bars, on stderr, cannot be turned off.
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
    """Mine for all sources, or read the negatives of an interrupted run, which must resume with the same rows."""
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
    rows: Mapping[str, Sequence[TripleRow]],
    *,
    loss: Any,  # noqa: ANN401 - an untyped module
    settings: SupervisedSettings,
    output_dir: Path,
    positions: Mapping[str, int] | None = None,
) -> SentenceTransformerTrainer:
    """The trainer. Each source has a dataset of its rows with a negative, and one of its rows without.

    With ``positions``, each row also has the numbers of its texts, for the loss.
    """
    parts: list[tuple[str, Dataset]] = []
    for source, listed in rows.items():
        with_negative = [row for row in listed if row.negative is not None]
        pairs = [row for row in listed if row.negative is None]
        for part, columns in ((with_negative, TripleRow._fields), (pairs, TripleRow._fields[:2])):
            if 0 < len(part) < settings.batch_size and len(part) < len(listed):
                logger.warning("%s: %d rows of %s cannot fill a batch", source, len(part), " + ".join(columns))
            if part:
                data: dict[str, Any] = dict(zip(columns, zip(*part, strict=True), strict=False))
                if positions is not None:
                    data["label"] = [[positions[text] for text in row if text is not None] for row in part]
                parts.append((source, Dataset.from_dict(data)))
    return contrastive_trainer(
        model,
        # Numbered, because the trainer would confuse a dataset's name with a column's name.
        DatasetDict({str(number): dataset for number, (_, dataset) in enumerate(parts)}),
        loss=loss,
        settings=settings,
        output_dir=output_dir,
        num_examples=sum(map(len, rows.values())),
        dataloader_drop_last=True,
        prompts={"anchor": settings.instruction} if settings.instruction else None,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        multi_dataset_batch_sampler=partial(
            _draw_batches,
            sources=tuple(source for source, _ in parts),
            num_batches=settings.steps,
            temperature=settings.source_temperature,
        ),
    )


class _DrawnBatches(MultiDatasetDefaultBatchSampler):  # type: ignore[misc]
    """All batches of the stage, drawn at its start.

    The trainer treats them as one epoch, so that a resumed run sees the same batches as an uninterrupted one. (The true
    length of an epoch without duplicates is known only at its end.)
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
    temperature: float,
) -> _DrawnBatches:
    """Draw all batches: for each one a source, and from the source the next batch of a pass through its rows.

    Within a source, its datasets are drawn in proportion to their size.

    Args:
        dataset: All datasets.
        batch_samplers: Sampler of each dataset.
        generator: Source of the randomness; every pass seeds it again.
        seed: Seed of the first pass.
        sources: Source of each dataset; the datasets of one source are adjacent.
        num_batches: Batches to draw.
        temperature: As ``source_temperature`` of the settings.

    Raises:
        TrainingError: A source cannot fill a batch without repeating a text.
    """
    endless: list[Iterator[list[int]]] = []
    sizes: list[int] = []
    parts = zip(sources, dataset.datasets, batch_samplers, strict=True)
    for source, group in itertools.groupby(parts, key=itemgetter(0)):
        _, datasets, samplers = zip(*group, strict=True)
        whole: ConcatDataset[Any] = ConcatDataset(datasets)
        own = torch.Generator()  # the passes of several sources interleave
        for sampler in samplers:
            sampler.generator = own
        drawn = ProportionalBatchSampler(whole, batch_samplers=list(samplers), generator=own, seed=seed)
        if next(iter(drawn), None) is None:
            raise _too_few(source, num_rows=len(whole), batch_size=drawn.batch_size)
        endless.append(_passes(drawn, source=source, first_row=sum(sizes)))
        sizes.append(len(whole))
    turns = draw_sources(sizes, num_draws=num_batches, temperature=temperature, seed=seed)
    batches = [next(endless[turn]) for turn in turns]
    return _DrawnBatches(dataset, batch_samplers=batch_samplers, batches=batches)


def draw_sources(sizes: Sequence[int], *, num_draws: int, temperature: float, seed: int) -> list[int]:
    """Number of the source of every batch.

    Args:
        sizes: Rows of each source.
        num_draws: Batches to draw.
        temperature: Sources are drawn in proportion to their size, to the power of one over this.
        seed: Seed of the draws.
    """
    shares = source_shares(sizes, temperature=temperature)
    drawn: list[int] = np.random.default_rng(seed).choice(len(sizes), num_draws, p=shares).tolist()
    return drawn


def source_shares(sizes: Sequence[int], *, temperature: float) -> Float64[np.ndarray, " sources"]:
    """Share of each source in the batches; they add up to one."""
    weights = np.asarray(sizes, dtype=float) ** (1 / temperature)
    shares: Float64[np.ndarray, " sources"] = weights / weights.sum()
    return shares


def _passes(sampler: ProportionalBatchSampler, *, source: str, first_row: int) -> Iterator[list[int]]:
    """The batches of endless passes through one source, as row numbers of all sources together.

    Raises:
        TrainingError: A pass fills no batch, although the first one did.
    """
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        num_batches = 0
        for batch in sampler:
            num_batches += 1
            yield [first_row + row for row in batch]
        if not num_batches:
            raise _too_few(source, num_rows=len(sampler.dataset), batch_size=sampler.batch_size)


def _too_few(source: str, *, num_rows: int, batch_size: int) -> TrainingError:
    return TrainingError(
        f"The {num_rows} rows of the source {source} cannot fill a batch of {batch_size} without repeated texts.",
        hint="Lower train.supervised.batch_size, add judgments, or leave the source out.",
    )


def _tokens_per_row(
    model: SentenceTransformer, rows: Mapping[str, Sequence[TripleRow]], *, settings: SupervisedSettings
) -> float:
    """Mean number of tokens of a row, over the sources as they are drawn."""
    texts = {
        source: [[f"{settings.instruction}{anchor}", *filter(None, others)] for anchor, *others in listed]
        for source, listed in rows.items()
    }
    distinct = list(dict.fromkeys(text for listed in texts.values() for row in listed for text in row))
    token_ids = model.tokenizer(distinct, truncation=True, max_length=model.max_seq_length)["input_ids"]
    lengths = {text: len(ids) for text, ids in zip(distinct, token_ids, strict=True)}
    means = [fmean(sum(lengths[text] for text in row) for row in listed) for listed in texts.values()]
    shares = source_shares(list(map(len, texts.values())), temperature=settings.source_temperature)
    return float(np.dot(shares, means))

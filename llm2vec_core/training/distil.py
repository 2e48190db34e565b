"""The distillation stage: the encoder learns the vectors and the similarities of a teacher, without any judgment.

The teacher encodes every text once, before the first update. A projection maps pooled vectors to the teacher's
dimensions, and the distance between the two is the first loss. The second compares the cosines of all pairs of a batch
with the teacher's. The projection is dropped at the end: only the transformer is kept.

Source: Kim et al. 2023, EmbedDistill (vectors through a projection); Tung and Mori 2019, Similarity-Preserving
Knowledge Distillation (cosines of a batch).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from jaxtyping import Float, Float16, Int64
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss, MultipleNegativesRankingLoss
from sentence_transformers.util import all_gather_with_grad
from torch import Tensor, nn

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.model.base_models import user_cache_dir
from llm2vec_core.training.contrastive import (
    add_adapter,
    contrastive_encoder,
    contrastive_trainer,
    exact_cosines,
    in_given_order,
)
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.loop import draw_order, micro_batches, num_processes, train_and_merge
from llm2vec_core.training.settings import DistilSettings, StageCurve
from llm2vec_core.training.simcse import distinct_sentences

logger = logging.getLogger(__name__)

TEACHER_NAME = "teacher.npy"
"""File of a teacher's vectors in the directory of a stage."""

_PROJECTED = "projected"


def train_distil(job: StageJob) -> tuple[Path, StageCurve]:
    """Train the distillation stage on the sentences of ``job.texts``, and merge its adapter.

    Returns:
        Directory of the merged transformer without output layer, and the curve.

    Raises:
        BaseModelError: The teacher cannot be found; see also
            :func:`~llm2vec_core.training.contrastive.contrastive_encoder`.
        TrainingError: There are too few sentences, or the loss is not finite.
    """
    recipe, settings = job.recipe, job.recipe.distil
    texts = distinct_sentences(job.texts, min_words=settings.min_words)
    order = draw_order(job, texts, unit="sentences")
    vectors = teacher_vectors(texts, settings.teacher, path=job.work_dir / TEACHER_NAME)
    model = contrastive_encoder(
        job.base,
        attention=recipe.attention,
        pooling_mode=recipe.pooling_mode,
        max_tokens=settings.max_tokens,
        name=recipe.base_model,
    )
    add_adapter(model, settings)
    width = model.get_embedding_dimension()
    model.append(Dense(width, vectors.shape[1], activation_function=None, module_output_name=_PROJECTED))
    micro_batch_size, grad_accum_steps = micro_batches(settings)
    trainer = contrastive_trainer(
        model,
        Dataset.from_dict({"text": [texts[index] for index in order], "label": order}),
        loss=TeacherLoss(model, torch.from_numpy(vectors), settings),
        settings=settings,
        output_dir=job.saves_dir,
        num_examples=len(texts),
        batch_size=micro_batch_size,
        gradient_accumulation_steps=grad_accum_steps,
        batch_sampler=in_given_order,
    )
    token_ids = model.tokenizer(texts, truncation=True, max_length=settings.max_tokens)["input_ids"]
    tokens_per_step = sum(len(token_ids[index]) for index in order) / settings.steps
    return train_and_merge(trainer, job, tokens_per_step=tokens_per_step)


def teacher_vectors(
    texts: Sequence[str], teacher: str | SentenceTransformer, *, path: Path
) -> Float16[np.ndarray, "num_texts teacher_dim"]:
    """The teacher's unit vectors of all texts: from ``path`` if an earlier run wrote them, otherwise encoded now.

    Args:
        texts: Texts to encode.
        teacher: Name of the teacher, or an encoder that teaches itself.
        path: File that keeps the vectors for a resumed run.

    Raises:
        BaseModelError: The teacher cannot be found.
    """
    with PartialState().main_process_first():
        if not path.is_file():
            logger.info("the teacher encodes %d texts, once", len(texts))
            vectors: np.ndarray
            if isinstance(teacher, str):
                vectors = Encoder.load(teacher, cache_dir=user_cache_dir()).encode(texts, normalize=True)
            else:
                vectors = teacher.encode(texts, normalize_embeddings=True, show_progress_bar=False)
            temporary = path.with_suffix(".tmp.npy")
            np.save(temporary, vectors.astype(np.float16))
            temporary.rename(path)
    found: Float16[np.ndarray, "num_texts teacher_dim"] = np.load(path)
    return found


class TeacherLoss(nn.Module):
    """Distance to the teacher's vectors, plus the weighted difference of the similarities in a batch.

    Args:
        model: Encoder whose last module projects pooled vectors to the teacher's dimensions.
        teacher: The teacher's unit vectors.
        settings: Settings of the stage.
    """

    def __init__(
        self, model: SentenceTransformer, teacher: Float16[Tensor, "num_texts teacher_dim"], settings: DistilSettings
    ) -> None:
        """The loss of the stage."""
        super().__init__()
        self.model = model
        self._teacher = teacher
        self._distance = EmbedDistillLoss(model, distance_metric=settings.distance)
        self._similarity_weight = settings.similarity_weight

    def forward(self, features: Iterable[dict[str, Tensor]], labels: Int64[Tensor, " batch"]) -> dict[str, Tensor]:
        """Both parts of the loss. The trainer adds them.

        Args:
            features: One column of texts, tokenised.
            labels: Position of each text among the teacher's vectors.
        """
        (column,) = features
        encoded = self.model(column)
        vectors: Float[Tensor, "batch dim"] = encoded["sentence_embedding"]
        teacher = self._teacher[labels.cpu()].to(vectors.device, torch.float32)
        with torch.autocast(vectors.device.type, enabled=False):
            distance = self._distance.compute_loss_from_embeddings([encoded[_PROJECTED].float()], [teacher])
        if not self._similarity_weight:
            return {"distance": distance}
        return {"distance": distance, "similarity": self._similarity_weight * similarity_loss(vectors, teacher)}


class ContrastiveWithTeacher(nn.Module):
    """A contrastive loss, plus the weighted difference between the similarities in a batch and those of a teacher.

    Args:
        contrastive: Loss that takes the whole batch at once.
        teacher: The teacher's unit vectors.
        weight: Weight of the differences.
    """

    def __init__(
        self,
        contrastive: MultipleNegativesRankingLoss,
        teacher: Float16[Tensor, "num_texts teacher_dim"],
        *,
        weight: float,
    ) -> None:
        """The loss of the supervised stage with a teacher."""
        super().__init__()
        self.model = contrastive.model
        self._contrastive = contrastive
        self._teacher = teacher
        self._weight = weight

    def forward(self, features: Iterable[dict[str, Tensor]], labels: Int64[Tensor, "batch columns"]) -> Tensor:
        """The sum of both parts.

        Args:
            features: Columns of texts, tokenised: anchors, positives, and negatives if there are any.
            labels: Position of each text among the teacher's vectors.
        """
        columns: list[Float[Tensor, "batch dim"]] = [self.model(column)["sentence_embedding"] for column in features]
        loss: Tensor = self._contrastive.compute_loss_from_embeddings(columns, labels)
        vectors = torch.cat(columns)
        teacher = self._teacher[labels.T.flatten().cpu()].to(vectors.device, torch.float32)
        return loss + self._weight * similarity_loss(vectors, teacher)


def similarity_loss(
    vectors: Float[Tensor, "batch dim"], teacher: Float[Tensor, "batch teacher_dim"]
) -> Float[Tensor, ""]:
    """Mean squared difference between the cosines of all pairs of the batch and the teacher's, without the diagonal."""
    others, teacher_others, first = vectors, teacher, 0
    if num_processes() > 1:
        others, teacher_others = all_gather_with_grad(vectors), all_gather_with_grad(teacher)
        first = PartialState().process_index * len(vectors)
    differences = exact_cosines(vectors, others) - exact_cosines(teacher, teacher_others)
    own = torch.arange(len(vectors), device=vectors.device)
    differences = differences.index_put((own, first + own), differences.new_zeros(()))
    return differences.square().sum() / (differences.numel() - len(vectors))

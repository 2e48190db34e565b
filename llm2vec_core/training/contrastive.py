"""Shared parts of the contrastive stages: encoder, adapter, loss and trainer.

Trainer, losses and gradient cache are those of sentence-transformers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from jaxtyping import Float, Float32
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardCallback
from sentence_transformers.util import cos_sim
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import AutoConfig

from llm2vec_core.device.precision import default_device
from llm2vec_core.errors import TrainingError
from llm2vec_core.model.architectures import (
    apply_attention,
    attention_dropout_overrides,
    is_encoder_only,
    prepare_padding,
    require_one_stack,
    require_positions,
    state_width,
    text_transformer,
)
from llm2vec_core.model.chat_template import apply_chat_template
from llm2vec_core.model.lora import cast_linears, lora_config
from llm2vec_core.model.modes import Attention, PoolingMode
from llm2vec_core.model.pooling import pooling_module
from llm2vec_core.training.loop import cast_and_compile, num_processes, process_share, trainer_arguments
from llm2vec_core.training.packing import PackedTransformer
from llm2vec_core.training.settings import SimcseSettings, StageSettings, SupervisedSettings


def contrastive_encoder(
    base: Path,
    *,
    attention: Attention,
    pooling_mode: PoolingMode,
    max_tokens: int,
    name: str,
    attention_dropout: float | None = None,
    pools_prompt: bool = True,
    chat_template: bool = False,
) -> SentenceTransformer:
    """Load the encoder that a contrastive stage trains: a transformer in fp32 with its attention and pooling.

    It stays in host memory: the trainer moves it, after :func:`add_adapter` has cast the frozen weights. So a device
    never holds them in fp32.

    Args:
        base: Directory of a transformer with its tokenizer.
        attention: Attention of the encoder.
        pooling_mode: Pooling of the encoder.
        max_tokens: Longer texts are truncated to this.
        name: Base model's name, for messages.
        attention_dropout: Dropout on attention weights in training (default: that of the base model).
        pools_prompt: Whether the tokens of a prompt are pooled.
        chat_template: Whether texts are put into the base model's chat template.

    Raises:
        BaseModelError: The base model is neither a decoder nor encoder-only, its architecture ignores the switch to the
            attention or has no dropout to set, or it has fewer than ``max_tokens`` positions.
    """
    config = AutoConfig.from_pretrained(base, local_files_only=True)
    require_one_stack(config)
    require_positions(config, max_tokens, name=name)
    transformer = text_transformer(
        base,
        max_tokens=max_tokens,
        name=name,
        module=None if is_encoder_only(config) else PackedTransformer,
        config_kwargs={} if attention_dropout is None else attention_dropout_overrides(config, attention_dropout),
    )
    prepare_padding(transformer.tokenizer)
    if chat_template:
        apply_chat_template(transformer.tokenizer, name=name)
    apply_attention(transformer.model, attention, name=name)
    width = state_width(transformer.model.config)
    pooling = pooling_module(pooling_mode, hidden_size=width, pools_prompt=pools_prompt)
    return SentenceTransformer(modules=[transformer, pooling], device="cpu")


def add_adapter(model: SentenceTransformer, settings: StageSettings) -> None:
    """Add the adapter that the stage trains. The stage's seed draws its initial weights."""
    torch.manual_seed(settings.seed)
    transformer = model[0].model
    model.add_adapter(lora_config(settings.lora, transformer))
    for weight in transformer.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # an adapter takes the type of the layer that it adapts
    cast_and_compile(transformer, settings)


@contextlib.contextmanager
def encoding_on_device(model: SentenceTransformer, settings: StageSettings) -> Iterator[None]:
    """Move an encoder without an adapter to the device, to encode in the precision of the training that follows."""
    device = default_device()
    is_mixed = settings.precision == "bf16"
    if device.type != "cpu":
        if is_mixed:
            cast_linears(model[0].model)
        model.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=is_mixed and device.type != "cpu"):
        yield


def in_batch_negatives(model: SentenceTransformer, settings: SimcseSettings | SupervisedSettings) -> Any:  # noqa: ANN401 - an untyped module
    """The contrastive loss: the texts of all other rows of the batch are negatives, including those of other processes.

    A batch above ``micro_batch_size`` is split (GradCache), at the cost of a second forward pass.

    Source: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup.
    """
    shared = {
        "scale": 1 / settings.temperature,
        "similarity_fct": exact_cosines,
        "gather_across_devices": num_processes() > 1,
    }
    if settings.micro_batch_size >= process_share(settings):
        return MultipleNegativesRankingLoss(model, **shared)
    return CachedMultipleNegativesRankingLoss(model, mini_batch_size=settings.micro_batch_size, **shared)


def exact_cosines(
    anchors: Float[Tensor, "anchors dim"], others: Float[Tensor, "others dim"]
) -> Float32[Tensor, "anchors others"]:
    """Cosines in fp32. Autocast would round them to three digits, and the temperature multiplies the error."""
    with torch.autocast(anchors.device.type, enabled=False):
        cosines: Tensor = cos_sim(anchors.float(), others.float())
    return cosines


def contrastive_trainer(
    model: SentenceTransformer,
    data: Any,  # noqa: ANN401 - a dataset or a dictionary of them
    *,
    loss: Any,  # noqa: ANN401 - an untyped module
    settings: StageSettings,
    output_dir: Path,
    num_examples: int,
    batch_size: int | None = None,
    **own: Any,  # noqa: ANN401
) -> SentenceTransformerTrainer:
    """The trainer of a stage that compares vectors.

    Args:
        model: Encoder with its adapter.
        data: Training examples, in the form of sentence-transformers.
        loss: Loss over ``model``.
        settings: Settings of the stage.
        output_dir: Directory of the saves.
        num_examples: Distinct examples of the stage, the length of an epoch.
        batch_size: Texts in one pass of the loss (default: those of an update).
        own: Arguments only for this stage's trainer.
    """
    trainer = _AdapterTrainer(
        model=model,
        args=trainer_arguments(
            SentenceTransformerTrainingArguments,
            settings,
            output_dir=output_dir,
            num_examples=num_examples,
            per_device_train_batch_size=batch_size or settings.batch_size,
            **own,
        ),
        train_dataset=data,
        loss=loss,
    )
    trainer.remove_callback(SentenceTransformerModelCardCallback)  # encodes examples for a card that is not written
    return trainer


class _AdapterTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """The trainer, which resumes from the adapter of a save, and the modules behind the transformer.

    The library would load a second model, from the base model that the save names. That one lacks the adapters of
    earlier stages.
    """

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        saved = load_file(Path(checkpoint_path) / "adapter_model.safetensors")
        found = {f"base_model.model.{name}": weight for name, weight in self.model[0].model.named_parameters()}
        trained = {name.replace(".default", ""): weight for name, weight in found.items() if weight.requires_grad}
        if differing := saved.keys() ^ trained.keys():
            raise TrainingError(
                f"The save {checkpoint_path} has other weights than the adapter: {', '.join(sorted(differing)[:3])}.",
                hint="Remove the unfinished training of this recipe and train again.",
            )
        for name, weight in trained.items():
            weight.data.copy_(saved[name])
        for number, module in enumerate(self.model):
            if number and any(True for _ in module.parameters()):  # such as distil's projection
                folder = Path(checkpoint_path) / f"{number}_{type(module).__name__}"
                module.load_state_dict(load_file(folder / "model.safetensors"))


def in_given_order(dataset: Dataset, *, batch_size: int, drop_last: bool, **_: object) -> DefaultBatchSampler:
    """Batches of consecutive rows, because the dataset is already in the order of training."""
    return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

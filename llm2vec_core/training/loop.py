"""What stages share: arguments of the trainer, order of the examples, progress, and resuming from the last save.

Encoder, loss and merging of the two contrastive stages are here, too.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from llm2vec_core.errors import TrainingError
from llm2vec_core.model.architectures import (
    apply_attention,
    attention_dropout_overrides,
    is_encoder_only,
    prepare_padding,
    require_one_stack,
    require_positions,
    seeded_missing_weights,
    state_width,
    text_transformer,
)
from llm2vec_core.model.lora import cast_frozen_linears, lora_config, merge_adapter
from llm2vec_core.model.modes import Attention, PoolingMode
from llm2vec_core.model.pooling import pooling_module
from llm2vec_core.training.settings import OnStep, Stage, StageCurve, StageSettings, StepLog

logger = logging.getLogger(__name__)

Arguments = TypeVar("Arguments", bound=TrainingArguments)

MERGED_NAME = "merged"
"""Below a stage's working directory: the transformer with the adapter merged into it."""

_STATE_NAME = "trainer_state.json"
_SECONDS = "seconds"


def num_processes() -> int:
    """Processes that share an update, as ``accelerate launch`` and ``torchrun`` tell it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process writes what all have trained."""
    return int(os.environ.get("RANK", "0")) == 0


def trainer_arguments(kind: type[Arguments], settings: StageSettings, *, output_dir: Path, **own: Any) -> Arguments:  # noqa: ANN401
    """The arguments of a trainer.

    One process trains on one device: where it sees several, the trainer would spread each forward pass over them and
    multiply the batch. Several devices are for ``num_processes``.

    Args:
        kind: ``TrainingArguments`` or a subclass.
        settings: Settings of the stage.
        output_dir: Where the saves go.
        own: Arguments of this trainer only.
    """
    arguments: Arguments = kind(**_common_arguments(settings, output_dir=output_dir), **own)
    arguments._n_gpu = min(arguments.n_gpu, 1)  # read by all that counts devices; nothing public sets it
    return arguments


def _common_arguments(settings: StageSettings, *, output_dir: Path) -> dict[str, Any]:
    return {
        "output_dir": str(output_dir),
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_steps,
        "lr_scheduler_type": "linear",
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "seed": settings.seed,
        "bf16": settings.bf16,
        "use_cpu": not torch.accelerator.is_available(),  # without it, bf16 is refused there
        "activation_checkpointing": settings.gradient_checkpointing,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
        # Whole batches are drawn, and every process takes its share: an update is the same for any number of them.
        "accelerator_config": {"split_batches": True},
        "ddp_find_unused_parameters": False,
    }


def resumable_save(output_dir: Path) -> Path | None:
    """Newest complete save below ``output_dir``; incomplete ones (a run killed while saving) are removed.

    The trainer writes its state file last, so a save with a readable one is complete.
    """
    saves = sorted(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True)
    for save in saves:
        try:
            json.loads((save / _STATE_NAME).read_text())
        except (OSError, ValueError):
            if is_main_process():
                logger.warning("removing the incomplete save %s", save.name)
                shutil.rmtree(save)
        else:
            return save
    return None


def run_trainer(trainer: Trainer, *, stage: Stage, tokens_per_step: float, on_step: OnStep | None) -> StageCurve:
    """Train to the last step, from the last complete save if there is one.

    Args:
        trainer: Ready trainer; its ``output_dir`` holds the saves.
        stage: Name for logs and the curve.
        tokens_per_step: Mean number of tokens of one optimizer update, padding not counted.
        on_step: Called after every optimizer update.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    save = resumable_save(Path(trainer.args.output_dir))
    if save is not None:
        logger.info("%s continues from step %s", stage, save.name.rsplit("-", 1)[1])
    # The trainer's own callbacks would write a dictionary per step to stdout.
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, (PrinterCallback, ProgressCallback)):
            trainer.remove_callback(callback)
    trainer.add_callback(_StepCallback(stage, tokens_per_step, on_step))
    with _attention_kernel(trainer.args.device):
        trainer.train(resume_from_checkpoint=str(save) if save else None)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return StageCurve(
        stage=stage,
        num_steps=trainer.state.global_step,
        tokens=round(tokens_per_step * trainer.state.global_step),
        seconds=sum(entry.get(_SECONDS, 0.0) for entry in steps),
        losses=[entry["loss"] for entry in steps],
        learning_rates=[entry["learning_rate"] for entry in steps],
    )


def _attention_kernel(device: torch.device) -> AbstractContextManager[None]:
    """Attention by plain matrix products on a CPU.

    The backward pass of torch's fused kernel takes 40 % of an update on texts of 12 tokens there, and gains nothing at
    128 (torch 2.15).
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def example_order(num_examples: int, *, num_draws: int, batch_size: int, seed: int) -> list[int]:
    """Which example is drawn when: seeded passes over all examples, whole batches only.

    The order is a list made beforehand, so that a resumed run sees what an uninterrupted one would have seen, and no
    example meets itself in one batch.

    Args:
        num_examples: Examples there are.
        num_draws: Examples needed, a multiple of ``batch_size``.
        batch_size: Examples of one update; at most ``num_examples``.
        seed: Seed of the permutations.
    """
    generator = np.random.default_rng(seed)
    whole = num_examples - num_examples % batch_size

    def passes() -> Iterator[int]:
        while True:
            yield from generator.permutation(num_examples)[:whole].tolist()

    draws = passes()
    return [next(draws) for _ in range(num_draws)]


def micro_batches(settings: StageSettings) -> tuple[int, int]:
    """Size of the micro batches of all processes together, and number of accumulation steps, that give ``batch_size``.

    Raises:
        TrainingError: ``batch_size`` cannot be divided so.
    """
    share = process_share(settings)
    micro = min(settings.micro_batch_size, share)
    if share % micro:
        raise TrainingError(
            f"The batch of {share} a process is no multiple of micro_batch_size {micro}.",
            hint="Choose a micro_batch_size that divides the batch_size (and what each process gets of it).",
        )
    return micro * num_processes(), share // micro


def process_share(settings: StageSettings) -> int:
    """Texts of an update that each process gets.

    Raises:
        TrainingError: ``batch_size`` cannot be divided among the processes.
    """
    if settings.batch_size % num_processes():
        raise TrainingError(
            f"batch_size {settings.batch_size} cannot be divided among {num_processes()} processes.",
            hint="Choose a batch_size that is a multiple of train.num_processes.",
        )
    return settings.batch_size // num_processes()


def require_examples(examples: Sequence[object], *, needed: int, stage: str, unit: str) -> None:
    """Refuse to train on fewer examples than one batch needs.

    Raises:
        TrainingError: Says how many there are and how many one update needs.
    """
    if len(examples) < needed:
        raise TrainingError(
            f"{stage} found {len(examples)} {unit} to train on, and one update needs {needed}.",
            hint="Ingest more documents, or lower train.{stage}.batch_size.".replace("{stage}", stage),
        )


def contrastive_encoder(
    base: Path,
    *,
    attention: Attention,
    pooling_mode: PoolingMode,
    max_tokens: int,
    name: str,
    attention_dropout: float | None = None,
) -> Any:  # noqa: ANN401 - SentenceTransformer, which ships no types
    """The encoder that a contrastive stage trains: transformer in fp32, attention, pooling.

    Args:
        base: Directory of a transformer with its tokenizer.
        attention: Attention that the encoder will have.
        pooling_mode: Pooling that the encoder will have.
        max_tokens: Longer texts are cut here.
        name: Base model's name, for messages.
        attention_dropout: Dropout on attention weights while training; the base model's own by default.

    Raises:
        BaseModelError: The base model is neither a decoder nor encoder-only, its architecture ignores the switch to the
            attention or has no dropout to set, or its positions do not reach as far as ``max_tokens``.
    """
    from sentence_transformers import SentenceTransformer

    from llm2vec_core.training.packing import PackedTransformer

    config = AutoConfig.from_pretrained(base, local_files_only=True)
    require_one_stack(config)
    require_positions(config, max_tokens, name=name)
    transformer = text_transformer(
        base,
        max_tokens=max_tokens,
        module=None if is_encoder_only(config) else PackedTransformer,
        config_kwargs={} if attention_dropout is None else attention_dropout_overrides(config, attention_dropout),
    )
    prepare_padding(transformer.tokenizer)
    apply_attention(transformer.model, attention, name=name)
    pooling = pooling_module(pooling_mode, hidden_size=state_width(transformer.model.config))
    return SentenceTransformer(modules=[transformer, pooling])


def add_adapter(model: Any, settings: StageSettings) -> None:  # noqa: ANN401 - SentenceTransformer, which ships no types
    """Give a contrastive encoder the adapter that is trained, its initial weights drawn by the seed of the stage."""
    torch.manual_seed(settings.seed)
    model.add_adapter(lora_config(settings.lora, model[0].model))
    if settings.bf16:
        cast_frozen_linears(model[0].model)
    if settings.compile_blocks:
        compile_blocks(model)


def compile_blocks(model: torch.nn.Module) -> None:
    """Compile the blocks of a transformer, one compilation for all of them: they are alike."""
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.compile()


def in_batch_negatives(model: Any, *, temperature: float, settings: StageSettings) -> Any:  # noqa: ANN401
    """The contrastive loss over the whole batch: every text of another row is a negative, of whichever process.

    A batch that does not fit goes through the model in micro batches (GradCache), at the price of a second forward.

    Source: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup.

    Args:
        model: The ``SentenceTransformer`` to train.
        temperature: Cosines are divided by it.
        settings: Sizes of the batch and of what goes through the model at once.
    """
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    shared = {
        "scale": 1 / temperature,
        "similarity_fct": exact_cosines,
        "gather_across_devices": num_processes() > 1,
    }
    if settings.micro_batch_size >= process_share(settings):
        return MultipleNegativesRankingLoss(model, **shared)
    return CachedMultipleNegativesRankingLoss(model, mini_batch_size=settings.micro_batch_size, **shared)


def exact_cosines(
    anchors: Float[Tensor, "anchors dim"], others: Float[Tensor, "others dim"]
) -> Float32[Tensor, "anchors others"]:
    """Cosines in fp32, also where autocast would round them to three digits: the temperature multiplies the error."""
    from sentence_transformers.util import cos_sim

    with torch.autocast(anchors.device.type, enabled=False):
        cosines: Tensor = cos_sim(anchors.float(), others.float())
    return cosines


def save_merged(
    model: Any,  # noqa: ANN401 - a PeftModel or a SentenceTransformer, which ship no types
    base: Path,
    *,
    architecture: Any = AutoModel,  # noqa: ANN401
    attention: Attention,
    name: str,
    work_dir: Path,
) -> Path:
    """Merge the adapter that a model was trained with into a fresh fp32 load of its base.

    Args:
        model: Model with its adapter.
        base: Directory of the transformer that it was trained on.
        architecture: Auto class of what is saved: with an output layer or without.
        attention: Attention that the saved configuration states.
        name: Base model's name, for messages.
        work_dir: Where adapter and result are put.

    Returns:
        Directory of the merged transformer, with its tokenizer.
    """
    target, adapter = work_dir / MERGED_NAME, work_dir / "adapter"
    if not is_main_process():
        return target
    model.save_pretrained(str(adapter), create_model_card=False)
    with seeded_missing_weights():
        plain = architecture.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    apply_attention(plain.base_model, attention, name=name)
    plain.config.save_pretrained(adapter)  # states the attention that the adapter was trained for
    merge_adapter(plain, adapter).save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    prepare_padding(tokenizer)
    tokenizer.save_pretrained(target)
    return target


class _StepCallback(TrainerCallback):  # type: ignore[misc]
    """Tells about every update and stops a run whose loss is no longer a number."""

    def __init__(self, stage: Stage, tokens_per_step: float, on_step: OnStep | None) -> None:
        self._stage = stage
        self._tokens_per_step = tokens_per_step
        self._on_step = on_step
        self._last = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:  # noqa: ANN401
        if logs is None or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"The loss of {self._stage} became {logs['loss']} at step {state.global_step}.",
                hint=f"Lower train.{self._stage}.learning_rate; the last save is intact.",
            )
        now = time.monotonic()
        state.log_history[-1][_SECONDS] = now - self._last  # saved with the rest, so that a resumed run knows it
        step = StepLog(
            stage=self._stage,
            step=state.global_step,
            num_steps=state.max_steps,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            tokens=round(self._tokens_per_step),
            seconds=now - self._last,
        )
        self._last = now
        logger.debug("%s", step)
        if self._on_step is not None:
            self._on_step(step)

"""MNTP here against a plain Hugging Face ``Trainer`` that sends every position through ``lm_head``.

Same model, LoRA, batch, chunks, masks, precision and recomputing of activations; the sides take turns. ``fp32`` keeps
all activations, ``bf16`` recomputes them, as the profile ``full`` does, and ours also compiles its blocks there. All
tokens of a chunk count. ``ratio`` and ``memory_ratio`` (peak of one update, weights counted) are ours over plain;
``full_ratio`` is ours over a plain run that trains all weights instead of an adapter. The last line of stdout is one
JSON object.

    python -m benchmarks.mntp_throughput [--quick] [--precision fp32|bf16]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from benchmarks.common.machine import BASE_MODEL, base_model_dir, describe, sample_texts
from benchmarks.plan_accuracy import AliveBytes
from llm2vec_core.model.bidirectional import switch_attention
from llm2vec_core.model.lora import LoraSettings, cast_frozen_linears, lora_config
from llm2vec_core.training.loop import compile_blocks, example_order, trainer_arguments
from llm2vec_core.training.mntp import MaskedChunks, MntpModel, mask_token_id, pack_chunks
from llm2vec_core.training.settings import MntpSettings

Step = Callable[[], None]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds of smaller batches")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    arguments = parser.parse_args()
    is_mixed = arguments.precision == "bf16"
    rounds, batch_size, chunk_tokens = (3, 4, 128) if arguments.quick else (8, 8, 256)
    settings = MntpSettings(
        batch_size=batch_size,
        micro_batch_size=batch_size,
        chunk_tokens=chunk_tokens,
        bf16=is_mixed,
        gradient_checkpointing=is_mixed,
    )
    base = base_model_dir()
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    chunks = pack_chunks(sample_texts(), tokenizer, chunk_tokens=chunk_tokens)
    order = example_order(len(chunks), num_draws=256 * batch_size, batch_size=batch_size, seed=settings.seed)

    def data(vocab_size: int) -> MaskedChunks:
        return MaskedChunks(
            chunks, order, settings=settings, mask_token_id=mask_token_id(tokenizer), vocab_size=vocab_size
        )

    def ours(causal: Any) -> Any:  # noqa: ANN401
        model = MntpModel(causal, lora_config(LoraSettings(), causal))
        if settings.bf16:
            cast_frozen_linears(model)
        return model

    wrappers = {
        "ours": ours,
        "plain": lambda causal: get_peft_model(causal, lora_config(LoraSettings(), causal)),
        "full": lambda causal: causal,
    }
    with tempfile.TemporaryDirectory() as folder:
        models = {name: wrap(load_switched(base)) for name, wrap in wrappers.items()}
        steps = {name: training_step(model, data, settings, Path(folder)) for name, model in models.items()}
        weights = {name: sum(weight.nbytes for weight in model.parameters()) for name, model in models.items()}
        # Of interpreted blocks on all sides: what compiled code allocates is not seen.
        peaks = {name: weights[name] + peak_bytes(step) for name, step in steps.items()}
        if settings.bf16:
            compile_blocks(models["ours"])
            steps["ours"]()
        seconds = take_turns(steps, rounds=rounds)
    rates = {name: batch_size * chunk_tokens / statistics.median(times) for name, times in seconds.items()}
    result = {
        "ratio": rates["ours"] / rates["plain"],
        "memory_ratio": peaks["ours"] / peaks["plain"],
        "full_ratio": rates["ours"] / rates["full"],
        "full_memory_ratio": peaks["ours"] / peaks["full"],
        "tokens_per_s": rates,
        "peak_bytes": peaks,
        "model": BASE_MODEL,
        "precision": arguments.precision,
        "batch": [batch_size, chunk_tokens],
        **describe(),
    }
    print(json.dumps(result))


def load_switched(base: Path) -> Any:  # noqa: ANN401
    """The base model with its output layer, bidirectional."""
    torch.manual_seed(0)
    causal = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    switch_attention(causal.base_model, "bidirectional", name=BASE_MODEL)
    return causal


def training_step(
    model: Any,  # noqa: ANN401
    data: Callable[[int], MaskedChunks],
    settings: MntpSettings,
    folder: Path,
) -> Step:
    """One update by transformers' trainer, without its training loop."""
    trainer = Trainer(
        model=model,
        args=trainer_arguments(
            TrainingArguments,
            settings,
            output_dir=folder,
            per_device_train_batch_size=settings.batch_size,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            label_names=["labels"],
        ),
        train_dataset=data(model.get_input_embeddings().weight.shape[0]),
    )
    trainer.create_optimizer()
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model = trainer.accelerator.prepare_model(model)  # autocast, as the trainer's loop has it
    batches: Iterator[dict[str, Tensor]] = iter(trainer.get_train_dataloader())

    def step() -> None:
        batch = next(batches)
        num_items = (batch["labels"] != -100).sum()
        trainer.training_step(model, batch, num_items_in_batch=num_items)
        trainer.optimizer.step()
        model.zero_grad()

    return step


def peak_bytes(step: Step) -> int:
    """Peak memory allocated during an update, after a warm-up."""
    step()
    with AliveBytes() as alive:
        step()
    return alive.peak


def take_turns(steps: dict[str, Step], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of every update of every side."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()

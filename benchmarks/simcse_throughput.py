"""SimCSE here against sentence-transformers' trainer as in its documentation.

Same model, LoRA, batches, dropout and loss; only this project's additions to the trainer differ. The sides take turns
by whole runs. ``ratio`` is ours over plain, in sentences per second. The last line of stdout is one JSON object.

    python -m benchmarks.simcse_throughput [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

from benchmarks.common.machine import BASE_MODEL, base_model_dir, describe, sample_texts
from llm2vec_core.model.lora import lora_config
from llm2vec_core.training.contrastive import contrastive_encoder
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.settings import Recipe, SimcseSettings, StepLog
from llm2vec_core.training.simcse import distinct_sentences, train_simcse


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer updates of smaller batches")
    quick = parser.parse_args().quick
    rounds, steps, batch_size = (2, 4, 16) if quick else (3, 6, 32)
    settings = SimcseSettings(steps=steps, batch_size=batch_size, micro_batch_size=batch_size, max_tokens=32)
    base = base_model_dir()
    sentences = distinct_sentences(sample_texts(), min_words=settings.min_words)[: steps * batch_size]
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(rounds):
        for name, side in (("ours", ours), ("plain", plain)):
            with tempfile.TemporaryDirectory() as folder:
                seconds[name] += side(base, sentences, settings, Path(folder))[1:]  # the first one warms up
    rates = {name: batch_size / statistics.median(times) for name, times in seconds.items()}
    result = {
        "ratio": rates["ours"] / rates["plain"],
        "sentences_per_s": rates,
        "model": BASE_MODEL,
        "batch": [batch_size, settings.max_tokens],
        **describe(),
    }
    print(json.dumps(result))


def ours(base: Path, sentences: list[str], settings: SimcseSettings, folder: Path) -> list[float]:
    """Seconds of every update of the stage."""
    seconds: list[float] = []

    def on_step(step: StepLog) -> None:
        seconds.append(step.seconds)

    recipe = Recipe(base_model=BASE_MODEL, simcse=settings)
    train_simcse(StageJob(stage="simcse", recipe=recipe, base=base, work_dir=folder, texts=sentences, on_step=on_step))
    return seconds


def plain(base: Path, sentences: list[str], settings: SimcseSettings, folder: Path) -> list[float]:
    """Seconds of every update of the library's trainer with its defaults."""
    model = contrastive_encoder(
        base,
        attention="bidirectional",
        pooling_mode="mean",
        max_tokens=settings.max_tokens,
        name=BASE_MODEL,
        attention_dropout=settings.simcse_dropout,
    )
    model.add_adapter(lora_config(settings.lora, model[0].model))
    clock = _Clock()
    SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder),
            max_steps=settings.steps,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            disable_tqdm=True,
            report_to="none",
            save_strategy="no",
            use_cpu=not torch.accelerator.is_available(),
        ),
        train_dataset=Dataset.from_dict({"anchor": sentences, "positive": sentences}),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[clock],
    ).train()
    return clock.seconds


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Records the time of every update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        self.seconds.append(time.monotonic() - self._last)


if __name__ == "__main__":
    main()

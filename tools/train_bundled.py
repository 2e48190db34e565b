"""Train a bundled adapter from its recipe, resumably, and write it in fp16.

    python -m tools.training_texts ../shared/data DATA_DIR
    python -m tools.train_bundled recipes/NAME.toml DATA_DIR OUT_DIR --rank 32

The encoder is ``OUT_DIR/encoder``, the adapter ``OUT_DIR/adapter``. Stages and averages of them are sums of LoRA
matrices, so the difference to the base model has a low rank. The adapter is its best approximation of the given rank
(singular value decomposition; Eckart and Young 1936).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import AutoModel

from llm2vec_core import Recipe, train
from llm2vec_core.model.architectures import transformer_directory
from llm2vec_core.model.base_models import fetch_base_model, user_cache_dir
from llm2vec_core.training.settings import StepLog, TrainingTriple
from tools.title_judgments import read_rows

_STATED = ("is_causal", "use_bidirectional_attention", "num_hidden_layers")


def main(recipe: Path, data_dir: Path, out_dir: Path, rank: Annotated[int, typer.Option(min=1)] = 32) -> None:
    """Train the recipe on the files of ``tools.training_texts`` and write its adapter."""
    settings = Recipe.load(recipe)
    texts = [row["text"] for row in read_rows(data_dir / "texts.jsonl")] if settings.reads_documents else []
    train(settings, texts, judgments=list(read_judgments(data_dir)), save_to=out_dir / "encoder", on_step=_print)
    write_adapter(
        settings.base_model, transformer_directory(out_dir / "encoder"), rank=rank, target=out_dir / "adapter"
    )


def read_judgments(data_dir: Path) -> Iterator[TrainingTriple]:
    """The judgments of all files in ``data_dir/judgments``; each file is a source."""
    for path in sorted((data_dir / "judgments").glob("*.jsonl")):
        for row in read_rows(path):
            yield TrainingTriple(row["anchor"], row["positive"], tuple(row.get("negatives", ())), path.stem)


def write_adapter(base_model: str, trained: Path, *, rank: int, target: Path) -> None:
    """Write the difference between a trained transformer and its base model as a LoRA adapter in fp16.

    Args:
        base_model: Name that the adapter gives its base model.
        trained: Transformer that was trained from it, with all layers or the first ones.
        rank: Rank of the adapter's matrices.
        target: Directory of the adapter.
    """
    base = fetch_base_model(base_model, cache_dir=user_cache_dir())
    after = AutoModel.from_pretrained(trained, local_files_only=True)
    before = AutoModel.from_pretrained(base, local_files_only=True, dtype=torch.float32).state_dict()
    factors: dict[str, torch.Tensor] = {}
    adapted = set()
    for name, weight in after.state_dict().items():
        difference = weight.float() - before[name]
        if not difference.abs().max() > 0:
            continue
        left, values, right = torch.linalg.svd(difference, full_matrices=False)
        kept = min(rank, len(values))
        share = float(values[:kept].square().sum() / values.square().sum())
        print(f"{name}: {100 * share:.2f} % of the squared difference in rank {kept}")
        root = values[:kept].sqrt()
        module = name.removesuffix(".weight")
        adapted.add(module.rsplit(".", 1)[-1])
        factors[f"base_model.model.{module}.lora_A.weight"] = (root[:, None] * right[:kept]).half().contiguous()
        factors[f"base_model.model.{module}.lora_B.weight"] = (left[:, :kept] * root).half().contiguous()
    target.mkdir(parents=True, exist_ok=True)
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=sorted(adapted), bias="none",
                        base_model_name_or_path=base_model, inference_mode=True)  # fmt: skip
    config.save_pretrained(str(target))
    save_file(factors, target / "adapter_model.safetensors")
    # The attention that it was trained with, and the layers that it keeps.
    stated = {name: getattr(after.config, name) for name in _STATED if hasattr(after.config, name)}
    (target / "config.json").write_text(json.dumps(stated, indent=2) + "\n")


def _print(step: StepLog) -> None:
    if step.step % 10 == 0:
        speed = step.tokens / step.seconds
        print(f"{step.stage} {step.step}/{step.num_steps}: loss {step.loss:.3f}, {speed:.0f} tokens/s", flush=True)


if __name__ == "__main__":
    typer.run(main)

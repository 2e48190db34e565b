"""Accuracy of ``llm2vec_core.planning.formulas`` for a forward pass and an MNTP step.

A decoder with random weights is trained for one step on the CPU, with the project's own MNTP model. FLOPs are
counted by torch's counter; memory is that kept by autograd for the backward pass, and the peak of all live tensors. The
last line of stdout is one JSON object; errors are relative to the measured values.

    python -m benchmarks.plan_accuracy [--quick]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from llm2vec_core.model.bidirectional import switch_attention
from llm2vec_core.model.lora import LoraSettings, cast_frozen_linears, lora_config
from llm2vec_core.planning.architecture import count_adapter, count_architecture, read_config
from llm2vec_core.planning.formulas import Execution, flops_per_token, step_memory
from llm2vec_core.training.mntp import MntpModel, Vocabulary, mask_tokens

MASK_PROBABILITY = 0.2


@dataclass(frozen=True)
class Taken:
    """Measured or computed figures.

    Attributes:
        forward_flops: FLOPs of the forward pass.
        training_flops: FLOPs of forward and backward pass.
        kept_bytes: Bytes that autograd keeps for the backward pass, without parameters; of the logits, only the
            log-probabilities.
        peak_bytes: Peak bytes allocated during the step, without parameters and their gradients.
    """

    forward_flops: float
    training_flops: float
    kept_bytes: float
    peak_bytes: float

    def errors(self, measured: Taken) -> dict[str, float]:
        """Errors of these figures, as shares of the measured ones."""
        return {name: getattr(self, name) / value - 1 for name, value in vars(measured).items()}


class AliveBytes(TorchDispatchMode):
    """Counts the bytes of all storages allocated while it is active, and their peak."""

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__()
        self.now = self.peak = 0
        self._seen = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401, D105
        before = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage(), known=before)
        return result

    def _add(self, storage: torch.UntypedStorage, *, known: set[int]) -> None:
        if storage.data_ptr() in known or storage in self._seen:
            return
        self._seen.add(storage)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, storage.nbytes())

    def _remove(self, size_bytes: int) -> None:
        self.now -= size_bytes


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def kept_for_backward(model: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Sizes in bytes of the storages that autograd keeps, by address; parameters are left out."""
    parameters = {_storage(parameter) for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in parameters:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def masked_batch(vocab_size: int, *, rows: int, sequence_tokens: int) -> dict[str, torch.Tensor]:
    """Random tokens with MNTP masks."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocab_size, (rows * sequence_tokens,), generator=generator)
    masked, labels = mask_tokens(
        tokens,
        mask_probability=MASK_PROBABILITY,
        mask_policy="bert",
        mask_token_id=0,
        vocabulary=Vocabulary(torch.arange(vocab_size), torch.tensor([], dtype=torch.long)),
        generator=generator,
    )
    batch = {"input_ids": masked, "labels": labels, "attention_mask": torch.ones_like(tokens)}
    return {name: value.view(rows, sequence_tokens) for name, value in batch.items()}


def measured(config: Any, lora: LoraSettings, *, execution: Execution, rows: int, sequence_tokens: int) -> Taken:  # noqa: ANN401
    """Measure a forward pass and two MNTP steps: one for FLOPs and kept bytes, one for the peak."""
    torch.manual_seed(0)
    causal = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=execution.attention)
    switch_attention(causal.base_model, "bidirectional", name="random")
    model = MntpModel(causal, lora_config(lora, causal)).train()
    if execution.precision == "bf16":
        cast_frozen_linears(model)
    if execution.gradient_checkpointing:
        causal.activation_checkpointing_enable()
    batch = masked_batch(config.vocab_size, rows=rows, sequence_tokens=sequence_tokens)

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=execution.precision == "bf16"):
            return model(**batch)["loss"]

    with FlopCounterMode(display=False) as forward, torch.no_grad():
        loss()
    with FlopCounterMode(display=False) as training:
        with kept_for_backward(model) as kept:
            step_loss = loss()
        kept_bytes = sum(kept.values())
        step_loss.backward()
    del step_loss
    # The gradients of the previous step stay, as in gradient accumulation.
    with AliveBytes() as alive:
        loss().backward()
    return Taken(forward.get_total_flops(), training.get_total_flops(), kept_bytes, alive.peak)


def planned(config: Any, lora: LoraSettings, *, execution: Execution, rows: int, sequence_tokens: int) -> Taken:  # noqa: ANN401
    """The same figures by formula."""
    architecture, adapter = count_architecture(config), count_adapter(config, lora)
    flops = flops_per_token(
        architecture,
        adapter,
        sequence_tokens=sequence_tokens,
        execution=execution,
        scored_share=MASK_PROBABILITY,
    )
    memory = step_memory(
        architecture,
        adapter,
        rows=rows,
        sequence_tokens=sequence_tokens,
        execution=execution,
        scored_share=MASK_PROBABILITY,
    )
    tokens = rows * sequence_tokens
    parameters = memory.weights + memory.adapter + memory.gradients + memory.optimizer
    return Taken(
        forward_flops=tokens * flops.forward,
        training_flops=tokens * flops.training,
        kept_bytes=memory.activations + memory.weight_casts + memory.logits / 3,
        peak_bytes=memory.total - parameters,
    )


def small_llama() -> Any:  # noqa: ANN401
    """Configuration of a Llama of about 25 million parameters, with grouped-query attention."""
    return AutoConfig.for_model(
        "llama",
        hidden_size=384,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=1024,
        vocab_size=32000,
        tie_word_embeddings=True,
    )


CASES = {
    "sdpa": Execution(attention="sdpa", device="cpu"),
    "eager": Execution(attention="eager", device="cpu"),
    "sdpa, gradient checkpointing": Execution(attention="sdpa", gradient_checkpointing=True, device="cpu"),
    "sdpa, bf16": Execution(attention="sdpa", precision="bf16", device="cpu"),
    "eager, bf16, gradient checkpointing": Execution(
        attention="eager", precision="bf16", gradient_checkpointing=True, device="cpu"
    ),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a Llama of 25 million parameters instead of SmolLM2-135M")
    quick = parser.parse_args().quick
    config = small_llama() if quick else read_config("bundled:smollm2-135m")
    rows, sequence_tokens = (1, 128) if quick else (2, 256)
    started = time.perf_counter()
    errors: dict[str, dict[str, float]] = {}
    for name, execution in CASES.items():
        shape = {"execution": execution, "rows": rows, "sequence_tokens": sequence_tokens}
        found = planned(config, LoraSettings(), **shape).errors(measured(config, LoraSettings(), **shape))
        errors[name] = {figure: round(error, 4) for figure, error in found.items()}
        print(name, errors[name], flush=True)

    def worst(unit: str) -> float:
        return max(abs(error) for case in errors.values() for figure, error in case.items() if figure.endswith(unit))

    result = {
        "parameters": count_architecture(config).parameters,
        "tokens": [rows, sequence_tokens],
        "memory_error": worst("bytes"),
        "flop_error": worst("flops"),
        "errors": errors,
        "machine": f"{platform.machine()}, {platform.system()}",
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

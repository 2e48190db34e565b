"""Memory and FLOPs of a training step and of encoding, by formula.

Memory is planned for this project's training: frozen weights in fp32, LoRA in fp32 with AdamW; with bf16, autocast, and
the weights of the linear layers in bf16. Activations are what autograd keeps for the backward pass, after Korthikanti
et al. 2022 (Reducing Activation Recomputation in Large Transformer Models, section 4), with our own terms for gated
MLPs, grouped-query attention, frozen weights and adapters. FLOPs are two for each multiply-add of a matrix product,
after Kaplan et al. 2020 (Scaling Laws for Neural Language Models, section 2.1); everything else is left out.

``benchmarks/plan_accuracy.py`` compares the formulas with real steps, FLOPs with torch's own counter. A plan does not
use that counter: the formulas need no forward pass, and the ledger's figures stay comparable over torch's versions.
"""

from __future__ import annotations

from typing import Literal

from llm2vec_core.model.modes import Precision
from llm2vec_core.planning.architecture import AdapterSize, Architecture, Frozen

EMBED_TOKENS = 4096
"""Tokens of a batch in embedding; the default of ``encode.token_budget``."""

_FP32, _BF16 = 4, 2


class Execution(Frozen):
    """Execution of a training step."""

    precision: Precision = "fp32"  # bf16 is autocast, with the frozen weights of linear layers in bf16
    gradient_checkpointing: bool = False  # keep only the input of a block, and recompute the rest
    attention: Literal["sdpa", "eager"] = "sdpa"  # sdpa never writes the attention weights; eager writes and keeps them
    padded: bool = False  # texts of a batch differ in length, so attention needs a mask
    device: Literal["cuda", "cpu"] = "cuda"  # A CPU keeps dropout as fp32 factors, a GPU as one byte


class Memory(Frozen):
    """Memory of a training step by part, in bytes."""

    weights: int  # frozen weights
    # Bf16 copies of fp32 weights that autocast makes and autograd keeps: LoRA's, and those of an output layer that is
    # tied to the embeddings.
    weight_casts: int
    adapter: int  # LoRA's weights, fp32
    gradients: int  # LoRA's gradients, fp32
    optimizer: int  # AdamW's two moments of LoRA's weights, fp32
    activations: int  # kept for the backward pass, of all tokens of a micro batch
    logits: int  # scores of the masked positions at the peak: log-probabilities and two gradients, fp32
    # Additional memory of one block's backward pass; with gradient checkpointing also the recomputed block.
    working: int

    @property
    def total(self) -> int:
        """Peak of the step. Logits and the backward pass of a block never exist at the same time."""
        lasting = self.weights + self.weight_casts + self.adapter + self.gradients + self.optimizer + self.activations
        return lasting + max(self.logits, self.working)


class Flops(Frozen):
    """FLOPs per token."""

    forward: float
    training: float


def flops_per_token(
    architecture: Architecture,
    adapter: AdapterSize | None,
    *,
    sequence_tokens: int,
    execution: Execution,
    scored_share: float = 0.0,
    forward_passes: int = 1,
) -> Flops:
    """FLOPs per token of a forward pass, and of a training step.

    A training step has its forward passes, the gradient of the activations (once through the frozen weights, which have
    no gradient), and with gradient checkpointing a second forward pass of the blocks. The backward pass counts LoRA's
    matrices twice, and attention twice, or 2.5 times with a kernel that recomputes its scores.

    Args:
        architecture: Sizes of the base model.
        adapter: Sizes of the adapter; None for an encoder without one.
        sequence_tokens: Number of tokens of a text; each attends to all of them.
        execution: Execution of the step.
        scored_share: Share of the tokens that go through the output layer.
        forward_passes: Forward passes of a training step before its backward pass: 2 with GradCache.
    """
    linear = 2.0 * architecture.linear_parameters
    attention = 4.0 * architecture.num_layers * architecture.query_width * sequence_tokens
    lora = 2.0 * adapter.trainable if adapter else 0.0
    output = 2.0 * architecture.hidden_size * architecture.output_width * scored_share
    blocks = linear + attention + lora
    recomputed = blocks if execution.gradient_checkpointing else 0.0
    backward = linear + attention * (2.5 if execution.attention == "sdpa" else 2.0) + 2 * lora + output
    return Flops(forward=blocks + output, training=forward_passes * blocks + output + recomputed + backward)


def step_memory(
    architecture: Architecture,
    adapter: AdapterSize,
    *,
    rows: int,
    sequence_tokens: int,
    execution: Execution,
    scored_share: float = 0.0,
) -> Memory:
    """Memory of a training step by part.

    Args:
        architecture: Sizes of the base model.
        adapter: Sizes of the adapter.
        rows: Number of texts whose activations are kept at the same time.
        sequence_tokens: Number of tokens of each text.
        execution: Execution of the step.
        scored_share: Share of the tokens that go through the output layer; 0 for a stage without one.
    """
    tokens, hidden = rows * sequence_tokens, architecture.hidden_size
    computed = _BF16 if execution.precision == "bf16" else _FP32
    block = _kept_per_token(architecture, adapter, sequence_tokens=sequence_tokens, execution=execution)
    # Gradients of the MLP's inner tensors, before and after dropout, and of the residual stream.
    working: float = 2 * computed * architecture.intermediate_size + _FP32 * hidden
    block_casts = output_casts = 0
    if execution.precision == "bf16":
        block_casts = _BF16 * adapter.trainable // architecture.num_layers
        is_tied = architecture.parameters == architecture.backbone_parameters
        output_casts = _BF16 * hidden * architecture.output_width if scored_share and is_tied else 0
    kept: float
    if execution.gradient_checkpointing:
        # A block keeps only its input; the block in the backward pass is recomputed in full.
        working, casts, kept = tokens * (working + block) + block_casts, output_casts, _FP32 * hidden
    else:
        working, casts, kept = tokens * working, output_casts + architecture.num_layers * block_casts, block
    return Memory(
        weights=_weight_bytes(architecture, execution.precision, with_output=scored_share > 0),
        weight_casts=casts,
        adapter=_FP32 * adapter.trainable,
        gradients=_FP32 * adapter.trainable,
        optimizer=2 * _FP32 * adapter.trainable,
        # The last norm also keeps its input.
        activations=round(tokens * (architecture.num_layers * kept + _FP32 * hidden)),
        logits=round(3 * _FP32 * tokens * scored_share * architecture.output_width),
        working=round(working),
    )


def embed_bytes(architecture: Architecture, precision: Precision) -> int:
    """Peak of encoding: weights, and the inner tensors of an MLP with the residual stream, of a whole batch."""
    inner = architecture.mlp_matrices * architecture.intermediate_size + 3 * architecture.hidden_size
    return (_BF16 if precision == "bf16" else _FP32) * (architecture.backbone_parameters + EMBED_TOKENS * inner)


def _weight_bytes(architecture: Architecture, precision: Precision, *, with_output: bool) -> int:
    """Size of the frozen weights after ``lora.cast_frozen_linears``."""
    parameters = architecture.parameters if with_output else architecture.backbone_parameters
    if precision == "fp32":
        return _FP32 * parameters
    linear = architecture.linear_parameters + parameters - architecture.backbone_parameters
    return _FP32 * (parameters - linear) + _BF16 * linear


def _kept_per_token(
    architecture: Architecture, adapter: AdapterSize, *, sequence_tokens: int, execution: Execution
) -> float:
    """Bytes per token that one block keeps for its backward pass."""
    computed = _BF16 if execution.precision == "bf16" else _FP32
    hidden, query, inner = architecture.hidden_size, architecture.query_width, architecture.intermediate_size
    noise = _FP32 if execution.device == "cpu" else 1
    residual = 2 * hidden * (_FP32 + (noise if architecture.has_hidden_dropout else 0))
    read = adapter.input_width / architecture.num_layers
    if not adapter.has_dropout and execution.precision == "fp32":
        # Without dropout and casts, layers that read the same tensor keep it once.
        read = min(read, 2 * hidden + query + inner)
    lora = (
        read * (computed + (noise if adapter.has_dropout else 0))
        + adapter.rank_width / architecture.num_layers * computed
    )
    # Eager attention and masks need keys and values repeated for the heads that share them.
    is_repeated = execution.attention == "eager" or execution.padded
    key = query if is_repeated else architecture.num_kv_heads * architecture.head_dim
    attention = (query + 2 * key) * computed
    if execution.attention == "sdpa":
        attention += query * computed + architecture.num_heads * _FP32
    else:
        # The softmax is fp32; with bf16, its cast is also kept.
        weights = _FP32 if execution.precision == "fp32" else _FP32 + _BF16
        attention += architecture.num_heads * sequence_tokens * weights
    # Gate, its activation, and up; or the input of a plain MLP's activation.
    mlp = (3 if architecture.mlp_matrices == 3 else 1) * inner * computed
    return residual + lora + attention + mlp

"""The bidirectional switch of a decoder, and the probe that verifies it.

transformers 5 honours ``config.is_causal = False`` in nearly all decoders, so there are no per-architecture classes
here. A failed switch gives no error, so each load path ends with :func:`require_attention`, which measures the loaded
model. Hybrids, in which only some layers have attention, would pass that check and are refused when switched.

Source: BehnamGhader et al. 2024, LLM2Vec, section 2.1; huggingface/transformers#43705 for the flag.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.modes import Attention

_PROBE_LENGTH = 6
_PROBE_POSITION = 3

_FOLLOWING = (
    "Use an architecture that honours the switch: Llama, Mistral, Qwen2, Qwen3, Gemma, Phi, GPT-2, GPT-NeoX, OPT."
)


def attention_overrides(attention: Attention) -> dict[str, bool]:
    """Configuration keys that state the attention.

    Both names are written: vLLM and transformers read ``is_causal``, text-embeddings-inference reads
    ``use_bidirectional_attention`` for most decoders.
    """
    return {"is_causal": attention == "causal", "use_bidirectional_attention": attention == "bidirectional"}


def stated_attention(config: Any) -> Attention:  # noqa: ANN401 - PretrainedConfig, which ships no types
    """The attention that a configuration states; a decoder is causal unless it says otherwise.

    Some models (EmbeddingGemma) are published with ``use_bidirectional_attention`` alone.
    """
    is_causal = getattr(config, "is_causal", None)
    if is_causal is None:
        is_causal = getattr(config, "use_bidirectional_attention", None) is not True
    return "causal" if is_causal else "bidirectional"


def saved_attention(model: nn.Module, *, name: str) -> Attention:
    """Attention of a loaded transformer: stated in its configuration and verified, or measured if not stated.

    Raises:
        BaseModelError: The model contradicts the attention in its configuration.
    """
    if not hasattr(model.config, "is_causal"):
        return measured_attention(model)
    stated = stated_attention(model.config)
    require_attention(model, stated, name=name)
    return stated


@torch.inference_mode()
def measured_attention(model: nn.Module) -> Attention:
    """Measure the attention: test whether changing a token changes an earlier hidden state.

    The next token is changed, not the last one, because a sliding window may hide a distant token.

    Args:
        model: A transformer without head; its forward takes ``input_ids`` and returns ``last_hidden_state``.
    """
    was_training = model.training
    model.eval()
    tokens = _probe_tokens(model)
    vocab_size = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    changed = tokens.clone()
    changed[0, _PROBE_POSITION] = (changed[0, _PROBE_POSITION] + 1) % vocab_size
    earlier = slice(0, _PROBE_POSITION)
    # Each variant is run alone, never as one batch, so that padding and batching cannot hide the difference.
    before, after = (
        model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, earlier]
        for ids in (tokens, changed)
    )
    model.train(was_training)
    moved = (before - after).abs().max() > 1e-4 * before.abs().max()
    return "bidirectional" if bool(moved) else "causal"


def switch_attention(model: nn.Module, attention: Attention, *, name: str) -> None:
    """Switch the attention of a loaded decoder, state it in its configuration, and verify it.

    The loaded model is switched, because loading drops or refuses keys that are new to a ``config.json``.

    Raises:
        BaseModelError: The architecture ignores the switch, even if only in some layers, or an encoder-only model
            should be causal.
    """
    # Some of them would follow the switch, but were never trained with causal attention.
    if attention == "causal" and _unstated_attention(model) == "bidirectional":
        raise _wrong_attention(model, attention, measured="bidirectional", name=name)
    for key, value in attention_overrides(attention).items():
        setattr(model.config, key, value)
    require_attention(model, attention, name=name)
    if attention == "bidirectional" and (one_sided := one_sided_blocks(model)):
        numbers = ", ".join(map(str, one_sided))
        raise BaseModelError(
            f"{_described(model, name)} was asked for bidirectional attention, but in its blocks {numbers} (counted "
            "from 0) no state depends on a later one: they have no attention that `is_causal` could switch.",
            hint=_FOLLOWING,
        )


def require_attention(model: nn.Module, attention: Attention, *, name: str) -> None:
    """Refuse a model that does not have the requested attention.

    Raises:
        BaseModelError: The architecture ignores the switch, or cannot run with it; the message names it.
    """
    try:
        measured = measured_attention(model)
    except (AttributeError, TypeError, ValueError) as error:
        raise BaseModelError(
            f"{_described(model, name)} fails on a plain text with {attention} attention: "
            f"{type(error).__name__}: {error}",
            hint=_FOLLOWING,
        ) from error
    if measured != attention:
        raise _wrong_attention(model, attention, measured=measured, name=name)


@torch.inference_mode()
def one_sided_blocks(model: nn.Module) -> list[int]:
    """Numbers of the blocks in which no state depends on a later one.

    :func:`measured_attention` passes if a single block looks ahead. Here each block is run again on its own input,
    with one state changed. A block is a module that transformers never splits over devices.

    Args:
        model: A transformer without head; its forward takes ``input_ids`` and ``use_cache``.
    """
    kinds = getattr(model, "_no_split_modules", None) or ()
    blocks = [
        module
        for module in model.modules()
        if isinstance(module, GradientCheckpointingLayer) and type(module).__name__ in kinds
    ]
    one_sided = []

    def rerun(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:  # noqa: ANN401
        others = dict(kwargs)
        states, *more = args or (others.pop("hidden_states"),)
        changed = states.clone()
        noise = torch.randn(states.shape[-1], generator=torch.Generator().manual_seed(0)).to(states)
        changed[:, _PROBE_POSITION] += noise * states.abs().mean()
        again = block.forward(changed, *more, **others)
        before, after = (
            (result[0] if isinstance(result, tuple) else result)[:, :_PROBE_POSITION] for result in (output, again)
        )
        # The median: some models have a few states that are a thousand times as large as the rest.
        if (before - after).abs().max() <= 1e-4 * before.abs().median():
            one_sided.append(blocks.index(block))

    was_training = model.training
    model.eval()
    hooks = [block.register_forward_hook(rerun, with_kwargs=True) for block in blocks]
    try:
        tokens = _probe_tokens(model)
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return one_sided


def _probe_tokens(model: nn.Module) -> Int64[Tensor, "1 seq"]:
    """A few random tokens from a fixed seed."""
    vocab_size = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    tokens = torch.randint(vocab_size, (1, _PROBE_LENGTH), generator=torch.Generator().manual_seed(0))
    return tokens.to(next(model.parameters()).device)


def _unstated_attention(model: nn.Module) -> Attention:
    """The architecture's own attention, measured while the configuration states none."""
    config = model.config
    stated = {key: vars(config)[key] for key in attention_overrides("causal") if key in vars(config)}
    for key in stated:
        delattr(config, key)
    try:
        return measured_attention(model)
    finally:
        for key, value in stated.items():
            setattr(config, key, value)


def _wrong_attention(model: nn.Module, attention: Attention, *, measured: Attention, name: str) -> BaseModelError:
    cause, hint = (
        (
            "this architecture ignores `is_causal`",
            _FOLLOWING,
        )
        if attention == "bidirectional"
        else ("an encoder-only model cannot be made causal", "Leave 'causal' out, or use a decoder.")
    )
    return BaseModelError(
        f"{_described(model, name)} was asked for {attention} attention, but its hidden states show {measured} "
        f"attention: {cause}.",
        hint=hint,
    )


def _described(model: nn.Module, name: str) -> str:
    return f"{name} ({getattr(getattr(model, 'config', None), 'model_type', type(model).__name__)})"

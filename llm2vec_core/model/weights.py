"""Weights that a load leaves out: transformers and peft skip or invent them with a warning, here they are an error.

Does not belong here: finding a model's directory (``base_models``), and what a loaded model does (``bidirectional``).
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llm2vec_core.errors import BaseModelError, InputError
from llm2vec_core.model.layered import layers_of

_SHOWN_KEYS = 3
_POOLER = re.compile(r"(^|\.)pooler(\.|$)")
_PATCHING = threading.RLock()
_ADAPTER_NAME = "default"
_ADAPTED = "base_model.model."


@contextlib.contextmanager
def require_whole_weights(
    name: str,
    *,
    output_layer: bool = False,
    error: type[InputError] = BaseModelError,
    without_output: str = "Start from the decoder as published: contrastive training saves no output layer.",
) -> Iterator[None]:
    """Refuse every transformer that is loaded in this context without all of its weights.

    A weight may be missing only where no pooling uses it: a pooler, or the output layer. A weight may be left over only
    if it belongs to such a head.

    sentence-transformers loads its transformers itself and drops transformers' report. Therefore
    ``PreTrainedModel.from_pretrained`` is replaced in this context, which one thread at a time can enter.

    Args:
        name: Model's name, for messages.
        output_layer: Whether the output layer must be there, too.
        error: Error to raise.
        without_output: Hint if only weights of the output layer are wrong.

    Raises:
        BaseModelError: Or ``error``: a weight is missing, left over, of another shape, or in a damaged file. The
            message has the keys.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import PreTrainedModel
    from transformers.utils import logging as transformers_logging

    original = vars(PreTrainedModel)["from_pretrained"]
    thread = threading.get_ident()

    def from_pretrained(cls: Any, /, *args: Any, output_loading_info: bool = False, **settings: Any) -> Any:  # noqa: ANN401
        is_ours = threading.get_ident() == thread
        if is_ours:
            settings["ignore_mismatched_sizes"] = True  # transformers' own error has no keys
        shown = transformers_logging.get_verbosity()
        layers = layers_of(Path(args[0])) if is_ours and args else None
        dtype = settings.get("dtype")
        if layers is not None:
            settings.setdefault("config", cls.config_class.from_pretrained(args[0], local_files_only=True))
            args, settings["dtype"] = (str(layers.base), *args[1:]), torch.float32
        try:
            if is_ours:
                transformers_logging.set_verbosity_error()  # its report of keys would repeat what is checked here
            model, report = original.__func__(cls, *args, output_loading_info=True, **settings)
        except SafetensorError as damage:
            raise error(f"The weights of {name} cannot be read: {damage}.", hint="Restore the files.") from damage
        finally:
            transformers_logging.set_verbosity(shown)
        if is_ours:
            _require_whole(
                model, report, name=name, output_layer=output_layer, error=error, without_output=without_output
            )
        if layers is not None:
            for adapter in layers.adapters:
                merge_adapter(model, adapter, name=f"of the stage {adapter.parent.name}")
            model = model if dtype is None else model.to(dtype)
        return (model, report) if output_loading_info else model

    with _PATCHING:
        PreTrainedModel.from_pretrained = classmethod(from_pretrained)
        try:
            yield
        finally:
            PreTrainedModel.from_pretrained = original


def require_plain_weights(directory: Path, *, name: str, error: type[InputError] = BaseModelError) -> None:
    """Refuse a model whose weights are stored as codes (FP8, GPTQ, AWQ, bitsandbytes), before anything is loaded.

    Read as plain numbers the codes are noise, and a merged adapter or a checkpoint needs the numbers.

    Raises:
        BaseModelError: Or ``error``: its configuration has a ``quantization_config``.
    """
    path = directory / "config.json"
    if path.is_file():
        refuse_quantised(json.loads(path.read_bytes()), name=name, error=error)


def refuse_quantised(config: Mapping[str, Any], *, name: str, error: type[InputError] = BaseModelError) -> None:
    """Refuse a configuration (as JSON values) with a ``quantization_config``; see :func:`require_plain_weights`."""
    for part in (config, config.get("text_config") or {}):
        settings = part.get("quantization_config") or part.get("compression_config")
        if settings:
            method = settings.get("quant_method") or (settings.get("load_in_4bit") and "bitsandbytes") or "unnamed"
            raise error(
                f"The weights of {name} are quantised (quantization_config: {method}), and plain weights in float32, "
                "bfloat16 or float16 were expected.",
                hint="Take the model as it was published before its quantisation.",
            )


def _require_whole(
    model: Any,  # noqa: ANN401 - transformers ship no types
    report: Mapping[str, Any],
    *,
    name: str,
    output_layer: bool,
    error: type[InputError],
    without_output: str,
) -> None:
    missing = {key for key in report["missing_keys"] if output_layer or _is_part_of_base(key, model)}
    left_over = {key for key in report["unexpected_keys"] if _is_part_of_base(key, model)}
    mismatched = {key for key, *_ in report["mismatched_keys"]}
    if not (missing or left_over or mismatched):
        return
    raise error(
        f"The weights of {name} are not those of its configuration ({model.config.model_type}): "
        + faults(missing=missing, left_over=left_over, mismatched=mismatched)
        + ".",
        hint="Restore the directory as save_pretrained wrote it. Weights under other names have to be renamed."
        if not output_layer or any(_is_part_of_base(key, model) for key in missing | left_over | mismatched)
        else without_output,
    )


def _is_part_of_base(key: str, model: Any) -> bool:  # noqa: ANN401
    """Whether a key belongs to what poolings read; a key with a number belongs to a stack of blocks."""
    if _POOLER.search(key):
        return False
    parts = key.split(".")
    base = model.base_model
    if base is model:
        beside: set[str] = set()
    else:  # an output layer has its own names
        beside = {child for child, _ in model.named_children()} - {model.base_model_prefix}
    if parts[0] in beside:
        return False
    children = {child for child, _ in base.named_children()}
    return any(part in children or part.isdigit() for part in parts)


def faults(
    *,
    missing: Iterable[str],
    left_over: Iterable[str],
    mismatched: Iterable[str] = (),
    changed: Iterable[str] = (),
) -> str:
    """Keys that a load missed, left over, found in another shape or with other values, as a part of a sentence."""
    kinds = {
        "missing": sorted(missing),
        "left over": sorted(left_over),
        "of another shape": sorted(mismatched),
        "changed": sorted(changed),
    }
    return "; ".join(f"{kind}: {_shown(keys)}" for kind, keys in kinds.items() if keys)


def _shown(keys: list[str]) -> str:
    more = len(keys) - _SHOWN_KEYS
    return ", ".join(keys[:_SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")


def load_adapter(model: Any, adapter: Any, *, name: str) -> Any:  # noqa: ANN401
    """Put a saved adapter on a model, with all of the adapter's weights and nothing left over.

    An adapter may have been trained on a model with its output layer (keys ``base_model.model.model.layers``) or on the
    transformer alone (``base_model.model.layers``); either is put on either.

    Args:
        model: Transformer, with an output layer or without.
        adapter: Directory that peft wrote.
        name: Adapter's name, for messages.

    Returns:
        A ``PeftModel`` of ``model``, or of its transformer.

    Raises:
        BaseModelError: The adapter does not fit the model. The message has the keys.
    """
    from peft import PeftConfig, PeftModel
    from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
    from safetensors import SafetensorError

    try:
        config = PeftConfig.from_pretrained(str(adapter))
        weights = load_peft_weights(str(adapter), device="cpu")
        if _is_of_whole(model, weights):
            config.target_modules = _bare(config.target_modules, f"{model.base_model_prefix}.")
            whole = f"{_ADAPTED}{model.base_model_prefix}."
            weights = {_ADAPTED + key.removeprefix(whole): weight for key, weight in weights.items()}
        config.task_type = None  # its class would need methods of an output layer
        config.inference_mode = True
        adapted = PeftModel(_trained_part(model, weights), config)
        loaded = set_peft_model_state_dict(adapted, dict(weights))
    except (AttributeError, KeyError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise _unfit_adapter(model, name, f"peft reports {type(error).__name__}: {reason}") from error
    missing = [key for key in loaded.missing_keys if _ADAPTER_NAME in key.split(".")]
    if missing or loaded.unexpected_keys or not weights:
        found = faults(missing=missing, left_over=loaded.unexpected_keys) or "it holds no weights"
        raise _unfit_adapter(model, name, found)
    return adapted


def merge_adapter(model: Any, adapter: Path, *, name: str) -> Any:  # noqa: ANN401
    """Merge a saved adapter into the weights of a model in place, in fp32: merging in bf16 changes vectors.

    Args:
        model: Transformer, with an output layer or without.
        adapter: Directory that peft wrote.
        name: Adapter's name, for messages.

    Raises:
        BaseModelError: The adapter does not fit the model, or cannot be merged.
    """
    import torch

    adapted = load_adapter(model.to(torch.float32), adapter, name=name)
    try:
        adapted.merge_and_unload()
    except (AttributeError, ValueError, NotImplementedError) as error:  # such as a prompt, or repeated layers
        kind = adapted.active_peft_config.peft_type
        raise BaseModelError(
            f"The adapter {name} ({getattr(kind, 'value', kind)}) cannot be merged into the weights of its base model.",
            hint="Use an adapter of weights, such as LoRA.",
        ) from error
    return model


def _trained_part(model: Any, weights: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The model, or its transformer, whose names the keys of an adapter begin with."""
    children = {child for child, _ in model.named_children()}
    firsts = {key.removeprefix(_ADAPTED).split(".")[0] for key in weights}
    return model if firsts & children else model.base_model


def _is_of_whole(model: Any, weights: Mapping[str, Any]) -> bool:  # noqa: ANN401
    """Whether an adapter was trained with an output layer, on the model of which this one is the transformer."""
    whole = f"{_ADAPTED}{model.base_model_prefix}."
    return model.base_model is model and bool(weights) and all(key.startswith(whole) for key in weights)


def _bare(targets: Any, prefix: str) -> Any:  # noqa: ANN401 - peft's target_modules: names, or an expression
    return targets if isinstance(targets, str) else {name.removeprefix(prefix) for name in targets or ()}


def _unfit_adapter(model: Any, name: str, found: str) -> BaseModelError:  # noqa: ANN401
    return BaseModelError(
        f"The adapter {name} does not fit its base model ({model.config.model_type}): {found}.",
        hint="Name the model that it was trained on in base_model_name_or_path of its adapter_config.json.",
    )


def weight_sums(model: Any) -> dict[str, tuple[float, float]]:  # noqa: ANN401
    """Sum and norm of every weight, in fp64: a copy of the weights would take as much memory again."""
    import torch

    return {
        key: (
            weight.detach().sum(dtype=torch.float64).item(),
            torch.linalg.vector_norm(weight.detach(), dtype=torch.float64).item(),
        )
        for key, weight in model.named_parameters()
    }

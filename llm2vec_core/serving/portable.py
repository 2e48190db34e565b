"""An encoder as a directory that sentence-transformers, vLLM, text-embeddings-inference and llama.cpp read.

sentence-transformers saves the directory, with the encoder's view made permanent. Keys and module names use the legacy
spelling, which every runtime reads. text-embeddings-inference and llama.cpp's converter need one flag per pooling mode.
The converter needs the old module names, and text-embeddings-inference needs ``max_seq_length``. Older readers need
transformers 4's ``rope_theta``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import InputError
from llm2vec_core.model.architectures import is_encoder_only
from llm2vec_core.model.bidirectional import attention_overrides
from llm2vec_core.model.modes import Attention
from llm2vec_core.model.pooling import pooling_position
from llm2vec_core.serving.parity import ServedPrecision

_POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_MODULE_PACKAGE = "sentence_transformers.models."


def servable_model(encoder: Encoder, *, prompts: Mapping[str, str]) -> Any:  # noqa: ANN401 - ships no types
    """Make a plain sentence-transformers model of an encoder: texts in, vectors of length one out.

    The EOS token that EOS pooling needs becomes part of the tokenizer. Do not encode with the encoder afterwards: it
    would add a second EOS token to every text. Vectors are normalised at the end and prompts are not pooled, as in the
    tables.

    Args:
        encoder: Freshly loaded.
        prompts: Prompts before texts, by name.

    Raises:
        InputError: The encoder uses echo or a wording, or does not begin with a transformer.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer

    if encoder.prompted:
        raise InputError(
            "A wording around every text, of which one token is pooled, is read by no other runtime.",
            hint="Leave +prompted out.",
        )
    if encoder.echo:
        raise InputError(
            "An echo reads every text twice and pools the second copy, which no other runtime does.",
            hint="Leave +echo out.",
        )
    modules = list(encoder.model)
    if not isinstance(modules[0], Transformer) or not hasattr(modules[0].model, "config"):
        raise InputError(
            f"The encoder begins with {type(modules[0]).__name__}; expected a transformer.",
            hint="Convert an encoder that is a transformer.",
        )
    if encoder.end_token_id is not None:
        _append_token(encoder.model.tokenizer, encoder.end_token_id)
    position = pooling_position(modules)
    if prompts and position is not None:
        modules[position].include_prompt = False  # as in the tables
    if not isinstance(modules[-1], Normalize):
        modules.append(Normalize())
    return SentenceTransformer(modules=modules, prompts=dict(prompts), device=str(encoder.model.device))


def write_portable(model: Any, directory: Path, *, attention: Attention, precision: ServedPrecision) -> None:  # noqa: ANN401
    """Write a model (:func:`servable_model`) as a directory that other runtimes serve.

    Args:
        model: The model; with ``float16`` its weights are rounded in place.
        directory: Target.
        attention: Attention of the model; a decoder's configuration states it under both names that servers read.
        precision: Precision of the weights.
    """
    if precision == "float16":
        model.half()
    model.save_pretrained(str(directory), create_model_card=False)
    _rewrite(directory / "modules.json", _known_module_names)
    _rewrite(directory / "sentence_bert_config.json", lambda read: _with_length(read, model.max_seq_length))
    _rewrite(directory / "config.json", _with_rope_theta)
    if not is_encoder_only(model[0].model.config):
        _rewrite(directory / "config.json", lambda read: read | attention_overrides(attention))
    for pooling in directory.glob("*_Pooling/config.json"):
        _rewrite(pooling, _pooling_flags)


def _append_token(tokenizer: Any, token_id: int) -> None:  # noqa: ANN401
    """Make a tokenizer append a token to every text."""
    from tokenizers.processors import Sequence, TemplateProcessing

    if not tokenizer.is_fast:
        raise InputError(
            f"{type(tokenizer).__name__} cannot append an EOS token to every text.",
            hint="Use a model with a fast tokenizer (tokenizer.json), or another pooling.",
        )
    token = tokenizer.convert_ids_to_tokens(token_id)
    template = TemplateProcessing(single=f"$A {token}", special_tokens=[(token, token_id)])
    backend = tokenizer.backend_tokenizer
    known = backend.post_processor
    backend.post_processor = template if known is None else Sequence([known, template])


def _rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2) + "\n")


def _known_module_names(modules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        module | {"type": _MODULE_PACKAGE + module["type"].rsplit(".", 1)[-1]}
        if module["type"].startswith("sentence_transformers.")
        else module
        for module in modules
    ]


def _with_length(read: dict[str, Any], max_tokens: int) -> dict[str, Any]:
    return read | {"max_seq_length": max_tokens, "do_lower_case": False}


def _with_rope_theta(config: dict[str, Any]) -> dict[str, Any]:
    theta = config.get("rope_parameters", {}).get("rope_theta")
    return config if theta is None else config | {"rope_theta": theta}


def _pooling_flags(read: dict[str, Any]) -> dict[str, Any]:
    chosen = [read["pooling_mode"]] if isinstance(read["pooling_mode"], str) else read["pooling_mode"]
    flags = {flag: mode in chosen for mode, flag in _POOLING_FLAGS.items()}
    return {
        "word_embedding_dimension": read["embedding_dimension"],
        **flags,
        "include_prompt": read.get("include_prompt", True),
    }

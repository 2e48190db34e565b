"""An encoder as a GGUF file for llama.cpp, for Llama models with byte-level BPE.

Other models are refused with the command of llama.cpp's own converter, which reads the portable directory. Two keys of
the file matter for an encoder: causal attention, and the pooling of hidden states.

Source: the GGUF specification (ggml-org/ggml, docs/gguf.md) for keys; llama.cpp for the order of rotary dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from llm2vec_core.errors import InputError, ParityError
from llm2vec_core.model.modes import Attention
from llm2vec_core.model.weights import faults
from llm2vec_core.serving.parity import ServedPrecision

_FILE_NAME = "encoder.gguf"
_POOLING_TYPES = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}
_CONVERTER = "Convert without it, then use llama.cpp: python convert_hf_to_gguf.py DIR --outfile encoder.gguf"

_DISK = "Check the disk of the target, and convert again."

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def require_llama(model: Any, *, pooling: str) -> None:  # noqa: ANN401 - SentenceTransformer, which ships no types
    """Refuse a model that cannot be written as GGUF here.

    Raises:
        InputError: The model is not supported; the hint names llama.cpp's converter if that could help.
    """
    from sentence_transformers.base.modules import Dense

    config = model[0].model.config
    scaling = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if config.model_type != "llama" or scaling != "default":
        found = f"{config.model_type} model" + (f" with {scaling} positions" if scaling != "default" else "")
        raise InputError(f"A {found} cannot be written as GGUF here; expected a plain Llama model.", hint=_CONVERTER)
    if pooling not in _POOLING_TYPES:
        raise InputError(f"llama.cpp has no pooling '{pooling}'.", hint="Use ONNX, or convert the view +mean or +last.")
    if any(isinstance(module, Dense) for module in model):
        raise InputError(
            "llama.cpp applies no linear layer after the pooling, which the standardisation needs.",
            hint="Use ONNX, or convert an encoder that is not standardised.",
        )
    _pre_tokenizer(json.loads(model.tokenizer.backend_tokenizer.to_str()))


def write_gguf(
    model: Any,  # noqa: ANN401
    directory: Path,
    *,
    attention: Attention,
    pooling: str,
    precision: ServedPrecision,
) -> Path:
    """Write a model as a GGUF file into its portable directory, which must exist.

    Args:
        model: The model (``portable.servable_model``), which :func:`require_llama` accepts.
        directory: Its portable directory; the tokenizer is read from it.
        attention: Attention of the model.
        pooling: Mode of the pooling module, as sentence-transformers calls it.
        precision: Precision of the matrices.

    Raises:
        ParityError: The file, read back, does not hold the weights of the model.
    """
    import gguf

    path = directory / _FILE_NAME
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])
    transformer = model[0].model
    _add_settings(writer, transformer.config, precision=precision)
    writer.add_causal_attention(attention == "causal")
    writer.add_pooling_type(gguf.PoolingType[_POOLING_TYPES[pooling]])
    _add_tokenizer(writer, directory, vocab_size=transformer.config.vocab_size)
    for name, weights in _tensors(transformer, precision):
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _require_written(path, dict(_tensors(transformer, precision)))
    return path


def _require_written(path: Path, expected: dict[str, Float[np.ndarray, "*shape"]]) -> None:
    """Read a file back, and compare its tensors with those of the model: none missing, left over or changed."""
    import gguf

    try:
        held = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    except (ValueError, IndexError, KeyError) as error:  # a file that ends early
        raise ParityError(f"{path.name} cannot be read back: {error}", hint=_DISK) from error
    changed = {
        name
        for name in held.keys() & expected.keys()
        if not np.array_equal(held[name].reshape(expected[name].shape), expected[name])
    }
    wrong = faults(missing=expected.keys() - held.keys(), left_over=held.keys() - expected.keys(), changed=changed)
    if wrong:
        raise ParityError(f"{path.name} does not hold the weights of the encoder: {wrong}.", hint=_DISK)


def _add_settings(writer: Any, config: Any, *, precision: ServedPrecision) -> None:  # noqa: ANN401
    import gguf

    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if precision == "float32" else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: Any, directory: Path, *, vocab_size: int) -> None:  # noqa: ANN401
    """Write tokens, their kinds, merges and special tokens; added tokens follow the tokenizer's template."""
    import gguf

    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    kinds = dict.fromkeys(range(vocab_size), gguf.TokenType.UNUSED)
    # A model may have more rows than its tokenizer has tokens.
    tokens = {token_id: f"[PAD{token_id}]" for token_id in range(vocab_size)}
    for token, token_id in tokenizer["model"]["vocab"].items():
        tokens[token_id], kinds[token_id] = token, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(tokenizer))
    writer.add_token_list([tokens[token_id] for token_id in range(vocab_size)])
    writer.add_token_types([kinds[token_id] for token_id in range(vocab_size)])
    gguf.SpecialVocab(directory, load_merges=True, n_vocab=vocab_size).add_to_gguf(writer)


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name of the pre-tokenizer.

    Raises:
        InputError: The definition of the pre-tokenizer is not a known one.
    """
    splitter = tokenizer["pre_tokenizer"] or {}
    parts = splitter.get("pretokenizers", [splitter])
    described = [(part.get("type"), part.get("use_regex", True)) for part in parts]
    if tokenizer["model"]["type"] == "BPE" and tokenizer["normalizer"] is None:
        if described == [("ByteLevel", True)]:
            return "gpt-2"
        if described == [("Digits", True), ("ByteLevel", True)] and parts[0]["individual_digits"]:
            return "smollm"
        if described == [("Split", True), ("ByteLevel", False)] and parts[0]["pattern"] == {"Regex": _LLAMA3_SPLIT}:
            return "llama-bpe"
    raise InputError(
        "The tokenizer has an unknown pre-tokenizer: "
        f"{tokenizer['model']['type']} behind {', '.join(str(kind) for kind, _ in described)}.",
        hint=_CONVERTER,
    )


def _tensors(transformer: Any, precision: ServedPrecision) -> Iterator[tuple[str, Float[np.ndarray, "*shape"]]]:  # noqa: ANN401
    """Names and weights in llama.cpp's form: vectors in float32, queries and keys in its order."""
    import gguf

    config = transformer.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    num_heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in transformer.state_dict().items():
        weights = tensor.detach().cpu().float().numpy()
        layer = name.split(".")[-2]
        if layer in num_heads:
            weights = _interleave_rotary(weights, num_heads[layer])
        known = names.get_name(f"model.{name}", try_suffixes=(".weight", ".bias"))
        assert known is not None, f"{name} has no name in GGUF"
        yield known, weights.astype(np.float16) if precision == "float16" and weights.ndim > 1 else weights


def _interleave_rotary(weights: Float[np.ndarray, "*shape"], num_heads: int) -> Float[np.ndarray, "*shape"]:
    """The rows of queries or keys, with each pair of rotated dimensions side by side.

    In transformers they are half a head apart.
    """
    rows, *rest = weights.shape
    pairs = weights.reshape(num_heads, 2, rows // num_heads // 2, *rest)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(weights.shape))

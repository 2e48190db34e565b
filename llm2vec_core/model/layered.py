"""Transformers that are stored as their base model and the adapters of the stages behind it, without merged weights.

Such a directory has a configuration, a tokenizer, and :data:`LAYERS_NAME`. Its weights are the base model's with the
adapters merged into them, in fp32 and in order; ``weights.require_whole_weights`` merges them while it loads. So a
recipe holds the weights on disk once, whatever its number of stages. No other loader mistakes the base model for it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from llm2vec_core.errors import BaseModelError

LAYERS_NAME = "layers.json"


class Layers(BaseModel):
    """Layers of a transformer.

    Attributes:
        base: Directory of the base model.
        adapters: Directories of the adapters, in the order in which they are merged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path
    adapters: tuple[Path, ...]


def layers_of(directory: Path) -> Layers | None:
    """Layers of a transformer; None if the directory has weights of its own.

    Raises:
        BaseModelError: A layer is missing.
    """
    path = directory / LAYERS_NAME
    if not path.is_file():
        return None
    layers = Layers.model_validate_json(path.read_text())
    missing = [str(layer) for layer in (layers.base, *layers.adapters) if not layer.is_dir()]
    if missing:
        raise BaseModelError(
            f"{directory} needs {', '.join(missing)}, which is no longer there.",
            hint="Restore it, or remove the unfinished training of this recipe and train again.",
        )
    return layers


def write_layers(directory: Path, *, base: Path, adapter: Path) -> None:
    """Record that a transformer is another one with an adapter. A base that has layers itself passes them on."""
    below = layers_of(base) or Layers(base=base, adapters=())
    layers = Layers(base=below.base.absolute(), adapters=(*below.adapters, adapter.absolute()))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / LAYERS_NAME).write_text(layers.model_dump_json(indent=2) + "\n")


def weights_directory(directory: Path) -> Path:
    """Directory of the weight files of a transformer: its own, or its base model's."""
    layers = layers_of(directory)
    return directory if layers is None else layers.base

"""Resolve names of encoders to a directory, a view, and a place in the paper's ablation.

No model is loaded, except the first time that a foreign encoder is named. Never imports prefect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from data.errors import InputError
from data.sample.esco import read_calibration_texts
from data.store.base import Store
from llm2vec_core.evaluation.systems import SystemTraits
from llm2vec_core.model.checkpoint import RECORD_NAME, read_record
from llm2vec_core.model.checkpoint import fingerprint as directory_fingerprint
from llm2vec_core.model.modes import (
    ECHO,
    PROMPTED,
    STANDARDISED,
    Attention,
    EncoderName,
    EncoderView,
    PoolingMode,
    view_fingerprint,
)
from tasks.encoders.checkpoints import (
    MIN_PREFIX,
    base_models_dir,
    build_untrained,
    checkpoint_dir,
    find_checkpoint,
    find_trained_checkpoint,
    load_encoder,
)
from tasks.run.settings import EncodeSettings, Settings


@dataclass(frozen=True)
class ResolvedEncoder:
    """An encoder found by its name.

    Attributes:
        title: Its name in reports: the base model's name, then the paper's name of the variant.
        label: Its name written with modes, such as ``smollm2-135m+causal+mean``.
        directory: Its directory.
        view: Attention and pooling, where they differ from the saved ones.
        fingerprint: Identity of encoder and view.
        traits: Its place in the paper's ablation; None if the paper has no name for its pooling.
    """

    title: str
    label: str
    directory: Path
    view: EncoderView
    fingerprint: str
    traits: SystemTraits | None


def resolve_encoder(store: Store, settings: Settings, name: EncoderName) -> ResolvedEncoder:
    """Find an encoder by name: a fingerprint, a directory, or a base model, trained or not.

    An untrained base is stored once; its modes are views of that one directory.

    Raises:
        InputError: There is no such encoder.
    """
    from llm2vec_core.model.base_models import fetch_base_model

    if name.view.prompted:
        name = replace(name, view=replace(name.view, prompted=settings.evaluate.wording))
    source = name.source
    directory = Path(source).expanduser()
    if (directory / RECORD_NAME).is_file():
        return _require_stages(resolve_ours(directory, view=name.view), name)
    if (directory / "modules.json").is_file():
        return _resolve_foreign(store, directory, name=directory.name, view=name.view)
    is_hex = len(source) >= MIN_PREFIX and all(character in "0123456789abcdef" for character in source)
    if is_hex and not directory.is_dir():
        ref = find_checkpoint(store, source)
    elif name.stages:
        attention = name.view.attention or "bidirectional"
        ref = find_trained_checkpoint(store, source, attention=attention, stages=name.stages)
    else:
        base = fetch_base_model(source, cache_dir=base_models_dir(store))
        if (base / "modules.json").is_file():  # already an encoder, such as MiniLM: it keeps its own pooling
            return _resolve_foreign(store, base, name=source.rsplit("/", 1)[-1].rsplit(":", 1)[-1], view=name.view)
        ref = build_untrained(store, settings, source)
    return _require_stages(resolve_ours(checkpoint_dir(store, ref.fingerprint), view=name.view), name)


def _require_stages(found: ResolvedEncoder, name: EncoderName) -> ResolvedEncoder:
    """Refuse a checkpoint whose training stages differ from those in its name."""
    trained = found.traits.stages if found.traits else ()
    if name.stages and name.stages != trained:
        raise InputError(
            f"{name.source} was trained by {', '.join(trained) or 'nothing'}, not by {', '.join(name.stages)}.",
            hint="Leave the stages out, or name the base model and the stages.",
        )
    return found


def resolve_ours(directory: Path, *, view: EncoderView | None = None) -> ResolvedEncoder:
    """Describe one of our checkpoints, read through a view (default: as saved)."""
    record = read_record(directory)
    saved = _Saved(attention=record.attention, pooling_mode=record.pooling_mode, standardised=record.standardised)
    view, identity, traits = _read_through(
        view or EncoderView(), saved, fingerprint=record.fingerprint, base_model=record.base_name, stages=record.stages
    )
    assert traits is not None, "the paper has a name for the pooling of our checkpoints"
    if view.prompted:
        label = "+".join((record.base_name, traits.attention, *traits.stages, PROMPTED))
        return ResolvedEncoder(label, label, directory, view, identity, None)
    modes = [traits.attention, *traits.stages, traits.pooling_mode]
    modes += [mode for mode, is_on in ((ECHO, traits.echo), (STANDARDISED, traits.standardised)) if is_on]
    return ResolvedEncoder(traits.title, "+".join((record.base_name, *modes)), directory, view, identity, traits)


def _resolve_foreign(store: Store, directory: Path, *, name: str, view: EncoderView) -> ResolvedEncoder:
    """Describe a foreign encoder, read through a view. Its traits are measured once, and stored."""
    saved_fingerprint = directory_fingerprint(directory)
    key = f"encoders/{saved_fingerprint}.json"
    known = store.read(key)
    if known is not None:
        saved = _Saved.model_validate_json(known)
    else:
        encoder = load_encoder(directory, EncodeSettings())
        saved = _Saved(
            attention=encoder.attention, pooling_mode=encoder.pooling_mode, standardised=encoder.standardised
        )
        store.put_if_absent(key, saved.model_dump_json().encode())
    view, identity, traits = _read_through(view, saved, fingerprint=saved_fingerprint, base_model=name)
    label = f"{name}+{view}" if view else name
    return ResolvedEncoder(label, label, directory, view, identity, None if view.prompted else traits)


class _Saved(BaseModel):
    """Traits of an encoder as it was saved."""

    model_config = ConfigDict(frozen=True)

    attention: Attention
    pooling_mode: PoolingMode | None
    standardised: bool = False


def _read_through(
    view: EncoderView, saved: _Saved, *, fingerprint: str, base_model: str, stages: tuple[str, ...] = ()
) -> tuple[EncoderView, str, SystemTraits | None]:
    """Reduce a view to its changes to the saved encoder; return it with the resulting fingerprint and traits."""
    view = view.changes(attention=saved.attention, pooling_mode=saved.pooling_mode, standardised=saved.standardised)
    calibration = read_calibration_texts() if view.standardised else ()
    identity = view_fingerprint(fingerprint, view, calibration=calibration)
    pooling_mode = view.pooling_mode or saved.pooling_mode
    if pooling_mode is None:
        return view, identity, None
    traits = SystemTraits(
        base_model=base_model,
        attention=view.attention or saved.attention,
        stages=stages,
        pooling_mode=pooling_mode,
        echo=view.echo,
        standardised=view.standardised or (saved.standardised and not view),
    )
    return view, identity, traits

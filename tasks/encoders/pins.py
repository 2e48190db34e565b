"""Pins: the data that a recipe is trained on; and the checkpoint that a recipe made. Never imports prefect."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from data.schema import KINDS, DocumentKind, sha256_json
from data.store.base import Store
from llm2vec_core.model.base_models import base_content, joint_content
from llm2vec_core.training.settings import UNSUPERVISED_STAGES
from tasks.run.reports import CheckpointRef
from tasks.run.settings import Settings

JUDGMENTS = "judgments"
"""Key of the judgments' hash, beside the snapshot ids."""

_PINS = "recipes/pinned"
_OF_ABLATION = "ablation-"


class TrainingPin(BaseModel):
    """The data that a recipe is trained on.

    Attributes:
        identities: Snapshot id of each kind, and the hash of the judgments if the recipe uses them.
        of_ablation: Whether an ablation pinned it. Ablations do not change the pins of nights.
        former: Whether the recipe's checkpoint was trained before the methods of its stages were corrected. It stands
            until ``l2v train`` trains it anew.
    """

    model_config = ConfigDict(frozen=True)

    identities: dict[str, str]
    of_ablation: bool = False
    former: bool = False

    @property
    def snapshots(self) -> dict[str, str]:
        """Id of the snapshot of each kind."""
        return {kind: self.identities[kind] for kind in KINDS if kind in self.identities}

    @property
    def judgments(self) -> str | None:
        """Hash of the judgments; None for a recipe without any."""
        return self.identities.get(JUDGMENTS)


def read_pin(store: Store, settings: Settings, *, of_ablation: bool = False) -> TrainingPin | None:
    """The data that the recipe of the settings is pinned to; None before its first training.

    A checkpoint from before a correction of the methods counts, unless an ablation asks: its rows must be comparable.
    """
    pins = [
        TrainingPin(identities=_parse_pin(content), of_ablation=of_ablation, former=former)
        for former in ((False,) if of_ablation else (False, True))
        if (content := store.read(_pin_key(settings, of_ablation=of_ablation, former=former))) is not None
    ]
    made = next((pin for pin in pins if find_made(store, settings, pin) is not None), None)
    return made or (pins[0].model_copy(update={"former": False}) if pins else None)


def write_pin(store: Store, settings: Settings, pinned: TrainingPin) -> None:
    """Pin the recipe of the settings to its data, in place of a former pin."""
    key = _pin_key(settings, of_ablation=pinned.of_ablation)
    content = "\n".join(f"{name} {identity}" for name, identity in sorted(pinned.identities.items())).encode()
    store.compare_and_swap(key, expected=store.read(key), content=content)


def find_trained(store: Store, settings: Settings) -> CheckpointRef | None:
    """The recipe's checkpoint, if its training ever finished."""
    pinned = read_pin(store, settings)
    return None if pinned is None else find_made(store, settings, pinned)


def find_unsupervised(store: Store, settings: Settings) -> CheckpointRef | None:
    """The checkpoint of a supervised recipe without its last stage, if one was trained; None for other recipes."""
    stages = tuple(stage for stage in settings.train.stages if stage in UNSUPERVISED_STAGES)
    if not stages or stages == settings.train.stages or settings.train.merge:
        return None
    recipe = settings.train.model_copy(update={"stages": stages})
    return find_trained(store, settings.model_copy(update={"train": recipe}))


def find_fine_tuned(store: Store, settings: Settings, base_model: str) -> CheckpointRef | None:
    """An encoder that was fine-tuned on the recipe's judgments with the settings of its supervised stage.

    Args:
        store: The store.
        settings: Settings with the recipe.
        base_model: The encoder before, such as ``bundled:all-minilm-l6-v2``.

    Returns:
        The checkpoint, or None if it was not trained.
    """
    if not settings.train.reads_judgments or "+" in base_model:
        return None
    recipe = settings.train.model_copy(update={"base_model": base_model, "stages": ("supervised",)})
    return find_trained(store, settings.model_copy(update={"train": recipe}))


def find_made(store: Store, settings: Settings, pinned: TrainingPin) -> CheckpointRef | None:
    """The recipe's checkpoint for these data, if its training finished."""
    record = store.read(record_key(recipe_key(settings, pinned)))
    return None if record is None else CheckpointRef.model_validate_json(record)


def pinned_snapshots(store: Store) -> frozenset[tuple[DocumentKind, str]]:
    """Kind and id of all snapshots that recipes are pinned to."""
    pins = [store.read(key) or b"" for key in store.list(_PINS)]
    return frozenset((kind, pin[kind]) for pin in map(_parse_pin, pins) for kind in KINDS if kind in pin)


def night_pins(store: Store) -> list[TrainingPin]:
    """The pins of all recipes, without those of ablations."""
    keys = [key for key in store.list(_PINS) if not key.startswith(f"{_PINS}/{_OF_ABLATION}")]
    return [TrainingPin(identities=_parse_pin(store.read(key) or b"")) for key in keys]


def recipe_key(settings: Settings, pinned: TrainingPin) -> str:
    """Hash of the recipe, its data and its base model."""
    recipe = settings.train
    return recipe.key(
        pinned.snapshots,
        pinned.judgments,
        base_content(recipe.base_model),
        teacher_sha256=joint_content(recipe.teachers),
        num_sources=len(settings.judgments.sources),
        former=pinned.former,
    )


def record_key(recipe: str) -> str:
    """Key of the record that names the checkpoint of a recipe, from :func:`recipe_key`."""
    return f"recipes/{recipe}.json"


def _parse_pin(content: bytes) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in content.decode().splitlines())


def _pin_key(settings: Settings, *, of_ablation: bool = False, former: bool = False) -> str:
    recipe = settings.train.settings_key(former=former)
    if settings.train.reads_judgments:
        # Older pins did not have leave_out: its default must not change their keys.
        without = set() if settings.judgments.leave_out else {"leave_out"}
        recipe = sha256_json([recipe, settings.judgments.model_dump(exclude=without)])
    return f"{_PINS}/{_OF_ABLATION if of_ablation else ''}{recipe}.txt"

"""The model card of a stored checkpoint: written when it is made, and again when it was evaluated.

Never imports prefect.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from data.schema import KINDS
from data.snapshots.snapshot import open_snapshot
from data.store.base import Store
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.model.checkpoint import CheckpointRecord, read_record
from llm2vec_core.serving.model_card import TrainingSource, render_model_card
from llm2vec_core.training.settings import read_curves
from tasks.encoders.checkpoints import checkpoint_dir, stored_at

_BUNDLED_LICENCE = "apache-2.0"
_SAMPLE_LICENCE = "written for this project (Apache-2.0); facts of ESCO (CC BY 4.0)"


def write_model_card(store: Store, fingerprint: str, *, scores: Sequence[TaskScore] = ()) -> None:
    """Write ``README.md`` of a stored checkpoint; nothing is written when it says the same already.

    Args:
        store: Holds the checkpoint.
        fingerprint: Of the checkpoint.
        scores: What it scored; of other encoders' scores none is taken.
    """
    directory = checkpoint_dir(store, fingerprint)
    record = read_record(directory)
    created = datetime.fromtimestamp(stored_at(store, fingerprint), UTC).date()
    card = render_model_card(
        record,
        curves=read_curves(checkpoint_dir(store, fingerprint)),
        training_data=_training_sources(store, record),
        scores=[score for score in scores if score.system_fingerprint == fingerprint],
        base_licence=_BUNDLED_LICENCE if record.base_model.startswith("bundled:") else None,
        created=created,
    ).encode()
    key = f"checkpoints/{fingerprint}/README.md"
    current = store.read(key)
    if current != card:
        store.compare_and_swap(key, expected=current, content=card)


def _training_sources(store: Store, record: CheckpointRecord) -> list[TrainingSource]:
    """The sources of the snapshots that a checkpoint was trained on."""
    return [
        TrainingSource(
            name=name,
            kind=kind,
            snapshot=record.training_snapshots[kind],
            num_documents=counts.rows_kept,
            licence=_SAMPLE_LICENCE if counts.path == "bundled:sample" else None,
        )
        for kind in KINDS
        if record.training_snapshots and kind in record.training_snapshots
        for name, counts in open_snapshot(store, kind, record.training_snapshots[kind]).manifest.sources.items()
    ]

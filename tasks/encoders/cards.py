"""The model card of a stored checkpoint: written when it is made, and again after an evaluation.

The card names the sources of the training texts. They are stored when the checkpoint is made, because the
snapshots may be removed later (``l2v maintain``) while the checkpoint is still used. Never imports prefect.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import TypeAdapter

from data.errors import DataError
from data.schema import KINDS
from data.snapshots.snapshot import open_snapshot
from data.store.base import Store
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.model.checkpoint import CheckpointRecord, read_record
from llm2vec_core.serving.model_card import TrainingSource, render_model_card
from llm2vec_core.training.settings import read_curves
from tasks.encoders.checkpoints import checkpoint_dir, stored_at

logger = logging.getLogger(__name__)

_BUNDLED_LICENCE = "apache-2.0"
_SOURCES = TypeAdapter(list[TrainingSource])
_SAMPLE_LICENCE = "written for this project (Apache-2.0); facts of ESCO (CC BY 4.0)"


def write_model_card(store: Store, fingerprint: str, *, scores: Sequence[TaskScore] = ()) -> None:
    """Write ``README.md`` of a stored checkpoint, unless it is up to date.

    Args:
        store: Holds the checkpoint.
        fingerprint: Fingerprint of the checkpoint.
        scores: Scores; those of other encoders are ignored.
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
    """The training sources of a checkpoint, as of the time when its first card was written.

    A checkpoint from before this record existed may outlive its snapshots: its card then leaves the sources out.
    """
    key = (
        f"training_sources/{record.fingerprint}.json"  # not in the directory, whose fingerprint covers every JSON file
    )
    known = store.read(key)
    if known is not None:
        return _SOURCES.validate_json(known)
    try:
        sources = [
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
    except DataError as error:
        logger.warning("The card of %s does not list its training sources: %s", record.fingerprint[:12], error)
        return []
    if sources:
        store.put_if_absent(key, _SOURCES.dump_json(sources))
    return sources

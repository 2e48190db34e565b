"""Gates that would look at the results of a night, with the figures that are known before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data.config import GateConfig
from data.schema import TABLE_OF_KIND, DocumentKind
from data.snapshots.build import SHRINK_FROM
from data.snapshots.snapshot import Snapshot
from data.store.base import Store
from data.vectors.gate import MIN_DOCUMENTS
from data.vectors.pointer import read_pointer
from tasks.preview.records import Look, TablePlan
from tasks.preview.scores import NEW
from tasks.run.settings import Settings


def shrink_looks(
    former: Mapping[DocumentKind, Snapshot | None], snapshots: Mapping[DocumentKind, Snapshot], settings: Settings
) -> list[Look]:
    """The check of each source that lost documents."""
    found = []
    for kind, snapshot in former.items():
        for name, counts in (snapshot.manifest.sources if snapshot is not None else {}).items():
            kept = snapshots[kind].manifest.sources[name].rows_kept
            lost = 1 - kept / max(counts.rows_kept, 1)
            if lost <= 0:
                continue
            verdict = "passes" if lost <= settings.ingest.max_shrink else "refuses"
            if counts.rows_kept < SHRINK_FROM:
                verdict = f"not checked: the source had fewer than {SHRINK_FROM} documents"
            elif name in settings.ingest.allow_shrink:
                verdict = "not checked: ingest.allow_shrink names the source"
            found.append(
                Look(
                    gate="shrink",
                    about=f"source {name}",
                    limit=settings.ingest.max_shrink,
                    figure=lost,
                    verdict=verdict,
                )
            )
    return found


def encoder_looks(store: Store, served: Sequence[str], settings: Settings) -> list[Look]:
    """The comparison of a new encoder with the served one."""
    pointer = read_pointer(store)
    new = [fingerprint for fingerprint in served if pointer is not None and fingerprint != pointer.checkpoint]
    return [
        Look(
            gate="evaluate.gate_margin",
            about="new encoder" if fingerprint == NEW else f"encoder {fingerprint[:12]}",
            limit=settings.evaluate.gate_margin,
            verdict="decided by its scores",
        )
        for fingerprint in new
    ]


def table_looks(
    gate: GateConfig,
    snapshots: Mapping[DocumentKind, Snapshot],
    tables: Mapping[DocumentKind, TablePlan],
    *,
    is_served: bool,
) -> list[Look]:
    """Checks of the generation gate on tables that change.

    Args:
        gate: Limits of the gate.
        snapshots: Documents that the tables will hold.
        tables: Changes of the tables.
        is_served: Whether the generation is served, so that there are tables to compare with.
    """
    found = []
    for kind, plan in tables.items():
        if not plan.upserted.high and not plan.removed.high:
            continue
        table, few = TABLE_OF_KIND[kind], snapshots[kind].manifest.num_documents < MIN_DOCUMENTS
        open_verdict = f"not checked: fewer than {MIN_DOCUMENTS} documents" if few else "decided on the new table"
        shift = open_verdict if is_served else "not checked: no table of this checkpoint is served"
        limits = {
            "unusable_share": (gate.max_unusable_share, "decided on the new vectors"),
            "duplicate_share": (gate.max_duplicate_share, open_verdict),
            "length_shift": (gate.max_length_shift, shift),
            "letter_shift": (gate.max_letter_shift, shift),
            "centroid_shift": (gate.max_centroid_shift, shift),
        }
        found += [
            Look(gate=name, about=f"table {table}", limit=limit, verdict=verdict)
            for name, (limit, verdict) in limits.items()
        ]
    return found

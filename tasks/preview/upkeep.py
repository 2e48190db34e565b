"""Preview of maintenance and of an erasure.

Steps that work through the store run on an overlay of it. Tables and the orchestrator's database are changed past the
store, so they are only looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from data.erasure.erase import named_documents
from data.erasure.from_outputs import (
    erase_from_exports,
    erase_from_matches,
    erase_from_parquet,
    erase_from_records,
    erase_from_shards,
    findings,
    remove_made_again,
)
from data.erasure.from_snapshots import erase_from_snapshots
from data.erasure.from_tables import num_tables_that_hold
from data.erasure.journal import begin
from data.outputs.feedback import erase_answers
from data.outputs.maintenance import tables_to_compact, what_to_keep
from data.store.lease import living_owner
from data.store.overlay import rehearsal
from tasks.encoders.pins import pinned_snapshots
from tasks.preview.night import rehearsed
from tasks.preview.records import UpkeepPreview
from tasks.run.settings import Settings
from tasks.stages.maintain import STEPS, maintain_step

_PAST_THE_STORE = frozenset({"tables"})
"""Steps of maintenance that an overlay does not keep to itself."""


def preview_maintenance(settings: Settings) -> UpkeepPreview:
    """Preview ``l2v maintain``: objects and bytes that each step would remove."""
    with rehearsed(settings) as run:
        kept = what_to_keep(run.store, settings.retention, pinned=pinned_snapshots(run.store))
        num_merged, num_pruned = tables_to_compact(run.store, kept)
        steps = [maintain_step.fn(run, step) for step in STEPS if step not in _PAST_THE_STORE]
        places: dict[str, int | str] = {"tables": f"{num_merged} to merge, {num_pruned} with old versions"}
        places |= {step.step: step.error or step.count for step in steps}
        return UpkeepPreview(
            command="maintain",
            home=settings.home_location,
            places=places,
            freed_bytes={step.step: step.freed_bytes for step in steps},
            notes=[f"Run {owner} is writing now." for owner in [living_owner(run.store)] if owner],
        )


def preview_erasure(settings: Settings, doc_ids: Sequence[str], *, files: Sequence[str] = ()) -> UpkeepPreview:
    """Preview ``l2v erase``: number of files or records that would change, by place.

    Raises:
        InputError: Nothing is named, or an id or a file is unknown.
    """
    with rehearsed(settings) as run:
        store = run.store
        journal = begin(store, set(named_documents(store, doc_ids, files)))
        places: dict[str, int | str] = {"tables": num_tables_that_hold(store, journal)}
        steps: dict[str, Callable[[], int]] = {
            "snapshots": lambda: erase_from_snapshots(store, journal, now=run.clock()),
            "shards": lambda: erase_from_shards(store, journal),
            "matches": lambda: erase_from_matches(store, journal),
            "facts": lambda: erase_from_parquet(store, "facts", journal),
            "judgments": lambda: erase_answers(store, journal.doc_ids),
            "exports": lambda: erase_from_exports(store, "exports/", journal),
            "reports": lambda: remove_made_again(store, "reports", journal),
            "evaluations": lambda: remove_made_again(store, "evaluations", journal),
            "runs": lambda: erase_from_records(store, "runs", journal),
            "orchestrator": lambda: len(findings(store.machine, "prefect", journal)),
        }
        places |= {name: step() for name, step in steps.items()}
        if settings.export_store is not None:
            with rehearsal(settings.export_store) as exports:
                places["exports elsewhere"] = erase_from_exports(exports, "", journal)
        return UpkeepPreview(
            command="erase",
            home=settings.home_location,
            places={name: count for name, count in places.items() if count},
            notes=[
                f"{len(journal.doc_ids)} document(s) would be erased. Training state, copies and leftovers go, too."
            ],
        )

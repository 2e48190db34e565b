"""Output of ``--preview``: what a command would do, as tables for people or one JSON object."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flows.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tasks.preview.records import NightPreview, SourceChange, UpkeepPreview

_CHANGES = {
    "added": "added",
    "changed": "other text",
    "changed_metadata": "other metadata",
    "removed": "removed",
}


_NEW_ENCODER = "an encoder that is not made yet"


@contextlib.contextmanager
def without_prefect_home() -> Iterator[None]:
    """Give Prefect a temporary directory. Previews import the stages, and importing Prefect creates its directory."""
    with tempfile.TemporaryDirectory(prefix="l2v-preview-") as folder:
        former = os.environ.get("PREFECT_HOME")
        os.environ["PREFECT_HOME"] = folder
        try:
            yield
        finally:
            if former is None:
                del os.environ["PREFECT_HOME"]
            else:
                os.environ["PREFECT_HOME"] = former


def show_night(preview: NightPreview, *, as_json: bool) -> None:
    """Print the preview of a night, an embedding or a backfill."""
    if as_json:
        print_json(preview.model_dump(mode="json"))
        return
    for change in preview.sources:
        title = f"Source {change.source} ({change.kind}s): {change.rows_in:,} rows, {change.rows_kept:,} kept"
        print_table(title, ["", "documents", "such as"], _change_rows(change))
    changed = [
        (each.key, _value(each.before), _value(each.now), ", ".join(each.stale) or "nothing")
        for each in preview.settings
    ]
    if changed:
        title = f"Settings that changed since night {preview.last_night}"
        print_table(title, ["setting", "before", "now", "makes stale"], changed)
    work = [
        (each.stage, each.work, "" if each.tokens is None else str(each.tokens), each.time())
        for each in preview.estimates
    ]
    print_table("Work, and time by the figures of past runs", ["stage", "work", "tokens", "time"], work)
    tables = [(kind, str(plan.encode), str(plan.upserted), str(plan.removed)) for kind, plan in preview.tables.items()]
    print_table("Tables", ["kind", "documents to encode", "rows to write", "rows to remove"], tables)
    gates = [
        (each.gate, each.about, "" if each.figure is None else f"{each.figure:.2f}", f"{each.limit:g}", each.verdict)
        for each in preview.gates
    ]
    if gates:
        print_table("Gates", ["gate", "looks at", "figure", "limit", "verdict"], gates)
    served = [_NEW_ENCODER if each == "new" else each[:12] for each in preview.served]
    rows = [("written", "nothing; the home is as it was"), ("serves then", " or ".join(served))]
    rows += [("refused", preview.refused)] if preview.refused else []
    rows += [("cost", preview.cost)] if preview.cost else []
    print_table(f"l2v {preview.command}", ["", ""], [*rows, *(("note", note) for note in preview.notes)])


def _change_rows(change: SourceChange) -> list[tuple[str, str, str]]:
    rows = []
    for name, title in _CHANGES.items():
        shown = "; ".join(f"{each.source_id} {each.title}" for each in change.samples.get(name, ()))
        rows.append((title, f"{getattr(change, name):,}", shown))
    rows.append(("duplicates", f"{change.rows_duplicate:,}", ""))
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in change.quarantine_reasons.items())
    first = "; ".join(f"{each.file} row {each.row} {each.detail}" for each in change.rejected)
    rows.append(("quarantined", f"{change.rows_quarantined:,}", ". ".join(filter(None, [reasons, first]))))
    return rows


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def show_upkeep(preview: UpkeepPreview, *, as_json: bool) -> None:
    """Print the preview of maintenance or of an erasure."""
    if as_json:
        print_json(preview.model_dump(mode="json"))
        return
    rows = [
        (place, f"{count:,}" if isinstance(count, int) else count, f"{preview.freed_bytes.get(place, 0):,}")
        for place, count in preview.places.items()
    ]
    rows += [("note", note, "") for note in preview.notes]
    print_table(f"l2v {preview.command} would change; nothing was written", ["place", "objects", "bytes freed"], rows)

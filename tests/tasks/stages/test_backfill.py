import json
from datetime import UTC, date, datetime

import pytest

from data.config import CleanConfig, SourceConfig
from data.errors import InputError
from data.snapshots.build import build_snapshot
from data.store.base import LocalStore
from data.store.digests import pack_digests, unpack_digests
from tasks.stages.backfill import BackfillRequest, select_contents


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "var")


def ingest(store, day, **sources):
    """Snapshot of a day; sources: id to the day in the documents' own field."""
    configs = {}
    for name, documents in sources.items():
        path = store.root.with_name(f"{name}.jsonl")
        rows = [{"id": key, "text": f"text {key}", "posted": posted} for key, posted in documents.items()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        configs[name] = SourceConfig(kind="job", path=str(path))
    return build_snapshot(
        store,
        kind="job",
        sources=configs,
        clean=CleanConfig(near_duplicates=False),
        run_id="run",
        fence=lambda: None,
        now=datetime(2026, 3, day, 23, tzinfo=UTC),
    )


def chosen(store, snapshot, **request):
    wanted = set(unpack_digests(select_contents(store, snapshot, BackfillRequest(**request))))
    table = snapshot.table(["source_id", "content_sha256"])
    digests = unpack_digests(pack_digests(table["content_sha256"]))
    return {name for name, each in zip(table["source_id"].to_pylist(), digests, strict=True) if each in wanted}


@pytest.fixture
def snapshot(store):
    ingest(store, 1, board={"a": "2025-01-01", "b": "2025-06-01"})
    ingest(store, 2, board={"a": "2025-01-01", "b": "2025-06-01", "c": None})
    return ingest(store, 3, board={"a": "2025-01-01", "b": "2025-06-01", "c": None}, portal={"d": "2025-06-02T10:00"})


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({"source": "board"}, "abc"),
        ({"since": date(2026, 3, 2)}, "cd"),
        ({"until": date(2026, 3, 2)}, "ab"),
        ({"since": date(2026, 3, 2), "until": date(2026, 3, 3)}, "c"),
        ({"since": date(2026, 3, 2), "source": "portal"}, "d"),
        ({"since": date(2025, 6, 1), "date_field": "posted"}, "bd"),
        ({"until": date(2025, 6, 1), "date_field": "posted"}, "a"),
        ({"source": "board", "date_field": "posted"}, "abc"),
        ({"since": date(2027, 1, 1)}, ""),
    ],
)
def test_documents_are_chosen_by_ingestion_or_by_their_own_date(store, snapshot, request_, wanted):
    assert chosen(store, snapshot, **request_) == set(wanted)


def test_what_is_no_date_is_named(store):
    snapshot = ingest(store, 1, board={"a": "last spring"})
    with pytest.raises(InputError, match="'last spring' in field 'posted'"):
        chosen(store, snapshot, since=date(2025, 1, 1), date_field="posted")

"""Processor time of a match with conditions, compared with the same match without them.

``first_ratio``: no facts are stored yet, so every document is read. ``ratio``: all facts are stored, as on every later
night. ``removing_ratio``: likewise, and failed pairs leave the matches. Real postings and resumes with random
vectors; needs the development data.

    python -m benchmarks.condition_cost [--documents 2000]
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from benchmarks.bulk_match import DIM, SHARED_DATA, unit_vectors
from data.conditions.config import ConditionConfig
from data.outputs.matches import LATEST_MATCHES
from data.schema import DocumentKind
from data.store.base import LocalStore
from data.store.lease import hold_lease
from data.store.records import Record
from data.vectors.lance import create_table, table_schema
from data.vectors.pointer import Pointer
from llm2vec_core.ranking.words import tokenize
from tasks.run.context import Run
from tasks.run.settings import MatchSettings, Settings
from tasks.stages.match import match_all

_FILES: dict[DocumentKind, tuple[str, str]] = {
    "job": ("jobs_nhs.jsonl", "description"),
    "resume": ("resumes_livecareer.jsonl", "text"),
}


def rows_of(kind: DocumentKind, count: int) -> Iterator[pa.Table]:
    """Rows of a table with real titles and texts."""
    name, field = _FILES[kind]
    lines = (SHARED_DATA / name).read_text(encoding="utf-8").splitlines()[:count]
    documents = [json.loads(line) for line in lines]
    schema = table_schema(DIM)
    columns: dict[str, object] = {
        each.name: [None if each.nullable else ""] * len(documents) for each in schema if each.name != "vector"
    }
    columns |= {
        "doc_id": [f"{number:032x}" for number in range(len(documents))],
        "kind": [kind] * len(documents),
        "title": [document["title"] for document in documents],
        "text": [document[field] for document in documents],
        "metadata": ["{}"] * len(documents),
        "num_chars": [0] * len(documents),
        "words": [" ".join(tokenize(f"{document['title']}\n{document[field]}")) for document in documents],
        "vector": list(unit_vectors(len(documents), seed=len(name))),
    }
    yield pa.table(columns, schema=schema)


def serve_documents(store: LocalStore, count: int) -> None:
    """Make both tables, and a pointer to them."""
    versions = {}
    for kind in _FILES:
        table = create_table(store, generation="g", kind=kind, embedding_dim=DIM)
        table.upsert(rows_of(kind, count))
        versions[f"{kind}s"] = table.version
    pointer = Pointer(
        sequence=1, generation="g", checkpoint="given", snapshots={}, fencing_epoch=1, run_id="benchmark",
        promoted_at=datetime.now(UTC), **versions,
    )  # fmt: skip
    Record(Pointer, "current.json").put_if_absent(store, pointer)


def cpu_seconds(store: LocalStore, settings: Settings) -> float:
    """Processor seconds of one whole match."""
    for key in list(store.list("matches")):
        store.delete(key)
    with hold_lease(store, owner="benchmark") as lease:
        run = Run("benchmark", settings, store, lease)
        started = time.process_time()
        match_all.fn(run)
        return time.process_time() - started


def measure(folder: Path, count: int) -> dict[str, float]:
    """Seconds of each variant, and their ratios to the match without conditions."""
    settings = Settings(home=str(folder))
    store = LocalStore(folder)
    serve_documents(store, count)
    variants = {
        "without": ConditionConfig(check=()),
        "first": ConditionConfig(),
        "kept": ConditionConfig(),
        "removing": ConditionConfig(on_fail="remove"),
    }
    cpu_seconds(store, _with(settings, variants["without"]))  # imports, and the limits of fit
    seconds = {name: cpu_seconds(store, _with(settings, each)) for name, each in variants.items()}
    assert LATEST_MATCHES.name(store) is not None
    ratios = {"first_ratio": "first", "ratio": "kept", "removing_ratio": "removing"}
    return {
        **{name: seconds[variant] / seconds["without"] for name, variant in ratios.items()},
        **{f"{name}_cpu_seconds": round(each, 2) for name, each in seconds.items()},
    }


def _with(settings: Settings, conditions: ConditionConfig) -> Settings:
    return settings.model_copy(update={"match": MatchSettings(conditions=conditions)})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--documents", type=int, default=2000, help="documents of each kind")
    count = parser.parse_args().documents
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, object] = {"documents": count, **measure(Path(folder), count)}
    print(json.dumps({**result, "machine": f"{platform.machine()}, {platform.system()}"}))


if __name__ == "__main__":
    main()

"""Checks of the store, the base model and the sources."""

from __future__ import annotations

import itertools
import os
import time

from data.config import SourceConfig
from data.documents.extract.doc import doc_programs
from data.documents.extract.ocr import has_tesseract, languages
from data.documents.rows import RawRow, ReadLog
from data.documents.sources import find_files, read_rows
from data.errors import ConflictError, DataError
from data.store.base import Store
from llm2vec_core.model.presence import describe_base_model
from tasks.doctor.diagnosis import Diagnosis, fail, ok, warn
from tasks.run.settings import Settings

_FIRST_ROWS = 20


def examine_store(settings: Settings, store: Store) -> Diagnosis:
    """Check that the store can be written, and that it refuses a write whose condition is false."""
    key = f"tmp/doctor-{os.getpid()}-{time.monotonic_ns()}"
    try:
        first, second = store.put_if_absent(key, b"1"), store.put_if_absent(key, b"2")
        kept = store.read(key)
        store.compare_and_swap(key, expected=kept, content=b"3")
        try:
            store.compare_and_swap(key, expected=kept, content=b"4")
            refused = False
        except ConflictError:
            refused = store.read(key) == b"3"
    finally:
        store.delete(key)
    if (first, second, kept) != (True, False, b"1") or not refused:
        return fail(
            "store",
            f"{settings.home_location} ignores write conditions: concurrent runs would overwrite each other's records.",
            "Use a file system or a service with atomic writes (docs/operate.md, More machines).",
        )
    return ok("store", f"{settings.home_location} can be written, and keeps the first of two writers.")


def examine_base_model(settings: Settings, store: Store) -> Diagnosis:
    """Check that the weights of the base model are present and whole, without loading them."""
    found = describe_base_model(settings.train.base_model, cache_dir=store.machine.local_path("base_models"))
    return ok("base model", found)


def examine_programs(settings: Settings) -> Diagnosis:
    """Check the programs that read scans and old Word files: only ``ingest.ocr`` needs one, the others are named."""
    if has_tesseract():
        scans = f"Tesseract ({', '.join(languages())})" + ("" if settings.ingest.ocr else ", unused: ingest.ocr is off")
    elif settings.ingest.ocr:
        return fail(
            "programs",
            "ingest.ocr is on, but Tesseract is not installed: scans are quarantined.",
            "Install it (apt-get install tesseract-ocr, and tesseract-ocr-LANGUAGE for each language).",
        )
    else:
        scans = "scans are quarantined (no Tesseract)"
    words = " and ".join(doc_programs())
    return ok("programs", f"{scans}; .doc files are {f'read by {words}' if words else 'quarantined (no antiword)'}.")


def examine_source(name: str, config: SourceConfig) -> Diagnosis:
    """Check that a source has files with readable rows. A fault of one that is not required is a warning."""
    check, unreadable = f"source {name}", fail if config.required else warn
    try:
        files = 0 if config.path.startswith("bundled:") else len(find_files(config.path))
        rows = list(itertools.islice(read_rows(config, ReadLog()), _FIRST_ROWS))
    except DataError as error:
        return unreadable(check, str(error), error.hint)
    except OSError as error:
        return unreadable(check, f"{config.path}: {error.strerror}.", "Mount the share, or check its permissions.")
    place = config.path if not files else f"{config.path} ({files:,} file(s))"
    rejected = [row for row in rows if not isinstance(row, RawRow)]
    if not rows:
        return warn(check, f"{place} has no rows.", "Check that the delivery is complete.")
    if len(rejected) == len(rows):
        first = rejected[0]
        return warn(
            check,
            f"{place}: the first {len(rows)} row(s) would be quarantined ({first.reason}: {first.detail}).",
            f"Run `l2v ingest --kind {config.kind} --source PATH --dry-run`.",
        )
    return ok(check, f"{place} can be read.")

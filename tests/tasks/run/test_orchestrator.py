"""The embedded orchestrator: a full disk, a database that cannot be used."""

import shutil
import sqlite3
from collections import namedtuple

import pytest

from tasks.run.orchestrator import (
    MIN_FREE_BYTES,
    MIN_FREE_TO_MAINTAIN_BYTES,
    _known_revisions,
    database_revision,
    database_trouble,
    disk_trouble,
    machine_trouble,
)

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "prefect"


@pytest.fixture
def database(folder):
    """A database as the installed Prefect leaves it, as far as its version goes."""
    folder.mkdir(parents=True)
    path = folder / "prefect.db"
    with sqlite3.connect(path) as opened:
        opened.execute("CREATE TABLE alembic_version (version_num TEXT)")
        newest = sorted(_known_revisions())[-1].split("_")[4]
        opened.execute("INSERT INTO alembic_version VALUES (?)", [newest])
    return path


def test_nothing_is_wrong_before_the_first_run_and_after_it(folder, database):
    assert machine_trouble(folder.with_name("new") / "prefect") is None
    assert machine_trouble(folder) is None
    assert database_trouble(folder) is None
    assert database_revision(folder) in sorted(_known_revisions())[-1]
    assert database_revision(folder.with_name("new") / "prefect") is None


def test_a_full_disk_is_one_sentence_and_maintenance_may_still_run(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 30, 1 << 30, 20 << 20))
    trouble = disk_trouble(folder)
    assert "is full: 21 MB are free, a run needs 67 MB" in str(trouble)
    assert "l2v maintain" in trouble.hint
    assert disk_trouble(folder, MIN_FREE_TO_MAINTAIN_BYTES) is None
    assert not folder.parent.exists()
    assert MIN_FREE_BYTES > MIN_FREE_TO_MAINTAIN_BYTES


def test_a_damaged_database_is_named(folder, database):
    database.write_bytes(b"no database at all" * 100)
    assert "is damaged" in str(machine_trouble(folder))


def test_a_database_of_a_newer_prefect_is_named(folder, database):
    with sqlite3.connect(database) as opened:
        opened.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
    trouble = database_trouble(folder)
    assert "newer Prefect (revision fffffffffff0)" in str(trouble)
    assert "Install that version" in trouble.hint


def test_a_locked_database_is_named_and_a_look_needs_no_lock(folder, database, monkeypatch):
    monkeypatch.setattr("tasks.run.orchestrator._LOCK_WAIT_S", 0.1)
    with sqlite3.connect(database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "is locked by another process" in str(machine_trouble(folder))
        assert database_trouble(folder) is None
        other.execute("ROLLBACK")
    assert machine_trouble(folder) is None

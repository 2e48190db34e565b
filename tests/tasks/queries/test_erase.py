"""Erasing resumes by the names of their files, without an orchestrator."""

from datetime import UTC, datetime

import pytest

from data.config import CleanConfig, SourceConfig
from data.errors import InputError
from data.snapshots.build import build_snapshot
from data.snapshots.snapshot import latest_snapshot
from tasks.queries.erase import erase
from tasks.run.settings import Settings

NAME = "Zantel_Quivo_CV.txt"


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "cvs").mkdir()
    (tmp_path / "cvs" / NAME).write_text("I have cooked in hotels for ten years, and I lead a kitchen of eight.\n")
    (tmp_path / "cvs" / "other.txt").write_text("I am a nurse on a ward for children.\n")
    settings = Settings(home=str(tmp_path / "home"))
    build_snapshot(
        settings.store(),
        kind="resume",
        sources={"cvs": SourceConfig(kind="resume", path=str(tmp_path / "cvs"))},
        clean=CleanConfig(),
        run_id="run",
        fence=lambda: None,
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )
    return settings


def test_a_resume_is_erased_by_the_name_of_its_file(settings):
    report = erase(settings, [], files=[NAME])
    assert (len(report.doc_ids), report.removed["snapshots"] > 0) == (1, True)
    (left,) = latest_snapshot(settings.store(), "resume").table().to_pylist()
    assert left["text"].startswith("I am a nurse")


def test_an_unknown_file_and_no_name_at_all_change_nothing(settings):
    for doc_ids, files in (([], ["nobody.pdf"]), ([], [])):
        with pytest.raises(InputError):
            erase(settings, doc_ids, files=files)
    assert latest_snapshot(settings.store(), "resume").manifest.num_documents == 2

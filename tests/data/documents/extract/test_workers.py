"""Worker processes that read documents ahead."""

import os
import signal
import time

import pytest

from data.config import SourceConfig
from data.documents.extract.extracted import Extracted, Mark
from data.documents.processes import workers as module
from data.documents.processes.reading import Reading, decoded, encoded
from data.documents.processes.workers import DocumentWorkers
from data.documents.readers.formats import Format
from data.documents.rows import RawRow, RejectReason
from data.documents.sources import read_rows
from tests.data.documents.extract.test_pdf import lines, write_pdf

KILLER = """
import os, time
import pypdf, pypdfium2  # before the time of a file begins
from data.documents.extract import pdf
from data.documents.processes import worker
whole = pdf.read_pdf
def read_pdf(path, *, ocr):
    print("stray output of a parser", flush=True)
    if "killer" in path.name:
        os._exit(11)
    if "once" in path.name and not path.with_suffix(".seen").exists():
        path.with_suffix(".seen").touch()
        os._exit(9)
    if "slow" in path.name:
        time.sleep(60)
    if "greedy" in path.name:
        bytearray(2**33)
    return whole(path, ocr=ocr)
pdf.read_pdf = read_pdf
worker.answer_requests()
"""


@pytest.fixture
def fragile(monkeypatch, tmp_path_factory):
    """Workers whose PDF reader dies, hangs or takes all memory, by the name of the file."""
    script = tmp_path_factory.mktemp("worker") / "fragile.py"
    script.write_text(KILLER)
    start = module.subprocess.Popen
    monkeypatch.setattr(
        module.subprocess, "Popen", lambda command, **options: start([command[0], str(script)], **options)
    )


def resumes(folder, *names):
    for name in names:
        write_pdf(folder / name, lines(f"Resume {name.split('.')[0]}", "Welder in a shipyard"))
    return SourceConfig(kind="resume", path=str(folder))


def test_a_file_that_kills_its_worker_is_quarantined_and_the_others_are_read(tmp_path, fragile):
    config = resumes(tmp_path, "a.pdf", "b-killer.pdf", "c.pdf", "d-once.pdf", "e-greedy.pdf", "f.pdf")
    rows = {row.file: row for row in read_rows(config)}
    assert [name for name, row in rows.items() if isinstance(row, RawRow)] == ["a.pdf", "c.pdf", "d-once.pdf", "f.pdf"]
    killer, greedy = rows["b-killer.pdf"], rows["e-greedy.pdf"]
    assert (killer.reason, greedy.reason) == (RejectReason.UNREADABLE_FILE, RejectReason.UNREADABLE_FILE)
    assert killer.detail == "the process that reads it ended twice; expected a readable pdf file"
    assert greedy.detail.startswith("MemoryError")
    assert rows["f.pdf"].values["text"] == "Resume f\nWelder in a shipyard"


def test_a_file_that_takes_too_long_is_quarantined(tmp_path, fragile, monkeypatch):
    monkeypatch.setattr(module, "MAX_SECONDS", 4.0)
    first, second = read_rows(resumes(tmp_path, "a-slow.pdf", "b.pdf"))
    assert first.detail == "reading it takes more than 4 s; expected a readable pdf file"
    assert isinstance(second, RawRow)


@pytest.mark.parametrize("command", ["/no/such/python", "/bin/false"])
def test_documents_are_read_in_this_process_if_no_worker_starts(tmp_path, monkeypatch, command):
    monkeypatch.setattr(module.sys, "executable", command)
    (row,) = read_rows(resumes(tmp_path, "a.pdf"))
    assert row.values["text"].startswith("Resume a")


def test_workers_end_when_the_reading_is_given_up(tmp_path, fragile):
    names = [f"{number}.pdf" for number in range(4)] + ["5-slow.pdf", "6-slow.pdf"]
    started = time.monotonic()
    rows = read_rows(resumes(tmp_path, *names))
    next(rows)
    next(rows)
    rows.close()
    assert time.monotonic() - started < 20


def test_a_worker_is_no_child_that_survives(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", lines("Welder"))
    with DocumentWorkers([(path, Format.PDF)]) as workers:
        assert workers.reading(path).extracted.text == "Welder"
        assert workers.reading(path) is None, "a reading is given once"
        (process,) = [worker._process for worker in workers._workers]
        os.kill(process.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def test_few_documents_that_no_file_can_crash_are_read_in_this_process(tmp_path):
    files = [(tmp_path / f"{number}.txt", Format.TEXT) for number in range(3)]
    with DocumentWorkers(files) as workers:
        assert workers.reading(files[0][0]) is None


def test_files_may_be_asked_for_in_any_order(tmp_path):
    config = resumes(tmp_path, *(f"{number:02}.pdf" for number in range(30)))
    files = [(path, Format.PDF) for path in sorted(tmp_path.iterdir())]
    with DocumentWorkers(files) as workers:
        texts = [workers.reading(path).extracted.text for path, _ in reversed(files)]
    assert texts[0].startswith("Resume 29")
    assert [row.values["text"] for row in read_rows(config)] == texts[::-1]


@pytest.mark.parametrize(
    "reading",
    [
        Reading(Extracted("half a character \ud83d and ß", "T", (Mark.ATTACHMENTS, Mark.HIDDEN_TEXT), 2)),
        Reading(reason=RejectReason.SCANNED, detail="none of the 1 page(s) has text"),
    ],
)
def test_a_reading_passes_between_processes_unchanged(reading):
    assert decoded(module.json.loads(module.json.dumps(encoded(reading)))) == reading

"""Files that programs read: old Word files by LibreOffice or antiword, scans by Tesseract."""

import os
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from data.config import SourceConfig
from data.documents.extract import doc
from data.documents.extract.commands import CommandError, run_bounded
from data.documents.extract.doc import read_doc
from data.documents.extract.extracted import Mark, MissingProgramError, ScannedError
from data.documents.extract.pdf import read_pdf
from data.documents.rows import RawRow, ReadLog, RejectReason
from data.documents.sources import read_rows, source_sha256
from tests.data.documents.extract.test_pdf import lines, write_pdf

OLD_WORD = Path(__file__).parent / "files" / "old_word.doc"
"""Made by LibreOffice from a DOCX with a header, a list, a table and hidden text."""

needs_antiword = pytest.mark.skipif(shutil.which("antiword") is None, reason="antiword is not installed")
needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="Tesseract is not installed")


def only(monkeypatch, folder, *programs):
    """Let only these programs be found, besides the shell."""
    folder.mkdir()
    for name in ("sh", "sleep", *programs):
        if (found := shutil.which(name)) is not None:
            (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Programs are replaced in this process, which workers would not notice."""
    monkeypatch.setattr("data.documents.processes.workers.MAX_WORKERS", 0)


def rows_of(path, **options):
    log = ReadLog()
    rows = list(read_rows(SourceConfig(kind="resume", path=str(path)), log, **options))
    return {row.file: row for row in rows}, log


def scan(path, *pages):
    """A PDF of pictures: each text is drawn; an empty one is a blank page."""
    font = ImageFont.load_default(size=60)
    pictures = []
    for text in pages:
        picture = Image.new("L", (1700, 900), 255)
        ImageDraw.Draw(picture).multiline_text((120, 120), text, font=font, fill=0)
        pictures.append(picture)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], resolution=200)
    return path


@needs_antiword
def test_an_old_word_file_is_read_by_antiword_and_marked(tmp_path, monkeypatch):
    only(monkeypatch, tmp_path / "bin", "antiword")
    found = read_doc(OLD_WORD)
    assert "Eleven years of welding pressure vessels – TIG and MAG, for “Nordwerft” in Kiel." in found.text
    for words in ("Schweißerin", "2014 | Shipyard\n2019 | Boiler works", "Żółta łódź, Привет."):
        assert words in found.text
    assert found.marks == (Mark.ANTIWORD,)
    rows, log = rows_of(OLD_WORD)
    assert rows["old_word.doc"].values["reader_marks"] == ["antiword"]
    assert log.marks == {"antiword": 1}


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
@pytest.mark.slow
def test_an_old_word_file_is_read_by_libreoffice_like_a_docx(tmp_path):
    found = read_doc(OLD_WORD)
    assert {"Curriculum vitae", "Schweißerin", "2014 | Shipyard"} <= set(found.text.split("\n"))
    assert "stuffing" not in found.text
    assert Mark.HIDDEN_TEXT in found.marks


def test_without_a_program_an_old_word_file_names_the_remedy_and_costs_only_itself(tmp_path, monkeypatch):
    folder = tmp_path / "cvs"
    folder.mkdir()
    shutil.copyfile(OLD_WORD, folder / "old.doc")
    (folder / "new.txt").write_text("Welds.")
    only(monkeypatch, tmp_path / "bin")
    with pytest.raises(MissingProgramError):
        read_doc(OLD_WORD)
    rows, _ = rows_of(folder)
    assert isinstance(rows["new.txt"], RawRow)
    assert rows["old.doc"].reason is RejectReason.UNSUPPORTED_FILE
    assert "install antiword or LibreOffice" in rows["old.doc"].detail
    config = SourceConfig(kind="resume", path=str(folder))
    before = source_sha256(config)
    monkeypatch.setattr("data.documents.sources.doc_programs", lambda: ("antiword",))
    assert source_sha256(config) != before, "the source is read again once antiword is there"


def _ended(stat: Path) -> bool:
    try:
        return stat.read_text().split()[2] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    program = tmp_path / "antiword"
    program.write_text(f"#!/bin/sh\nsleep 300 & echo $! > {tmp_path}/child\nwait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(doc, "doc_programs", lambda: ("antiword",))
    monkeypatch.setattr(doc, "ANTIWORD_TIMEOUT_S", 1.0)
    started = time.monotonic()
    with pytest.raises(ValueError, match="antiword took longer than 1 s"):
        read_doc(OLD_WORD)
    assert time.monotonic() - started < 30
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    while not _ended(child):  # the kernel delivers the signal a moment after it was sent
        assert time.monotonic() - started < 30
        time.sleep(0.05)


def test_a_program_gets_no_secret_and_a_home_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    printed = run_bounded(
        ["sh", "-c", "echo $HOME; echo [$HF_TOKEN]; cat"], folder=tmp_path, timeout_s=10, content=b"in"
    )
    assert printed.decode().split("\n") == [str(tmp_path), "[]", "in"]
    with pytest.raises(CommandError, match="sh failed: no luck"):
        run_bounded(["sh", "-c", "echo no luck >&2; exit 3"], folder=tmp_path, timeout_s=10)


@needs_tesseract
def test_a_scan_is_read_if_the_settings_say_so_and_is_marked(tmp_path):
    path = scan(tmp_path / "scan.pdf", "Welder of pressure vessels\nin Kiel since 2014", "")
    with pytest.raises(ScannedError, match=r"ingest\.ocr = true"):
        read_pdf(path)
    rows, log = rows_of(path, ocr=True)
    row = rows["scan.pdf"]
    assert row.values["text"] == "Welder of pressure vessels\nin Kiel since 2014"
    assert row.values["reader_marks"] == ["ocr", "pages_without_text"]
    assert (row.values["ocr"], row.values["pages_without_text"]) == (1, 1)
    assert log.marks == {"ocr": 1, "pages_without_text": 1}
    config = SourceConfig(kind="resume", path=str(path))
    assert source_sha256(config) != source_sha256(config, ocr=True)
    assert source_sha256(SourceConfig(kind="resume", path=str(OLD_WORD))) == source_sha256(
        SourceConfig(kind="resume", path=str(OLD_WORD)), ocr=True
    ), "only sources with PDFs are read again"


@needs_tesseract
def test_pages_with_text_are_not_recognised(tmp_path, monkeypatch):
    monkeypatch.setattr("data.documents.extract.pdf.recognise_page", lambda page: pytest.fail("not needed"))
    path = write_pdf(tmp_path / "cv.pdf", lines("Welds pressure vessels."))
    assert read_pdf(path, ocr=True).marks == ()


def test_a_scan_names_the_remedy_where_tesseract_is_missing_or_fails(tmp_path, monkeypatch):
    path = scan(tmp_path / "scan.pdf", "")
    monkeypatch.setattr("data.documents.extract.pdf.has_tesseract", lambda: False)
    rows, _ = rows_of(path, ocr=True)
    assert rows["scan.pdf"].reason is RejectReason.SCANNED
    assert "install Tesseract" in rows["scan.pdf"].detail
    monkeypatch.setattr("data.documents.extract.pdf.has_tesseract", lambda: True)
    monkeypatch.setattr("data.documents.extract.ocr.languages", lambda: ("eng",))

    def fail(*_, **__):
        raise CommandError("tesseract took longer than 60 s")

    monkeypatch.setattr("data.documents.extract.ocr.run_bounded", fail)
    rows, _ = rows_of(path, ocr=True)
    assert "finds none either" in rows["scan.pdf"].detail

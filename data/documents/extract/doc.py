"""Word's format before 2007 (.doc): read by LibreOffice or antiword, if one of them is installed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from data.documents.extract.commands import CommandError, run_bounded
from data.documents.extract.docx import read_docx
from data.documents.extract.extracted import MAX_UNPACKED_BYTES, Extracted, Mark, MissingProgramError

ANTIWORD_TIMEOUT_S = 20.0
OFFICE_TIMEOUT_S = 90.0
"""LibreOffice needs some seconds to start, and more on a busy machine."""


def read_doc(path: Path) -> Extracted:
    """Text of a document: by LibreOffice, converted to DOCX; otherwise by antiword.

    LibreOffice takes some seconds a file. antiword takes none, but leaves out text boxes, headers and footers, and
    shows hidden text. So its documents are marked.

    Raises:
        MissingProgramError: Neither program is installed.
        ValueError: It is too large, or no program can read it.
    """
    size_bytes = path.stat().st_size
    if size_bytes > MAX_UNPACKED_BYTES:
        raise ValueError(f"{size_bytes} bytes, at most {MAX_UNPACKED_BYTES} are read")
    faults = []
    for program in doc_programs():
        try:
            found = _by_antiword(path) if program == "antiword" else _by_office(path, program)
        except CommandError as error:
            faults.append(str(error))
            continue
        if found.text.strip():
            return found
        faults.append(f"{program} finds no text")
    if not faults:
        raise MissingProgramError(
            "an old Word file (.doc); install antiword or LibreOffice to read it, or save it as .docx or PDF"
        )
    raise ValueError("; ".join(faults))


def doc_programs() -> tuple[str, ...]:
    """Installed programs that read such files, in the order in which they are tried."""
    return tuple(name for name in ("soffice", "antiword") if shutil.which(name))


def _by_antiword(path: Path) -> Extracted:
    with tempfile.TemporaryDirectory(prefix="l2v-") as folder:
        command = ["antiword", "-m", "UTF-8.txt", "-w", "0", str(path.absolute())]
        printed = run_bounded(command, folder=Path(folder), timeout_s=ANTIWORD_TIMEOUT_S)
    lines = printed.decode("utf-8", "replace").split("\n")
    return Extracted("\n".join(map(_without_frame, lines)), marks=(Mark.ANTIWORD,))


def _without_frame(line: str) -> str:
    """A table row as other readers write it: ``2014 | Shipyard``."""
    if not (line.startswith("|") and line.rstrip().endswith("|")):
        return line
    return " | ".join(" ".join(cell.split()) for cell in line.strip().strip("|").split("|"))


def _by_office(path: Path, program: str) -> Extracted:
    """Convert to DOCX with a profile of its own, so that no open window or setting of a user interferes."""
    with tempfile.TemporaryDirectory(prefix="l2v-") as name:
        folder = Path(name)
        source = folder / "in.doc"
        shutil.copyfile(path, source)
        command = [
            program, f"-env:UserInstallation={(folder / 'profile').as_uri()}", "--headless", "--norestore", "--nologo",
            "--convert-to", "docx:MS Word 2007 XML", "--outdir", str(folder), str(source),
        ]  # fmt: skip
        run_bounded(command, folder=folder, timeout_s=OFFICE_TIMEOUT_S)
        converted = folder / "in.docx"
        if not converted.is_file():
            raise CommandError(f"{program} wrote no document")
        return read_docx(converted)

"""Text recognition: reads pages of a PDF that have no text, such as scans, with Tesseract, if it is installed."""

from __future__ import annotations

import logging
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.documents.extract.commands import CommandError, run_bounded

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

PAGE_TIMEOUT_S = 60.0
MAX_RECOGNISED_PAGES = 100
"""Maximum number of pages that are recognised in one document. A page takes some seconds."""

logger = logging.getLogger(__name__)

_DPI = 300
_MAX_PIXELS = 40_000_000
_PROGRAM = "tesseract"


def has_tesseract() -> bool:
    """Return whether Tesseract is installed."""
    return shutil.which(_PROGRAM) is not None


@cache
def languages() -> tuple[str, ...]:
    """Installed languages of Tesseract; all of them are used."""
    with tempfile.TemporaryDirectory(prefix="l2v-") as folder:
        printed = run_bounded([_PROGRAM, "--list-langs"], folder=Path(folder), timeout_s=PAGE_TIMEOUT_S)
    return tuple(line for line in printed.decode().split("\n")[1:] if line)


def recognise_page(page: PdfPage) -> str:
    """Text of a page as a picture; empty if there is none, or if Tesseract fails or takes too long."""
    try:
        return _recognise(_picture(page))
    except CommandError as error:
        logger.warning("The text of a page was not recognised: %s", error)
        return ""


def _picture(page: PdfPage) -> bytes:
    """A page as a grey picture in the PGM format, 300 dots per inch unless it is huge."""
    width, height = page.get_size()
    scale = min(_DPI / 72, (_MAX_PIXELS / max(width * height, 1.0)) ** 0.5)
    pixels: np.ndarray = page.render(scale=scale, grayscale=True).to_numpy().squeeze()
    return b"P5 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


def _recognise(picture: bytes) -> str:
    found = languages()
    turns = "1" if "osd" in found else "3"  # 1: also finds out which way is up
    chosen = "+".join(name for name in found if name != "osd")
    with tempfile.TemporaryDirectory(prefix="l2v-") as folder:
        command = [_PROGRAM, "stdin", "stdout", "-l", chosen, "--psm", turns, "--dpi", str(_DPI)]
        printed = run_bounded(command, folder=Path(folder), timeout_s=PAGE_TIMEOUT_S, content=picture)
    return printed.decode("utf-8", "replace").replace("\f", "").strip()

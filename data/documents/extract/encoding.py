"""Detect the encoding of a text file: byte order mark, UTF-8, UTF-16, otherwise the Windows encoding of its letters."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

SCANNED_BYTES = 64 * 2**20
"""Number of bytes to inspect."""

_BLOCK = 2**20
_SAMPLE = 2**16
_CONTINUATION = bytes(range(0x80, 0xC0))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Cyrillic or Polish read as Western letters shows signs within words, or hardly a plain letter.
_STRANGE = re.compile(r"[^\W\d_][¡-©«¬®-´¶-¹»-¿×÷‚„†‡ˆ‰‹›˜][^\W\d_]|[\x80-\x9f]")


def detect_encoding(path: Path, *, min_invalid: int = 1) -> str:
    """Name of the encoding of a text file, as Python knows it; ``utf-8-sig`` when in doubt.

    A file is UTF-8 if as many of its lines with other than ASCII characters are valid UTF-8 as are not.

    Args:
        path: The file.
        min_invalid: Lines that must not be UTF-8: in a table, a single one is a broken row.
    """
    with path.open("rb") as handle:
        head = handle.read(_SAMPLE)
        for mark, encoding in _MARKS:
            if head.startswith(mark):
                return encoding
        if (wide := _utf16_without_mark(head)) is not None:
            return wide
        handle.seek(0)
        valid = invalid = 0
        strange: list[bytes] = []
        scanned = 0
        while scanned < SCANNED_BYTES and (block := handle.read(_BLOCK)):
            first = scanned == 0
            scanned += len(block)
            if block.isascii():
                continue
            # A block may begin and end within a character.
            for line in (block if first else block.lstrip(_CONTINUATION)).splitlines():
                if line.isascii():
                    continue
                try:
                    codecs.utf_8_decode(line, "strict", False)
                    valid += 1
                except UnicodeDecodeError:
                    invalid += 1
                    if sum(map(len, strange)) < _SAMPLE:
                        strange.append(line[:_SAMPLE])
    if invalid <= valid or invalid < min_invalid:
        return "utf-8-sig"
    return _single_byte(b"".join(strange))


def read_text(path: Path) -> tuple[str, str]:
    """Text of a small file and its encoding. Undecodable bytes are replaced.

    Raises:
        ValueError: It holds so many control characters that it cannot be text.
    """
    encoding = detect_encoding(path)
    text = path.read_bytes().decode(encoding, "replace")
    controls = sum(text.count(chr(code)) for code in (*range(9), *range(14, 27)))
    if controls > 0.02 * len(text):
        raise ValueError("it holds control characters and is not text")
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def _utf16_without_mark(head: bytes) -> str | None:
    even, odd = head[0::2], head[1::2]
    if len(head) < 4 or b"\0" not in head:
        return None
    if odd.count(0) > 0.7 * len(odd) and even.count(0) < 0.1 * len(even):
        return "utf-16-le"
    if even.count(0) > 0.7 * len(even) and odd.count(0) < 0.1 * len(odd):
        return "utf-16-be"
    return None


def _single_byte(sample: bytes) -> str:
    western = sample.decode("cp1252", "replace")
    letters = [char for char in western if char.isalpha()]
    foreign = sum(not char.isascii() for char in letters) / max(len(letters), 1)
    if foreign < 0.3 and "\ufffd" not in western and not _STRANGE.search(western):
        return "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    return best.encoding if best is not None else "cp1252"

"""Labels before personal data in several languages, read from ``labels.toml``, as parts of patterns."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path

LABELS_FILE = Path(__file__).parent / "labels.toml"
"""Its bytes are part of the redaction identity, like those of the name lists."""

_BLANK = r"[ \u00a0_-]{0,2}"


@functools.cache
def label_pattern(*types: str) -> str:
    """A pattern of the labels of some types, to be compiled without case. No letter or digit stands directly before it.

    The longest label is tried first. The pattern has no groups that capture.
    """
    labels = {label.casefold() for type_ in types for label in _read()[type_]["labels"]}
    spelled = [
        _BLANK.join(map(re.escape, label.split(" "))) for label in sorted(labels, key=lambda each: (-len(each), each))
    ]
    return rf"(?:(?<![^\W_])|(?<=[\u3040-\u9fff]))(?:{'|'.join(spelled)})"


@functools.cache
def _read() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(LABELS_FILE.read_text(encoding="utf-8"))

"""Outcomes of fixed encoders on the bundled tasks, so that a first night need not score them again.

The reference encoders and the bundled adapter are the same for everybody, and so are the bundled tasks. A file is named
after the key of its outcome, which covers weights, tokenizer, pooling, the texts of the task, the precision and the
version of mteb. Where one of them differs, the key is another one, and the night scores the encoder itself.
``tools/reference_outcomes.py`` copies the files from a home.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from data.sample.read import SAMPLE_DIR

OUTCOMES_DIR = SAMPLE_DIR / "outcomes"


def bundled_outcome(key: str) -> bytes | None:
    """Content of a file of an outcome by its key in a home (``evaluations/<system>/<file>``); None without one."""
    system, name = PurePosixPath(key).parts[1:]
    path = OUTCOMES_DIR / system / name
    return path.read_bytes() if path.is_file() else None

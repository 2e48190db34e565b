"""A worker process of ``workers``: reads the files that it is given, one line each, until its input ends."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from data.documents.processes.reading import READY, encoded, read_document
from data.documents.readers.formats import Format

MAX_MEMORY_BYTES = 768 * 2**20
"""Address space of a worker: a file that needs more is not readable. Ordinary files need less than 200 MB."""


def answer_requests() -> None:
    """Answer on the standard output as it was; what a parser prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(ImportError, OSError, ValueError):  # no such limit on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        path, found, ocr = json.loads(line)
        reading = read_document(Path(path), Format(found), ocr=ocr)
        answers.write(json.dumps(encoded(reading)).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    answer_requests()

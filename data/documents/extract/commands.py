"""Run programs that read a document, within limits: no input, a private home, a time limit, bounded output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_MAX_OUTPUT_BYTES = 64 * 2**20
_MAX_ERROR_CHARS = 200


class CommandError(ValueError):
    """A program failed, took too long, or wrote too much."""


def run_bounded(command: Sequence[str], *, folder: Path, timeout_s: float, content: bytes | None = None) -> bytes:
    """Run a program and return what it prints.

    Args:
        command: Program and arguments.
        folder: Private directory: its home, its working directory, and where it may write.
        timeout_s: Time limit. The program and its children are killed after it.
        content: Standard input.

    Raises:
        CommandError: It failed, took too long, or printed too much.
        FileNotFoundError: It is not installed.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "OMP_THREAD_LIMIT": "1",
    }
    name = Path(command[0]).name
    # Files instead of pipes: a program that prints without end fills no memory.
    with (
        tempfile.TemporaryFile(dir=folder) as given,
        tempfile.TemporaryFile(dir=folder) as printed,
        tempfile.TemporaryFile(dir=folder) as errors,
    ):
        given.write(content or b"")
        given.seek(0)
        process = subprocess.Popen(
            command, stdin=given, stdout=printed, stderr=errors, cwd=folder, env=environment, start_new_session=True
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise CommandError(f"{name} took longer than {timeout_s:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it may have started others
            process.wait()
        errors.seek(0)
        said = " ".join(errors.read(10 * _MAX_ERROR_CHARS).decode("utf-8", "replace").split())[:_MAX_ERROR_CHARS]
        if process.returncode:
            raise CommandError(f"{name} failed: {said or f'exit code {process.returncode}'}")
        if printed.seek(0, os.SEEK_END) > _MAX_OUTPUT_BYTES:
            raise CommandError(f"{name} printed more than {_MAX_OUTPUT_BYTES} bytes")
        printed.seek(0)
        return printed.read()

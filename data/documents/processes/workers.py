"""Read documents ahead in worker processes: in parallel, and a file that kills its parser costs itself only.

A worker is ``python -m data.documents.processes.worker``. It gets one file per line and answers with one line of JSON.
It is no child made by ``fork``: this process has threads and may hold gigabytes.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from data.documents.processes.reading import READY, Reading, decoded, unreadable
from data.documents.readers.formats import Format

MAX_WORKERS = 8
"""Maximum number of worker processes; there are no more than processors."""
MAX_SECONDS = 60.0
"""Time after which the worker of a file is killed."""
MAX_OCR_SECONDS = 7200.0
"""The same for a file whose pages are recognised; each of its pages has a limit, too."""

_MIN_FILES = 20  # a worker takes as long to start as twenty files to read, except PDFs
_AHEAD = 4  # files per worker that are read before they are asked for


class DocumentWorkers:
    """Reads files ahead, and keeps a few results.

    Args:
        files: Path and format of each file, in the order in which they will be asked for.
        ocr: Recognise the text of PDF pages that have none. This takes minutes, so there is another limit of time.
    """

    def __init__(self, files: Sequence[tuple[Path, Format]], *, ocr: bool = False) -> None:
        """Start no process yet."""
        self.ocr = ocr
        # A PDF is read by C++ code, which a damaged file can crash.
        is_worth_it = len(files) >= _MIN_FILES or any(found is Format.PDF for _, found in files)
        self._num_workers = min(MAX_WORKERS, _num_processors(), len(files)) if is_worth_it else 0
        self._formats = dict(files)
        self._waiting = iter(files)
        self._started: dict[Path, Future[Reading | None]] = {}
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Start reading ahead."""
        if self._num_workers:
            self._threads = ThreadPoolExecutor(self._num_workers, thread_name_prefix="document-reader")
            self._workers = [_Worker(ocr=self.ocr) for _ in range(self._num_workers)]
            for worker in self._workers:
                self._idle.put(worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all workers, also while they read."""
        for future in self._started.values():
            future.cancel()
        for worker in self._workers:
            worker.stop()
        if self._threads is not None:
            self._threads.shutdown()
        for worker in self._workers:
            worker.end()

    def reading(self, path: Path) -> Reading | None:
        """The reading of a file; None if this file is not read by workers, or no worker can be started."""
        self._start(path)
        if path not in self._started:
            return None
        while len(self._started) <= _AHEAD * self._num_workers and (ahead := next(self._waiting, None)) is not None:
            self._start(ahead[0])
        return self._started.pop(path).result()

    def _start(self, path: Path) -> None:
        found = self._formats.pop(path, None)
        if found is not None and self._threads is not None:
            self._started[path] = self._threads.submit(self._read, path, found)

    def _read(self, path: Path, found: Format) -> Reading | None:
        worker = self._idle.get()
        try:
            # A worker may be killed from outside, such as for memory: only a second death is the file's fault.
            for _ in range(2):
                try:
                    return worker.read(path, found)
                except EOFError:
                    continue
            return unreadable(found, "the process that reads it ended twice")
        except TimeoutError:
            return unreadable(found, f"reading it takes more than {worker.limit_s:.0f} s")
        except ChildProcessError:
            return None
        finally:
            self._idle.put(worker)


class _Worker:
    """One worker process, which is started when it is needed."""

    def __init__(self, *, ocr: bool) -> None:
        self.limit_s = MAX_OCR_SECONDS if ocr else MAX_SECONDS
        self._ocr = ocr
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def read(self, path: Path, found: Format) -> Reading:
        """Let the process read a file.

        Raises:
            EOFError: The process ended.
            TimeoutError: It took too long and was killed.
            ChildProcessError: It cannot be started.
        """
        if self._is_stopped:
            raise TimeoutError
        process = self._process = self._process or _start_process()
        assert process.stdin is not None and process.stdout is not None
        is_late = threading.Event()

        def kill() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(self.limit_s, kill)
        timer.start()
        try:
            process.stdin.write(json.dumps([str(path), str(found), self._ocr]).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return decoded(json.loads(line))
        self.end()
        if is_late.is_set() or self._is_stopped:
            raise TimeoutError
        raise EOFError

    def stop(self) -> None:
        """Kill the process from another thread; a read that runs ends at once."""
        self._is_stopped = True
        if (process := self._process) is not None:
            process.kill()

    def end(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _start_process() -> subprocess.Popen[bytes]:
    """Start a worker, and wait until it is ready.

    Raises:
        ChildProcessError: It did not start.
    """
    # BLAS reserves address space for each thread.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(each or str(Path.cwd()) for each in sys.path),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "data.documents.processes.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
    except OSError as error:
        raise ChildProcessError(str(error)) from error
    if process.stdout is None or process.stdout.readline() != READY:
        process.kill()
        process.communicate()
        raise ChildProcessError("a worker did not start")
    return process


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

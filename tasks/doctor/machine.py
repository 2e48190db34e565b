"""Checks of this machine: interpreter, packages, GPU, disk, clock."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from data.outputs.maintenance import size_below
from data.store.base import Store
from data.vectors.lance import generation_key
from data.vectors.pointer import read_pointer
from tasks.doctor.diagnosis import Diagnosis, fail, ok, warn
from tasks.queries.server_api import ask_server, server_url
from tasks.run.settings import Settings

DISTRIBUTION = "llm2vec-pipelines"
_ROOT = Path(__file__).parents[2]
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)(?: *; *([^\\]+))?")

MAX_CLOCK_ERROR_S = 30.0
"""Larger errors make the lease unsafe: its time to live is 120 s."""

_NOTICED_CLOCK_ERROR_S = 5.0  # HTTP dates have whole seconds, and a request takes time
_TIGHT_DISK_BYTES = 256 * 1024**2
_NIGHT_BYTES = 1024**3
_MIN_INODES = 10_000


def examine_python() -> Diagnosis:
    """Check the interpreter."""
    required, found = (3, 11), sys.version_info[:2]
    sentence = f"Python {platform.python_version()} at {sys.executable}."
    if found < required:
        return fail("python", sentence, "Make the environment with Python 3.11 or newer: `make env PYTHON=python3.11`.")
    return ok("python", sentence)


def examine_packages(lock: Path = _ROOT / "requirements.lock") -> Diagnosis:
    """Compare the installed packages with what the project requires, and with the lock."""
    wrong = [each for each in _requirements("pipeline") if not _is_met(each)]
    if wrong:
        shown = ", ".join(f"{each} (found {_installed(each.name) or 'none'})" for each in wrong[:5])
        return fail("packages", f"{len(wrong)} requirement(s) are not met: {shown}.", "Run `make env`.")
    if not lock.is_file():
        return ok("packages", "All requirements are met; there is no requirements.lock to compare with.")
    locked = list(_locked(lock))
    other = [
        f"{name} {found} instead of {version}"
        for name, version in locked
        if (found := _installed(name)) is not None and found != version
    ]
    if other:
        shown = ", ".join(other[:5]) + (" …" if len(other) > 5 else "")
        return warn(
            "packages",
            f"{len(other)} package(s) have other versions than requirements.lock: {shown}.",
            "Run `make env`; the tests ran with the versions of the lock.",
        )
    return ok("packages", f"All requirements are met, in the versions of {lock.name}.")


def _requirements(extra: str) -> Iterator[Requirement]:
    """What an extra of this project requires on this machine, extras of extras included."""
    for line in importlib.metadata.requires(DISTRIBUTION) or ():
        required = Requirement(line)
        if required.marker is not None and not required.marker.evaluate({"extra": extra}):
            continue
        if canonicalize_name(required.name) == DISTRIBUTION:
            for each in required.extras:
                yield from _requirements(each)
        elif required.marker is None or extra in str(required.marker):
            yield required


def _is_met(required: Requirement) -> bool:
    found = _installed(required.name)
    return found is not None and required.specifier.contains(found, prereleases=True)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _locked(lock: Path) -> Iterator[tuple[str, str]]:
    """Name and version of each package in the lock that this machine needs."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if match := _LOCKED.match(line):
            name, version, marker = match.groups()
            needed = marker is None or Requirement(f"{name} ; {marker}").marker.evaluate()  # type: ignore[union-attr]
            if needed:
                yield name, version


def examine_gpu() -> Diagnosis:
    """Check that torch can use the GPU, if the machine has one."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        shown = ", ".join(f"{each.name} ({each.total_memory / 1024**3:.0f} GiB)" for each in names)
        return ok("gpu", f"{shown}; torch {torch.__version__}.")
    if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        return fail(
            "gpu",
            f"The machine has an NVIDIA GPU, but torch {torch.__version__} cannot use it.",
            "Check `nvidia-smi`, and that the driver is new enough for torch's CUDA "
            f"({torch.version.cuda or 'this torch has none'}).",
        )
    return ok("gpu", f"None: torch {torch.__version__} works on {os.cpu_count()} CPU core(s).")


def examine_disk(settings: Settings, store: Store) -> Diagnosis:
    """Check the free space of the home, of ``work_dir``, of local exports and of the temporary directory."""
    pointer = read_pointer(store)
    prefixes = [] if pointer is None else [generation_key(pointer.generation), f"checkpoints/{pointer.checkpoint}"]
    needed = _NIGHT_BYTES + sum(size_below(store, prefix) for prefix in prefixes)
    places = {store.machine.root, Path(tempfile.gettempdir())}
    if settings.export.to is not None and "://" not in settings.export.to:
        places.add(Path(settings.export.to).expanduser())
    usable, place, free, inodes = min(_free_space(place) for place in places)
    found = (
        f"{place} has {free / 1024**3:,.1f} GiB and {inodes:,} inodes free; "
        f"a night may need {needed / 1024**3:,.1f} GiB."
    )
    remedy = "Run `l2v maintain`, lower retention.keep_served or retention.grace_hours, or enlarge the disk."
    if usable < _TIGHT_DISK_BYTES:
        return fail("disk", found, remedy)
    return warn("disk", found, remedy) if usable < needed else ok("disk", found)


def _free_space(place: Path) -> tuple[int, Path, int, int]:
    """Bytes that can be used (none without inodes), the place, its free bytes and inodes."""
    there = next(each for each in (place, *place.parents) if each.exists())
    free, status = shutil.disk_usage(there).free, os.statvfs(there)
    # File systems that allocate inodes as needed report none.
    is_out_of_inodes = status.f_files > 0 and status.f_favail < _MIN_INODES
    return (0 if is_out_of_inodes else free), place, free, status.f_favail


def examine_permissions(store: Store) -> Diagnosis:
    """Check that other users of this machine cannot read the home, which holds personal data."""
    root = store.machine.root
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & 0o077:
        return warn("permissions", f"{root} has mode {mode:04o}: other users may read it.", f"Run `chmod 700 {root}`.")
    return ok("permissions", f"Only its owner can read {root}.")


def examine_clock(store: Store, *, now: Callable[[], float] = time.time) -> Diagnosis:
    """Compare this machine's clock with the server's, with the store's, and with the newest record of the store.

    Args:
        store: Writes one small file and removes it.
        now: This machine's clock, in seconds since 1970.
    """
    errors = {"the store": _store_clock_error(store, now)}
    if server_url() is not None and (error := _server_clock_error(now)) is not None:
        errors["the Prefect server"] = error
    pointer = read_pointer(store)
    if pointer is not None:  # a record from the future: the clock was set back, or another machine's is ahead
        errors["the newest promotion"] = min(0.0, now() - pointer.promoted_at.timestamp())
    reference, error = max(errors.items(), key=lambda item: abs(item[1]))
    zone = datetime.now(UTC).astimezone().tzname()
    if abs(error) <= _NOTICED_CLOCK_ERROR_S:
        return ok("clock", f"It agrees with {' and '.join(errors)}; local time zone {zone}.")
    found = f"It is {abs(error):,.0f} s {'ahead of' if error > 0 else 'behind'} {reference}."
    remedy = "Synchronise the clocks of all machines (`timedatectl set-ntp true`, or chrony)."
    return (fail if abs(error) > MAX_CLOCK_ERROR_S else warn)("clock", found, remedy)


def _store_clock_error(store: Store, now: Callable[[], float]) -> float:
    """Seconds that this clock is ahead of the one that dates the files of the store."""
    key = f"tmp/clock-{os.getpid()}-{time.monotonic_ns()}"
    try:
        before = now()
        store.put_if_absent(key, b"{}")
        after = now()
        (entry,) = store.entries(key)
    finally:
        store.delete(key)
    return _outside(entry.written_at, before, after)


def _server_clock_error(now: Callable[[], float]) -> float | None:
    try:
        before = now()
        answer = ask_server("/admin/version")
        return None if answer.sent_at is None else _outside(answer.sent_at, before, now())
    except (OSError, ValueError):  # another check reports it
        return None


def _outside(time_s: float, before: float, after: float) -> float:
    """Seconds that a time lies before (positive) or after (negative) an interval."""
    return before - time_s if time_s < before else min(0.0, after - time_s)

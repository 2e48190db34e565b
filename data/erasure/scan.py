"""The scanner searches everything below a directory or in a store for erased data.

It reads every file or object as raw bytes. Compressed formats are also decoded: Parquet and Arrow; gzip,
bzip2, xz, zstd, zip and tar (also nested); and every version of every Lance table. Memory is bounded by a few chunks.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data.store.base import Store
from data.vectors.lance import read_all_versions, unreferenced_files

_CHUNK_BYTES = 8 * 2**20
_MAX_DEPTH = 4
_BATCH_ROWS = 4096
_LANCE_SUFFIX = ".lance"


class Finding(NamedTuple):
    """A place that holds a needle, or that could not be read.

    Attributes:
        path: File below the scanned directory, with ``!`` and the member for an archive.
        what: Kind of the needle, or the reason why the file could not be read.
    """

    path: str
    what: str


@dataclass
class ScanReport:
    """The result of a scan.

    Attributes:
        findings: Places that hold a needle, or could not be read.
        num_files: Number of files read.
        size_bytes: Size of these files.
    """

    findings: list[Finding] = field(default_factory=list)
    num_files: int = 0
    size_bytes: int = 0


class Needles:
    """Byte strings to search for, each with its kind."""

    def __init__(self, values: Mapping[bytes, str]) -> None:
        """Keep only strings of at least eight bytes: shorter ones occur by chance."""
        self._values = {value: kind for value, kind in values.items() if len(value) >= 8}
        self.overlap = max((len(value) for value in self._values), default=1) - 1

    def found_in(self, content: bytes) -> set[str]:
        """Kinds of the needles in ``content``."""
        return {kind for value, kind in self._values.items() if value in content}


def scan_tree(root: Path, needles: Needles, *, skip: Collection[str] = ()) -> ScanReport:
    """Search everything below a directory for needles.

    Args:
        root: Directory to scan.
        needles: Byte strings to search for.
        skip: Files and folders below ``root`` to skip.
    """
    report = ScanReport()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root).as_posix()
        if any(relative == each or relative.startswith(f"{each}/") for each in skip):
            continue
        if path.is_dir():
            if path.name.endswith(_LANCE_SUFFIX) and (path / "_versions").is_dir():
                manifests = (each.read_bytes() for each in sorted((path / "_versions").glob("*.manifest")))
                names = [each.name for each in sorted((path / "data").glob("*.lance"))]
                versions = read_all_versions(str(path.parent), path.stem)
                _note(report, relative, _scan_lance(versions, manifests, names, needles))
        elif path.is_file() and not path.is_symlink():
            report.num_files += 1
            report.size_bytes += path.stat().st_size
            with path.open("rb") as handle:
                for member, kinds in scan_stream(handle, needles):
                    _note(report, relative + member, kinds)
    return report


def scan_store(store: Store, needles: Needles, *, tree: str = "", skip: Collection[str] = ()) -> ScanReport:
    """Search a store for needles; the paths of the findings are keys.

    Objects of a bucket are copied one after another into an unnamed temporary file. Their former versions are not read.

    Args:
        store: Store to scan. Only a local store includes this machine's own files.
        needles: Byte strings to search for.
        tree: Prefix of the keys to scan. Default: all.
        skip: Keys and prefixes of keys to skip.
    """
    if store.machine is store:
        root = store.machine.root / tree
        skipped = [key.removeprefix(f"{tree}/") for key in skip]
        report = scan_tree(root, needles, skip=skipped)
        report.findings = [Finding(f"{tree}/{each.path}".lstrip("/"), each.what) for each in report.findings]
        return report
    report, tables = ScanReport(), dict[str, list[str]]()
    for entry in store.entries(tree):
        if any(entry.key == each or entry.key.startswith(f"{each}/") for each in skip):
            continue
        table, mark, inside = entry.key.partition(f"{_LANCE_SUFFIX}/")
        if mark:
            tables.setdefault(table, []).append(inside)
        report.num_files += 1
        report.size_bytes += entry.size_bytes
        with store.open(entry.key) as opened:
            for member, kinds in _spooled(opened, needles, 0, entry.key):
                _note(report, member, kinds)
    for table, files in tables.items():
        folder, name = table.rsplit("/", 1)
        keys = (f"{table}{_LANCE_SUFFIX}/{file}" for file in files if file.startswith("_versions/"))
        names = [file.removeprefix("data/") for file in files if file.startswith("data/")]
        manifests = (store.read(key) or b"" for key in keys if key.endswith(".manifest"))
        versions = read_all_versions(store.location(folder), name, storage_options=store.storage_options)
        _note(report, f"{table}{_LANCE_SUFFIX}", _scan_lance(versions, manifests, names, needles))
    return report


def scan_stream(handle: IO[bytes], needles: Needles, *, depth: int = 0) -> Iterator[tuple[str, set[str]]]:
    """Search one open file, and the files packed in it.

    Yields:
        Place inside the file (empty for the file itself), and kinds of needles found there.
    """
    yield "", _scan_raw(handle, needles)
    if depth > _MAX_DEPTH:
        yield "", {"packed too deeply to be read"}
        return
    handle.seek(0)
    head = handle.read(512)
    for magic, offset, reader in _READERS:
        if head[offset : offset + len(magic)] == magic:
            handle.seek(0)
            try:
                yield from reader(handle, needles, depth)
            except _UNREADABLE as error:
                # It was also read as raw bytes, but a damaged archive may hide anything.
                yield "", {f"cannot be decoded ({type(error).__name__})"}


_UNREADABLE = (OSError, EOFError, ValueError, pa.ArrowException, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError,
               RuntimeError, NotImplementedError)  # fmt: skip


def _note(report: ScanReport, path: str, kinds: Iterable[str]) -> None:
    report.findings += [Finding(path, kind) for kind in sorted(kinds)]


def _scan_raw(handle: IO[bytes], needles: Needles) -> set[str]:
    found: set[str] = set()
    handle.seek(0)
    rest = b""
    while chunk := handle.read(_CHUNK_BYTES):
        window = rest + chunk
        found |= needles.found_in(window)
        rest = window[-needles.overlap :] if needles.overlap else b""
    return found


def _scan_batches(batches: Iterable[pa.RecordBatch], needles: Needles) -> set[str]:
    """Search the buffers of decoded columns, which hold the bytes of strings and vectors."""
    found: set[str] = set()
    for batch in batches:
        for column in batch.columns:
            plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            for buffer in plain.buffers():
                if buffer is not None and buffer.size >= 8:
                    found |= needles.found_in(buffer.to_pybytes())
    return found


def _scan_lance(
    versions: Iterable[Iterable[pa.RecordBatch]], manifests: Iterable[bytes], files: Iterable[str], needles: Needles
) -> set[str]:
    found: set[str] = set()
    try:
        for batches in versions:
            found |= _scan_batches(batches, needles)
    except _UNREADABLE as error:
        found.add(f"cannot be decoded ({type(error).__name__})")
    return found | {f"data file {name} that no version names" for name in unreferenced_files(manifests, files)}


def _scan_parquet(handle: IO[bytes], needles: Needles, depth: int) -> Iterator[tuple[str, set[str]]]:
    with pq.ParquetFile(handle) as parquet:
        yield "", _scan_batches(parquet.iter_batches(batch_size=_BATCH_ROWS), needles)


def _scan_arrow(handle: IO[bytes], needles: Needles, depth: int) -> Iterator[tuple[str, set[str]]]:
    with pa.ipc.open_file(handle) as reader:
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        yield "", _scan_batches(batches, needles)


def _scan_unpacked(open_: Callable[[IO[bytes]], Any]) -> Callable[[IO[bytes], Needles, int], Any]:
    def scan(handle: IO[bytes], needles: Needles, depth: int) -> Iterator[tuple[str, set[str]]]:
        with open_(handle) as unpacked:
            yield from _spooled(unpacked, needles, depth + 1, "!")

    return scan


def _scan_zip(handle: IO[bytes], needles: Needles, depth: int) -> Iterator[tuple[str, set[str]]]:
    with zipfile.ZipFile(handle) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                with archive.open(member) as unpacked:
                    yield from _spooled(unpacked, needles, depth + 1, f"!{member.filename}")


def _scan_tar(handle: IO[bytes], needles: Needles, depth: int) -> Iterator[tuple[str, set[str]]]:
    with tarfile.open(fileobj=handle) as archive:
        for member in archive:
            unpacked = archive.extractfile(member) if member.isfile() else None
            if unpacked is not None:
                yield from _spooled(unpacked, needles, depth + 1, f"!{member.name}")


def _spooled(stream: Any, needles: Needles, depth: int, name: str) -> Iterator[tuple[str, set[str]]]:  # noqa: ANN401
    """Copy a stream into an unnamed temporary file and search it; archives are read from the end."""
    with tempfile.TemporaryFile() as plain:
        while chunk := stream.read(_CHUNK_BYTES):
            plain.write(chunk)
        for member, kinds in scan_stream(plain, needles, depth=depth):
            yield name + member, kinds


def _open_zstd(handle: IO[bytes]) -> pa.CompressedInputStream:
    return pa.CompressedInputStream(pa.PythonFile(handle, mode="r"), "zstd")


_READERS: tuple[tuple[bytes, int, Callable[[IO[bytes], Needles, int], Iterator[tuple[str, set[str]]]]], ...] = (
    (b"PAR1", 0, _scan_parquet),
    (b"ARROW1", 0, _scan_arrow),
    (b"\x1f\x8b", 0, _scan_unpacked(lambda handle: gzip.GzipFile(fileobj=handle))),
    (b"BZh", 0, _scan_unpacked(bz2.BZ2File)),
    (b"\xfd7zXZ\x00", 0, _scan_unpacked(lzma.LZMAFile)),
    (b"\x28\xb5\x2f\xfd", 0, _scan_unpacked(_open_zstd)),
    (b"PK\x03\x04", 0, _scan_zip),
    (b"ustar", 257, _scan_tar),
)

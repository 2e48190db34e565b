"""Unpack gzip and Zstandard files into a temporary file, within limits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from data.documents.readers.checks import readable
from data.errors import InputError

MAX_UNPACKED_BYTES = 16 * 2**30
"""Maximum size after unpacking, in bytes."""
_MAX_RATIO = 500
_FREE_BYTES = 64 * 2**20  # any ratio is allowed up to this size
_BLOCK = 2**22
_SIGNATURES = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Path of the unpacked content, or the given path if the file is not packed.

    Raises:
        InputError: The file is damaged, or its unpacked size is implausible for its packed size.
    """
    if not path.is_file():
        yield path
        return
    with readable(path), path.open("rb") as handle:
        head = handle.read(4)
    codec = next((name for signature, name in _SIGNATURES.items() if head.startswith(signature)), None)
    if codec is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="l2v-") as folder:
        target = Path(folder) / (path.stem or "unpacked")
        size_bytes, limit = 0, max(_FREE_BYTES, _MAX_RATIO * path.stat().st_size)
        try:
            with pa.CompressedInputStream(str(path), codec) as stream, target.open("wb") as out:
                while block := stream.read(_BLOCK):
                    size_bytes += len(block)
                    if size_bytes > min(limit, MAX_UNPACKED_BYTES):
                        raise InputError(
                            f"'{path}' unpacks to more than {min(limit, MAX_UNPACKED_BYTES)} bytes.",
                            hint="This looks like a decompression bomb. If you trust the file, unpack it yourself.",
                        )
                    out.write(block)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"'{path}' cannot be unpacked: {str(error).splitlines()[0]}.",
                hint="The file is damaged or cut off; copy or pack it again.",
            ) from error
        yield target

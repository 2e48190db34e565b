"""Opening a store by its path or URI."""

from __future__ import annotations

import functools
from pathlib import Path
from urllib.parse import unquote, urlsplit

from data.errors import InputError
from data.store.base import LocalStore, Store


def open_store(home: str, *, work_dir: str, is_private: bool = True) -> Store:
    """Open the store at a path or a URI.

    Args:
        home: A directory, ``file:///directory``, or ``s3://bucket/prefix``.
        work_dir: Directory for this machine's own files when ``home`` is a bucket.
        is_private: Whether other users of this machine are kept out of a directory.

    Raises:
        InputError: The URI has an unsupported scheme.
        StoreError: The store cannot be reached, or its directory cannot be created.
    """
    scheme, place, path, *_ = urlsplit(home)
    if "://" not in home:
        return LocalStore(Path(home), is_private=is_private)
    if scheme == "file" and place in ("", "localhost") and path.strip("/"):
        return LocalStore(Path(unquote(path)), is_private=is_private)
    if scheme == "s3" and place:
        return _bucket_store(place, path.strip("/"), Path(work_dir).expanduser().resolve())
    raise InputError(
        f"'{home}' is not a valid store location.",
        hint="Expected a directory, file:///directory, or s3://bucket/prefix.",
    )


@functools.lru_cache(maxsize=8)
def _bucket_store(bucket: str, prefix: str, work_dir: Path) -> Store:
    """Open a bucket once per process: connecting is slow compared with a request."""
    from data.store.bucket import ObjectStore  # importing boto3 takes half a second; local homes do not need it

    return ObjectStore(bucket, prefix, machine=LocalStore(work_dir / bucket / prefix))

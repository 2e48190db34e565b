"""The store in a bucket of an object store with S3's protocol.

Every write is one conditional request: ``If-None-Match: *`` for a new key, ``If-Match`` for a record that must not
have changed since it was read. The server decides which writer wins; no client clock or lock is involved. A service
that ignores these headers is rejected before the first record is written.

Does not belong here: tables, which LanceDB reads and writes itself (``data.vectors.lance``).
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.fs as pafs
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from data.errors import ConflictError, StoreError
from data.store.base import LocalStore, StoredFile, key_parts, storage_errors

PART_BYTES = 64 * 1024**2
"""Larger files are sent in parts: one request is limited to five gigabytes, and a failed one is repeated as a whole."""

_COPIES = "copies"
_PROBE_KEY = "conditional-writes.json"
_KEYS_PER_DELETE = 1000
_MAX_ATTEMPTS = 5
_WRITER = "l2v-writer"  # metadata that distinguishes a lost response from a lost race
_ABSENT = {"IfNoneMatch": "*"}
_NO_TAG = f'"{"0" * 32}"'  # the entity tag of no object


class ObjectStore:
    """A store below a prefix of a bucket.

    Endpoint, keys and region come from the environment, as in every boto3 program (``AWS_ENDPOINT_URL``,
    ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, profiles, roles).

    Args:
        bucket: Name of an existing bucket.
        prefix: Comes before every key; may be empty.
        machine: Store for this machine's own files, including copies of objects.

    Raises:
        StoreError: The settings in the environment cannot be used.
    """

    def __init__(self, bucket: str, prefix: str, *, machine: LocalStore) -> None:
        """Read the environment; the first operation sends the first request."""
        self.machine = machine
        self._bucket, self._prefix = bucket, prefix
        with _remote_errors(f"reach s3://{bucket}"):
            region = boto3.session.Session().region_name or "us-east-1"
            settings = Config(retries={"mode": "standard", "max_attempts": _MAX_ATTEMPTS})
            self._client = boto3.client("s3", region_name=region, config=settings)
        endpoint = str(self._client.meta.endpoint_url)
        self._files = pafs.S3FileSystem(endpoint_override=endpoint, region=region)
        self.storage_options: dict[str, str] | None = {
            "endpoint": endpoint,
            "region": region,
            **({"allow_http": "true"} if endpoint.startswith("http://") else {}),
        }
        self._is_probed = False

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        """See :meth:`data.store.base.Store.put_if_absent`."""
        if isinstance(content, bytes):
            return self._put(key, content, _ABSENT)
        with storage_errors(f"read {content}"):
            is_large = content.stat().st_size > PART_BYTES
            stored = self._put_in_parts(key, content) if is_large else self._put(key, content.read_bytes(), _ABSENT)
            if stored:
                content.unlink()
        return stored

    def compare_and_swap(self, key: str, *, expected: bytes | None, content: bytes) -> None:
        """See :meth:`data.store.base.Store.compare_and_swap`."""
        self._require_conditional_writes()
        found, tag = self._get(key)
        condition = _ABSENT if tag is None else {"IfMatch": tag}
        if found != expected or not self._put(key, content, condition):
            raise ConflictError(
                f"{key} was changed by another writer since it was read.",
                hint="Run the command again: it starts from the new state.",
            )

    def read(self, key: str) -> bytes | None:
        """See :meth:`data.store.base.Store.read`."""
        return self._get(key)[0]

    def open(self, key: str) -> pa.NativeFile:
        """See :meth:`data.store.base.Store.open`."""
        return self._files.open_input_file(f"{self._bucket}/{self._path(key)}")

    def list(self, prefix: str) -> Iterator[str]:
        """See :meth:`data.store.base.Store.list`."""
        for entry in self.entries(prefix):
            if entry.key != prefix and not entry.key.rsplit("/", 1)[-1].startswith("."):
                yield entry.key

    def entries(self, prefix: str) -> Iterator[StoredFile]:
        """See :meth:`data.store.base.Store.entries`."""
        path, start = self._path(prefix) if prefix else self._prefix, len(self._path("x")) - 1
        with _remote_errors(f"list {prefix or 'the store'}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=path):
                for found in page.get("Contents", ()):
                    name = str(found["Key"])
                    if not path or name == path or name.startswith(f"{path}/"):
                        yield StoredFile(name[start:], int(found["Size"]), found["LastModified"].timestamp())

    def exists(self, prefix: str) -> bool:
        """See :meth:`data.store.base.Store.exists`."""
        return next(self.entries(prefix), None) is not None

    def delete(self, prefix: str) -> None:
        """See :meth:`data.store.base.Store.delete`; keys are removed one after another, records first."""
        self._path(prefix)  # rejects an empty prefix, which would match everything
        # The commit record of an artifact lies above its parts: without it, readers ignore the parts.
        keys = sorted((entry.key for entry in self.entries(prefix)), key=lambda key: (key.count("/"), key))
        for start in range(0, len(keys), _KEYS_PER_DELETE):
            self._delete_objects([{"Key": self._path(key)} for key in keys[start : start + _KEYS_PER_DELETE]], prefix)

    def _delete_objects(self, doomed: Sequence[dict[str, str]], what: str) -> None:
        if not doomed:
            return
        with _remote_errors(f"delete {what}"):
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": doomed, "Quiet": True})
        if answer.get("Errors"):
            first = answer["Errors"][0]
            raise _store_error(f"delete {first.get('Key', what)}", str(first.get("Message", "it was refused")))

    def keeps_versions(self) -> bool:
        """See :meth:`data.store.base.Store.keeps_versions`; suspended versioning keeps the versions from before."""
        with _remote_errors(f"check bucket {self._bucket} for former versions"):
            try:
                return bool(self._client.get_bucket_versioning(Bucket=self._bucket).get("Status"))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 501:  # a service without versioning
                    return False
                raise

    def delete_unseen(self) -> int:
        """Remove former versions, delete markers and unfinished uploads; see :class:`data.store.base.Store`."""
        place = {"Bucket": self._bucket, "Prefix": f"{self._prefix}/" if self._prefix else ""}
        count = 0
        with _remote_errors("delete former versions"):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(**place):
                for upload in page.get("Uploads", ()):
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    count += 1
        if not self.keeps_versions():
            return count
        with _remote_errors("list former versions"):
            for page in self._client.get_paginator("list_object_versions").paginate(**place):
                former = (each for each in page.get("Versions", ()) if not each["IsLatest"])
                doomed = [
                    {"Key": str(each["Key"]), "VersionId": str(each["VersionId"])}
                    for each in (*former, *page.get("DeleteMarkers", ()))
                ]
                self._delete_objects(doomed, "former versions")
                count += len(doomed)
        return count

    def local_path(self, key: str) -> Path:
        """Copy the content to this machine unless it is there already: stored content never changes."""
        target = self.machine.local_path(f"{_COPIES}/{key}")
        for entry in self.entries(key):
            copy = self.machine.local_path(f"{_COPIES}/{entry.key}")
            with storage_errors(f"copy {entry.key}"):
                if copy.is_file() and copy.stat().st_size == entry.size_bytes:
                    continue
                copy.parent.mkdir(parents=True, exist_ok=True)
                with self.scratch() as scratch:
                    with self.open(entry.key) as source, (scratch / "copy").open("wb") as sink:
                        shutil.copyfileobj(source, sink, PART_BYTES)
                    (scratch / "copy").replace(copy)
        return target

    def location(self, key: str) -> str:
        """See :meth:`data.store.base.Store.location`."""
        return f"s3://{self._bucket}/{self._path(key)}"

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """See :meth:`data.store.base.Store.scratch`."""
        return self.machine.scratch()

    def _require_conditional_writes(self) -> None:
        """Check once that the service rejects a write whose condition is false.

        Raises:
            StoreError: It accepted the write, so two writers could silently overwrite each other.
        """
        if self._is_probed:
            return
        stored_twice = self.put_if_absent(_PROBE_KEY, b"{}") and self.put_if_absent(_PROBE_KEY, b"{}")
        for header, is_ignored in (
            ("If-None-Match", stored_twice),
            ("If-Match", not stored_twice and self._put(_PROBE_KEY, b"{}", {"IfMatch": _NO_TAG})),
        ):
            if is_ignored:
                raise StoreError(
                    f"The service of bucket {self._bucket} ignores write conditions ({header}).",
                    hint="Use a service that supports them. On this one, concurrent runs overwrite each other's "
                    "records.",
                )
        self._is_probed = True

    def _path(self, key: str) -> str:
        return "/".join([*filter(None, [self._prefix]), *key_parts(key)])

    def _get(self, key: str) -> tuple[bytes | None, str | None]:
        """Content and entity tag of a key; both are None if the key does not exist."""
        with _remote_errors(f"read {key}"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._path(key))
            except self._client.exceptions.NoSuchKey:
                return None, None
            return answer["Body"].read(), str(answer["ETag"])

    def _put(self, key: str, content: bytes, condition: dict[str, str]) -> bool:
        writer = secrets.token_hex(8)

        def put() -> None:
            self._client.put_object(
                Bucket=self._bucket, Key=self._path(key), Body=content, Metadata={_WRITER: writer}, **condition
            )

        return self._is_stored(key, writer, put)

    def _put_in_parts(self, key: str, path: Path) -> bool:
        writer, place = secrets.token_hex(8), {"Bucket": self._bucket, "Key": self._path(key)}
        with _remote_errors(f"write {key}"):
            upload = self._client.create_multipart_upload(**place, Metadata={_WRITER: writer})["UploadId"]
        parts: list[dict[str, Any]] = []

        def complete() -> None:
            self._client.complete_multipart_upload(
                **place, UploadId=upload, MultipartUpload={"Parts": parts}, **_ABSENT
            )

        stored = False
        try:
            with path.open("rb") as source, _remote_errors(f"write {key}"):
                for number, body in enumerate(iter(lambda: source.read(PART_BYTES), b""), start=1):
                    part = self._client.upload_part(**place, UploadId=upload, PartNumber=number, Body=body)
                    parts.append({"PartNumber": number, "ETag": part["ETag"]})
            stored = self._is_stored(key, writer, complete)
        finally:
            if not stored:
                with contextlib.suppress(ClientError, BotoCoreError):
                    self._client.abort_multipart_upload(**place, UploadId=upload)
        return stored

    def _is_stored(self, key: str, writer: str, request: Callable[[], None]) -> bool:
        """Send a conditional request; returns False if another writer was first."""
        with _remote_errors(f"write {key}"):
            for attempt in range(_MAX_ATTEMPTS):
                try:
                    request()
                    return True
                except ClientError as error:
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    if status == 409 and attempt + 1 < _MAX_ATTEMPTS:  # another writer is writing at the moment
                        time.sleep(0.1 * 2**attempt)
                    elif status == 412 or error.response["Error"]["Code"] == "NoSuchKey":
                        # The client retries a request without a response: the first writer may have been this one.
                        return self._writer_of(key) == writer
                    else:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def _writer_of(self, key: str) -> str | None:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=self._path(key))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        found = answer["Metadata"].get(_WRITER)
        return None if found is None else str(found)


@contextlib.contextmanager
def _remote_errors(action: str) -> Iterator[None]:
    """Convert errors of the service or the network into a store error with a hint."""
    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        raise _store_error(action, f"{answer.get('Code', 'error')}: {answer.get('Message', '')}".strip(": ")) from error
    except BotoCoreError as error:
        raise _store_error(action, str(error)) from error


def _store_error(action: str, reason: str) -> StoreError:
    return StoreError(
        f"Could not {action}: {reason.rstrip('.')}.",
        hint="Stored data is unchanged. Check the bucket, AWS_ENDPOINT_URL, AWS_REGION and the keys, then run again.",
    )

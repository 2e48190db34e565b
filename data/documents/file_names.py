"""Resumes that are files or folders of their own: keyed hashes as ids, and names without the person's name.

The name of such a file often names a person, and it would be the document's id in every table, export and message. So
the id is a keyed hash of it. The key is a secret of the store: nobody can compute the id of a guessed name without it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import PurePath

from data.config import SourceConfig
from data.documents.readers.formats import TABLES, promised_format
from data.documents.rows import RawRow, RejectedRow
from data.redaction.redact import FILE_NAME_FIELD, Redactor


def file_id(secret: bytes, file: str) -> str:
    """Id of a document that has no id but the name of its file, relative to its source's path."""
    digest = hmac.new(secret, file.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
    return f"file-{digest[:32]}"


class FileNames:
    """Replaces names of files in the rows of resumes, if the names of persons are redacted.

    Args:
        redactor: Redactor of the documents.
        secret: Returns the secret of the store; called when the first file is met.
    """

    def __init__(self, redactor: Redactor, secret: Callable[[], bytes]) -> None:
        """Read no secret yet."""
        self._redactor = redactor
        self._read_secret = secret

    @cached_property
    def _secret(self) -> bytes:
        return self._read_secret()

    def hidden(self, row: RawRow | RejectedRow, config: SourceConfig) -> RawRow | RejectedRow:
        """A row whose file's name is replaced. Rows with an id of their own, and jobs, are returned as they are."""
        if config.kind != "resume" or "name" not in self._redactor.types:
            return row
        if isinstance(row, RejectedRow):
            return row if promised_format(row.file) in TABLES else self._hidden_rejected(row)
        written = row.values.get(config.id_field)
        # Rows of JSON files without ids are numbered: "anna.json#1".
        if not isinstance(written, str) or (written != row.file and not written.startswith(f"{row.file}#")):
            return row
        values = {**row.values, config.id_field: file_id(self._secret, written), FILE_NAME_FIELD: row.file}
        return replace(row, file=self._shown(row.file), values=values)

    def _hidden_rejected(self, row: RejectedRow) -> RejectedRow:
        shown, name = self._shown(row.file), PurePath(row.file).name
        # The longest first, and in one pass: what is shown instead may contain the stem again.
        pattern = "|".join(re.escape(each) for each in (row.file, name, PurePath(name).stem) if each)
        return replace(row, file=shown, detail=re.sub(pattern, lambda _: PurePath(shown).name, row.detail))

    def _shown(self, file: str) -> str:
        """The redacted name, followed by the id: an erasure finds the row by it."""
        redacted = self._redactor.redact("", "", {FILE_NAME_FIELD: file}).metadata[FILE_NAME_FIELD]
        return f"{redacted} ({file_id(self._secret, file)})"

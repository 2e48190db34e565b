"""Checks that several readers share: the file has content, can be read, and has the columns for id and text."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa

from data.config import SourceConfig
from data.documents.readers.mappings import suggestion
from data.errors import InputError

_NAME_CHARS = 100  # of a column name in an error


class MappingError(InputError):
    """A file can be read, but its records have no fields with the names that the settings give.

    Attributes:
        columns: Names of the fields that were found.
        proposed: Settings of the source, by name, with which it may be read.
    """

    def __init__(
        self, message: str, *, hint: str, columns: Iterable[str] = (), proposed: Mapping[str, str] | None = None
    ) -> None:
        """Store what was found."""
        super().__init__(message, hint=hint)
        self.columns = tuple(columns)
        self.proposed = dict(proposed or {})


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Convert errors of the operating system and of Arrow into an input error with a hint."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).splitlines()[0]
        raise InputError(
            f"'{path}' could not be read: {reason}.", hint="Check the file's permissions, and that it is complete."
        ) from error
    except (pa.ArrowException, UnicodeDecodeError) as error:  # UnicodeDecodeError: damaged column names
        raise InputError(
            f"'{path}' is not a readable Parquet file: {str(error).splitlines()[0]}",
            hint="The file is damaged or cut off; copy or write it again.",
        ) from error


def require_content(path: Path) -> None:
    """Raise an input error unless the path is a regular file with content."""
    with readable(path):
        if not path.is_file():
            raise InputError(f"'{path}' is not a regular file.", hint="Use a file, a folder or a glob.")
        if path.stat().st_size == 0:
            raise empty_file(path)


def empty_file(path: Path) -> InputError:
    """The error for a file without rows."""
    return InputError(f"'{path}' is empty; expected at least one row.", hint="Write the file again, or leave it out.")


def check_columns(path: Path, columns: Iterable[str], config: SourceConfig) -> None:
    """Raise an input error unless ``columns`` hold id and text, each once. The message lists all faults."""
    counted = Counter(columns)
    wanted = config.text_names
    faults = []
    if not config.makes_ids and config.id_field not in counted:
        faults.append(f"no id column '{config.id_field}' (set id_field)")
    if config.text_name(counted) is None and not counted.keys() & set(config.text_fields):
        faults.append(f"no text column {' or '.join(repr(name) for name in wanted)} (set text_field, --text-field)")
    faults += [
        f"{counted[name]} columns named '{name}'"
        for name in (config.id_field, config.title_field, *wanted)
        if counted[name] > 1
    ]
    if faults:
        shown = ", ".join(name[:_NAME_CHARS] for name in islice(sorted(counted), 30)) or "none"
        hint = "Name the columns that hold the id and the text with id_field and text_field of the source."
        known = suggestion(counted)
        raise MappingError(
            f"'{path}' has {' and '.join(faults)}; columns found: {shown}.",
            hint=f'It looks like {known}: set format = "{known}" of the source. {hint}' if known else hint,
            columns=counted,
            proposed={"format": known} if known else {},
        )

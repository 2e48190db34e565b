"""Convert records to rows; shared by the readers of JSON, XML and spreadsheets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from data.config import SourceConfig
from data.documents.extract.jsonld import find_postings, types_of
from data.documents.readers.checks import check_columns
from data.documents.readers.fields import canonical_names, has_paths, resolve
from data.documents.readers.mappings import KNOWN_FORMATS
from data.documents.rows import RawRow, ReadLog
from data.errors import InputError

_MAX_NAMES = 10_000  # objects with random keys must not exhaust memory


class RecordRows:
    """Turns the records of one file into rows, and collects their field names.

    Args:
        path: The file.
        file: Its name in the source.
        config: Settings of the source.
        log: Collects decisions.
    """

    def __init__(self, path: Path, file: str, config: SourceConfig, log: ReadLog) -> None:
        """Start without records."""
        self.num_records = 0
        self.names: set[str] = set()
        self._path, self._file, self._config, self._log = path, file, config, log
        self._known = KNOWN_FORMATS.get(config.format) if config.format else None
        self._has_paths = has_paths(config)
        self._passed_over: set[str] = set()
        self._renamed: dict[tuple[str, ...], list[str] | None] = {}

    def row(self, number: int, values: Mapping[str, object]) -> RawRow:
        """Convert a record to a row."""
        self.num_records += 1
        if self._known is not None:
            fallback_id = f"{self._file}#{number}"
            return RawRow(self._file, number, self._known.apply(values, self._config, fallback_id=fallback_id))
        found = self._canonical(dict(values))
        if self._has_paths:
            found = resolve(found, self._config)
        if len(self.names) < _MAX_NAMES:
            self.names.update(found)
        return RawRow(self._file, number, found)

    def rows(self, number: int, values: Mapping[str, object]) -> Iterator[RawRow]:
        """Convert a record to rows. A JSON-LD object gives a row for each posting in it, others give one."""
        if self._config.format != "schema.org-jobposting":
            yield self.row(number, values)
            return
        postings = list(find_postings(values))
        if not postings and not types_of(values) and "@graph" not in values:
            postings = [values]  # a posting that does not say so
        if not postings:
            self._passed_over.update(types_of(values) or {"@graph"})
        for at, posting in enumerate(postings):
            self.num_records += 1
            fallback_id = f"{self._file}#{number}" + (f".{at + 1}" if len(postings) > 1 else "")
            found = KNOWN_FORMATS["schema.org-jobposting"].apply(posting, self._config, fallback_id=fallback_id)
            yield RawRow(self._file, number, found)

    def _canonical(self, values: dict[str, object]) -> dict[str, object]:
        """The record with the source's field names; most records already have them."""
        config = self._config
        has_id = config.makes_ids or config.id_field in values
        if has_id and config.title_field in values and config.text_name(values) is not None:
            return values
        keys = tuple(values)
        if keys not in self._renamed:
            if len(self._renamed) >= _MAX_NAMES:
                return values
            missing = [name for name in config.named_fields if name not in values]
            folded = {name.strip().casefold() for name in missing}
            has_other = any(key.strip().casefold() in folded for key in keys)
            self._renamed[keys] = canonical_names(keys, config, self._log) if has_other else None
        names = self._renamed[keys]
        return values if names is None else dict(zip(names, values.values(), strict=True))

    def check(self) -> None:
        """Raise an input error if no record had the fields for id and text."""
        if self._passed_over:
            types = ", ".join(sorted(self._passed_over))
            if not self.num_records:
                raise InputError(
                    f"'{self._path}' has no JobPosting; its objects are of type {types}.",
                    hint="Remove format of the source, and name the fields of id and text, if these are the documents.",
                )
            self._log.note(f"linked data that is no posting passed over: {types}")
        if self.num_records and self._known is None:
            check_columns(self._path, self.names, self._config)

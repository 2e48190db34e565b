"""Exclusion lists: pairs and documents that must never be matched, from a CSV or Parquet file.

The file has the columns ``job_id`` and ``resume_id``, or one of them. A row with both ids excludes the pair; a row with
one excludes the document from all matches. An id is a ``doc_id``, or the id in the source. It also means the documents
that share a place with this one, such as other versions of one person's resume.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from data.errors import InputError
from data.schema import DocumentKind

_ID_COLUMNS: dict[str, DocumentKind] = {"job_id": "job", "resume_id": "resume"}


@dataclass(frozen=True)
class Exclusions:
    """Ids as the file writes them.

    Attributes:
        pairs: Ids of a job and of a resume that must not be matched with each other.
        documents: Ids of the documents that must not be matched at all, by kind.
    """

    pairs: frozenset[tuple[str, str]]
    documents: dict[DocumentKind, frozenset[str]]

    def ids(self, kind: DocumentKind) -> frozenset[str]:
        """Every id of a kind that the file names."""
        at = 0 if kind == "job" else 1
        return self.documents[kind] | {pair[at] for pair in self.pairs}


def read_exclusions(path: str) -> Exclusions:
    """Read an exclusion list.

    Args:
        path: File that ends in ``.csv`` or ``.parquet``.

    Raises:
        InputError: The file cannot be read, has neither column, or has a row without an id.
    """
    table = _read(Path(path).expanduser())
    columns = [
        table[name].cast(pa.string()).to_pylist() if name in table.column_names else [None] * len(table)
        for name in _ID_COLUMNS
    ]
    if not any(name in table.column_names for name in _ID_COLUMNS):
        raise InputError(
            f"The exclusion list {path} has the columns {', '.join(table.column_names)}; expected job_id and "
            "resume_id, or one of them.",
            hint="Name the columns job_id and resume_id in the first line.",
        )
    pairs: set[tuple[str, str]] = set()
    documents: dict[DocumentKind, set[str]] = {"job": set(), "resume": set()}
    for number, (job, resume) in enumerate(zip(*columns, strict=True), start=1):
        job, resume = (job or "").strip(), (resume or "").strip()
        if job and resume:
            pairs.add((job, resume))
        elif job or resume:
            documents["job" if job else "resume"].add(job or resume)
        else:
            raise InputError(
                f"Row {number} of the exclusion list {path} has no id; expected a job_id, a resume_id or both.",
                hint="Remove the row.",
            )
    return Exclusions(frozenset(pairs), {kind: frozenset(ids) for kind, ids in documents.items()})


def _read(path: Path) -> pa.Table:
    """Read all columns; ids of a CSV file stay as they are written (``007``)."""
    try:
        if path.suffix.lower() == ".parquet":
            return pq.read_table(path)
        if path.suffix.lower() == ".csv":
            types = dict.fromkeys(_ID_COLUMNS, pa.string())
            return pc.read_csv(path, convert_options=pc.ConvertOptions(column_types=types))
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(
            f"The exclusion list {path} cannot be read: {error}", hint="Set match.exclude to a CSV or Parquet file."
        ) from error
    raise InputError(
        f"The exclusion list {path} ends in '{path.suffix}'; expected .csv or .parquet.",
        hint="Save it as CSV with the columns job_id and resume_id.",
    )

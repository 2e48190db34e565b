"""Reader of Parquet files, in small batches. Files that declare implausible sizes are rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.config import SourceConfig
from data.documents.readers.checks import (
    MappingError,
    check_columns,
    readable,
    require_content,
)
from data.documents.readers.fields import canonical_names, has_paths, reachable_names, resolve
from data.documents.rows import (
    RawRow,
    ReadLog,
    RejectedRow,
    RejectReason,
    make_excerpt,
)
from data.errors import InputError

_BATCH_ROWS = 512
_BATCH_BYTES = 64 * 2**20
_MAX_ROWS_PER_BYTE = 64  # rows with distinct ids need more bytes
_MAX_RATIO = 1000  # unpacked size to packed size of a column chunk
_MAX_CHUNK_BYTES = 2**30  # unpacked size up to which a column chunk may exceed that ratio
_MAX_VALUES_PER_ROW = 2**24  # average of a list column


def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the file; see :data:`data.documents.sources.READERS`."""
    require_content(path)
    with readable(path), pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        found = parquet.schema_arrow
        names = canonical_names(found.names, config, log)
        schema = pa.schema([field.with_name(name) for field, name in zip(found, names, strict=True)])
        check_columns(path, reachable_names(names, config), config)
        _check_types(path, schema, config)
        _check_sizes(path, parquet.metadata)
        strings = [field.name for field in found if _is_string(field.type)]
    id_at = names.index(config.id_field) if not config.makes_ids and config.id_field in names else None
    has_float_ids = id_at is not None and pa.types.is_floating(schema.field(id_at).type)
    if id_at is not None and has_float_ids:
        _check_float_ids(path, found.names[id_at])
        log.note("ids that were written as floats read as integers")
    is_resolved = has_paths(config)
    number = 0
    # Strings stay dictionary-encoded until their unpacked size is known.
    with readable(path), pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=strings) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
            for part in _bounded_batches(batch):
                for row in _parse_batch(part.rename_columns(names), file=file, before=number):
                    value = row.values[config.id_field] if isinstance(row, RawRow) and has_float_ids else None
                    if isinstance(row, RawRow) and isinstance(value, float):
                        row.values[config.id_field] = int(value)
                    yield (
                        RawRow(file, row.row, resolve(row.values, config))
                        if is_resolved and isinstance(row, RawRow)
                        else row
                    )
                number += part.num_rows


def _check_float_ids(path: Path, name: str) -> None:
    """Raise an input error unless the ids are integers that were written as floats."""
    with readable(path), pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=[name]):
            ids = batch.column(0).drop_null()
            if not pc.all(pc.equal(ids, pc.round(ids)).cast(pa.bool_()), min_count=0).as_py():
                raise InputError(
                    f"'{path}' has an id column '{name}' of type {ids.type} with fractions; expected whole numbers.",
                    hint="Write the column as strings, or set id_field to another one.",
                )


def _check_sizes(path: Path, metadata: pq.FileMetaData) -> None:
    """Reject a file that declares far more data than a file of its size can hold."""
    size_bytes = path.stat().st_size
    fault = None
    if metadata.num_rows > _MAX_ROWS_PER_BYTE * size_bytes:
        fault = f"{metadata.num_rows} rows in {size_bytes} bytes; expected at most {_MAX_ROWS_PER_BYTE} per byte"
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            unpacked = chunk.total_uncompressed_size
            if unpacked > max(_MAX_CHUNK_BYTES, _MAX_RATIO * chunk.total_compressed_size):
                fault = f"{chunk.total_compressed_size} bytes of '{chunk.path_in_schema}' that unpack to {unpacked}"
            if chunk.num_values > _MAX_VALUES_PER_ROW * max(group.num_rows, 1):
                fault = f"{chunk.num_values} values of '{chunk.path_in_schema}' in {group.num_rows} rows"
    if fault:
        raise InputError(
            f"'{path}' declares {fault}.",
            hint="This looks like a decompression bomb. If you trust the file, rewrite it with smaller row groups.",
        )


def _bounded_batches(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Unpack the strings of a batch, in parts of bounded size.

    An oversized row becomes its own part: its page bounds its size, and ``clean`` rejects it.
    """
    sizes = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
            sizes += pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)
    start = 0
    while start < batch.num_rows:
        stop = start + max(1, int(np.searchsorted(np.cumsum(sizes[start:]), _BATCH_BYTES, side="right")))
        part = batch.slice(start, stop - start)
        columns = [each.dictionary_decode() if pa.types.is_dictionary(each.type) else each for each in part.columns]
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        start = stop


def _check_types(path: Path, schema: pa.Schema, config: SourceConfig) -> None:
    text_name = config.text_name(schema.names)
    rules: list[tuple[str, str, Callable[[pa.DataType], bool]]] = [
        (
            "id",
            config.id_field,
            lambda found: _is_string(found) or pa.types.is_integer(found) or pa.types.is_floating(found),
        ),
        ("title", config.title_field, lambda found: _is_string(found) or pa.types.is_null(found)),
        ("text", str(text_name), _is_string),
    ]
    faults = [
        f"{role} column '{name}' of type {schema.field(name).type}"
        for role, name, is_right in rules
        if name in schema.names and not is_right(schema.field(name).type)
    ]
    if faults:
        is_list = text_name in schema.names and pa.types.is_list(schema.field(text_name).type)
        raise MappingError(
            f"'{path}' has a {' and a '.join(faults)}; expected strings (integers too for the id).",
            hint=f'Set text_field = "{text_name}[]" to join its values.'
            if is_list
            else "Write the column as strings, or set id_field, title_field or text_field to another one.",
            columns=schema.names,
            proposed={"text_field": f"{text_name}[]"} if is_list else {},
        )


def _is_string(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))


def _parse_batch(batch: pa.RecordBatch, *, file: str, before: int) -> Iterator[RawRow | RejectedRow]:
    """Rows of a batch. A value that Python cannot represent rejects only its own row."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):
        rows = None
    for index in range(batch.num_rows):
        number = before + index + 1
        try:
            values = rows[index] if rows is not None else batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            detail = f"{error.reason} at byte {error.start}; expected UTF-8"
            yield RejectedRow(file, number, RejectReason.INVALID_UTF8, detail, make_excerpt(error.object))
        except (ValueError, OverflowError) as error:
            detail = f"a value that cannot be represented: {error}"
            yield RejectedRow(file, number, RejectReason.WRONG_TYPE, detail, "")
        else:
            yield RawRow(file, number, values)

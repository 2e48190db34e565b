"""The scanner finds planted data in every kind of file and archive."""

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import tarfile
import zipfile

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.erasure import scan
from data.erasure.scan import Needles, scan_tree

SECRET = "ran the cold store of a fish market in Bergen"
VECTOR = np.linspace(0.1, 0.9, 16, dtype=np.float32)
NEEDLES = Needles({SECRET.encode(): "text", VECTOR.tobytes()[:64]: "vector"})
FILLER = "an ordinary line that is compressed away " * 50


def parquet(compression="zstd", dictionary=True):
    rows = {"text": [FILLER, f"{FILLER} {SECRET} {FILLER}", FILLER], "n": [1, 2, 3]}
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows), buffer, compression=compression, use_dictionary=dictionary)
    return buffer.getvalue()


def zipped(content, name="inner"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def tarred(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("inner")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def arrow():
    sink = io.BytesIO()
    table = pa.table({"text": [FILLER, SECRET * 3]})
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, vectors=np.stack([VECTOR * 2, VECTOR]))
    return buffer.getvalue()


PLAIN = f"{FILLER}{SECRET}{FILLER}".encode()
PLANTED = {
    "plain": PLAIN,
    "zstd parquet": parquet(),
    "snappy parquet without dictionaries": parquet("snappy", dictionary=False),
    "compressed arrow": arrow(),
    "gzip": gzip.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "zstd": pa.compress(PLAIN, codec="zstd", asbytes=True),
    "zip": zipped(PLAIN),
    "tar.gz": tarred(PLAIN),
    "parquet in a gzip in a zip": zipped(gzip.compress(parquet())),
    "vectors in an npz": npz(),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(tmp_path, name):
    (tmp_path / "clean.txt").write_text(FILLER)
    assert scan_tree(tmp_path, NEEDLES).findings == []
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(PLANTED[name])
    report = scan_tree(tmp_path, NEEDLES)
    assert {finding.path.split("!")[0] for finding in report.findings} == {"folder/file"}
    assert report.num_files == 2


def test_what_lies_across_two_chunks_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "_CHUNK_BYTES", 32)
    (tmp_path / "file").write_bytes(PLAIN)
    assert len(scan_tree(tmp_path, NEEDLES).findings) == 1


def test_vectors_and_texts_of_former_versions_of_a_table_are_found(tmp_path):
    def rows(text, vector):
        column = pa.FixedSizeListArray.from_arrays(pa.array(np.tile(vector, 300)), 16)
        return pa.table({"text": [f"{FILLER} {text} {number}" for number in range(300)], "vector": column})

    table = lancedb.connect(tmp_path / "lance").create_table("jobs", rows(SECRET, VECTOR))
    raw = b"".join(path.read_bytes() for path in tmp_path.rglob("*.lance") if path.is_file())
    assert SECRET.encode() not in raw, "Lance compresses: raw bytes prove nothing"
    assert {finding.what for finding in scan_tree(tmp_path, NEEDLES).findings} == {"text", "vector"}
    table.add(rows("nothing", VECTOR * 2), mode="overwrite")
    assert {finding.what for finding in scan_tree(tmp_path, NEEDLES).findings} == {"text", "vector"}


def test_a_data_file_that_no_version_names_is_reported(tmp_path):
    lancedb.connect(tmp_path).create_table("jobs", pa.table({"text": ["a"]}))
    assert scan_tree(tmp_path, NEEDLES).findings == []
    (tmp_path / "jobs.lance" / "data" / "orphan.lance").write_bytes(b"what an interrupted write left")
    (finding,) = scan_tree(tmp_path, NEEDLES).findings
    assert "orphan.lance" in finding.what


def test_a_damaged_archive_is_no_proof(tmp_path):
    (tmp_path / "file.parquet").write_bytes(parquet()[:200])
    (finding,) = scan_tree(tmp_path, NEEDLES).findings
    assert "cannot be decoded" in finding.what


def test_rows_of_a_database_are_found(tmp_path):
    with sqlite3.connect(tmp_path / "server.db") as database:
        database.execute("CREATE TABLE log (message TEXT)")
        database.execute("INSERT INTO log VALUES (?)", (json.dumps({"error": SECRET}),))
    database.close()
    assert len(scan_tree(tmp_path, NEEDLES).findings) == 1

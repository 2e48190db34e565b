import csv
import gzip
import json
import zipfile
from pathlib import Path

import docx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from pypdf import PdfWriter

from data.config import SourceConfig
from data.documents.extract import archive, pdf
from data.documents.extract import docx as docx_reader
from data.documents.processes import workers
from data.documents.readers import csv as csv_reader
from data.documents.readers import jsonl, packed, parquet
from data.documents.rows import RawRow, ReadLog, RejectedRow, make_excerpt
from data.documents.sources import read_rows
from data.errors import InputError


def read(path, **settings):
    return list(read_rows(SourceConfig(kind="job", path=str(path), **settings)))


def reasons(rows):
    return [str(row.reason) if isinstance(row, RejectedRow) else "" for row in rows]


def write_lines(path, *lines):
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def row(number, **more):
    return json.dumps({"id": f"{number}", "title": "Nurse", "description": f"Ward {number}", **more}).encode()


def write_pdf(path, text):
    """A minimal PDF with one line of text, written by hand."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    content, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(content))
    path.write_bytes(content + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + trailer)


# --- JSON lines -------------------------------------------------------------------------------------------------------


def test_jsonl_rows_keep_their_line_numbers_and_blank_lines_are_no_rows(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + row(1), b"", b"  \r", row(2))
    rows = read(path)
    assert [(r.file, r.row, r.values["id"]) for r in rows] == [("a.jsonl", 1, "1"), ("a.jsonl", 4, "2")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row(2)[:25], "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"id": ' + b"9" * 5000 + b"}", "bad_json"),
        (b"[1, 2]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"id": "2", "description": "caf\xe9"}', "invalid_utf8"),
        (b'{"id": "2", "description": "a\x00b"}', "nul_bytes"),
    ],
)
def test_a_bad_line_costs_itself_only(tmp_path, line, reason):
    rows = read(write_lines(tmp_path / "a.jsonl", row(1), line, row(3)))
    assert reasons(rows) == ["", reason, ""]
    assert rows[1].row == 2
    assert rows[1].detail
    assert rows[1].excerpt.isprintable()


def test_a_line_cut_in_half_at_the_end_of_the_file_is_quarantined(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(row(1) + b"\n" + row(2)[:30])
    assert reasons(read(path)) == ["", "bad_json"]


def test_too_long_a_line_is_skipped_without_reading_it_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_ROW_BYTES", 100)
    long = row(2, description="x" * 1000)
    rows = read(write_lines(tmp_path / "a.jsonl", row(1), long, row(3), long[:-1]))
    assert reasons(rows) == ["", "row_too_large", "", "row_too_large"]
    assert f"line of {len(long)} bytes" in rows[1].detail


def test_a_line_of_exactly_the_limit_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_ROW_BYTES", len(row(1)))
    path = tmp_path / "a.jsonl"
    path.write_bytes(row(1) + b"\n" + row(2))
    assert reasons(read(path)) == ["", ""]
    path.write_bytes(row(1) + b"\n" + row(22))
    assert reasons(read(path)) == ["", "row_too_large"]


def test_a_field_that_no_object_has_is_a_missing_column(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", b'{"id": 1, "body": "x"}', b'{"id": 2, "body": "y"}')
    with pytest.raises(InputError, match=r"no text column 'text' or 'description'.*columns found: body, id") as caught:
        read(path)
    assert "text_field" in caught.value.hint
    assert len(read(path, text_field="body")) == 2
    with pytest.raises(InputError, match="no id column 'key'"):
        read(path, text_field="body", id_field="key")


def test_a_field_that_some_objects_miss_is_no_missing_column(tmp_path):
    assert reasons(read(write_lines(tmp_path / "a.jsonl", row(1), b'{"id": 2}', b"{}"))) == ["", "", ""]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_an_empty_table_is_the_callers_mistake(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        read(tmp_path / name)


def test_a_file_of_blank_lines_is_empty(tmp_path):
    for name in ("a.jsonl", "a.csv"):
        (tmp_path / name).write_bytes(b"\n\n")
        with pytest.raises(InputError, match="is empty"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("path", "found"),
    [("gone.jsonl", "does not exist"), ("gone/*.jsonl", "has no files to read"), ("folder", "has no files to read")],
)
def test_nothing_found_names_what_is_expected(tmp_path, path, found):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".hidden.jsonl").write_bytes(row(1))
    with pytest.raises(InputError, match=rf"{found}; expected files ending in \.jsonl, \.csv"):
        read(tmp_path / path)


def test_files_of_an_unknown_type_are_quarantined_beside_others_and_refused_alone(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\0\1\2")
    with pytest.raises(InputError, match=r"cannot be read: 'a.bin'; expected files ending in \.jsonl") as caught:
        read(tmp_path)
    assert "PDF" in caught.value.hint
    write_lines(tmp_path / "a.jsonl", row(1))
    rows = read(tmp_path)
    assert [(r.file, getattr(r, "reason", "")) for r in rows] == [("a.bin", "unsupported_file"), ("a.jsonl", "")]
    assert len(read(tmp_path / "*.jsonl")) == 1


def test_what_is_passed_over_is_named(tmp_path):
    write_lines(tmp_path / "a.jsonl", row(1))
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "_SUCCESS", "~$b.docx", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    log = ReadLog()
    assert len(list(read_rows(SourceConfig(kind="job", path=str(tmp_path)), log))) == 1
    assert log.skipped == {
        ".DS_Store": "a hidden file",
        "README.md": "a text beside tables",
        "Thumbs.db": "a file of the operating system",
        "_SUCCESS": "a marker of a Parquet writer",
        "desktop.ini": "a file of the operating system",
        "~$b.docx": "a hidden file",
    }


def test_types_are_told_by_content(tmp_path):
    document = docx.Document()
    document.add_paragraph("Welder")
    document.save(str(tmp_path / "word.pdf"))
    write_pdf(tmp_path / "adobe.docx", "Nurse")
    (tmp_path / "rich.doc").write_bytes(rb"{\rtf1\ansi Cook}")
    (tmp_path / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504))
    (tmp_path / "gone.pdf").write_bytes(b"<html><body>Not found</body></html>")
    (tmp_path / "photo.pdf").write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    log = ReadLog()
    rows = {r.file: r for r in read_rows(SourceConfig(kind="resume", path=str(tmp_path)), log)}
    assert {file: r.values["text"] for file, r in rows.items() if isinstance(r, RawRow)} == {
        "word.pdf": "Welder", "adobe.docx": "Nurse", "rich.doc": "Cook",
    }  # fmt: skip
    rejected = {file: r for file, r in rows.items() if isinstance(r, RejectedRow)}
    assert {str(r.reason) for r in rejected.values()} == {"unsupported_file"}
    assert {
        file: word in rejected[file].detail
        for file, word in {"old.doc": ".doc", "gone.pdf": "web page", "photo.pdf": "image"}.items()
    } == dict.fromkeys(rejected, True)
    assert log.notes == {
        "pdf by its name, read as docx": 1, "docx by its name, read as pdf": 1, "doc by its name, read as rtf": 1,
    }  # fmt: skip


def test_a_first_line_that_is_cut_off_does_not_cost_the_others(tmp_path):
    rows = read(write_lines(tmp_path / "a.jsonl", b'{"id": 1, "text": "x",', row(2), row(3)))
    assert reasons(rows) == ["bad_json", "", ""]


def test_words_that_are_marks_of_formats_do_not_make_a_table_another_format(tmp_path):
    for content in (b"id,text\n1,needs %PDF-1.7 skills\n", b"BMI,id,text\n5,1,x\n"):
        (tmp_path / "a.csv").write_bytes(content)
        assert reasons(read(tmp_path / "a.csv")) == [""]


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_packed_files_are_read_and_bombs_are_not(tmp_path, codec, monkeypatch):
    suffix = {"gzip": ".gz", "zstd": ".zst"}[codec]
    content = b"id,text\n1,Nurse\n"
    with pa.CompressedOutputStream(str(tmp_path / f"a.csv{suffix}"), codec) as out:
        out.write(content)
    (found,) = read(tmp_path)
    assert found == RawRow(f"a.csv{suffix}", 1, {"id": "1", "text": "Nurse"})
    monkeypatch.setattr(packed, "MAX_UNPACKED_BYTES", 5)
    with pytest.raises(InputError, match="unpacks to more than 5 bytes"):
        read(tmp_path)
    (tmp_path / f"a.csv{suffix}").write_bytes((tmp_path / f"a.csv{suffix}").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"cannot be unpacked|unpacks to more"):
        read(tmp_path)


def test_a_packed_document_that_is_damaged_costs_itself_only(tmp_path):
    (tmp_path / "a.pdf.gz").write_bytes(gzip.compress(b"%PDF-1.4 " * 100)[:-20])
    (tmp_path / "b.txt").write_text("Nurse")
    rejected, kept = read(tmp_path)
    assert (str(rejected.reason), rejected.detail[:19]) == ("unreadable_file", "it cannot be unpack")
    assert kept.values["text"] == "Nurse"


def test_a_broken_table_that_is_named_as_a_document_costs_itself_only(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"PAR1 and nothing else")
    (tmp_path / "b.txt").write_text("Nurse")
    rejected, kept = read(tmp_path)
    assert (str(rejected.reason), rejected.detail[:6]) == ("unreadable_file", "it is ")
    assert kept.values["text"] == "Nurse"


def test_uris_and_unknown_bundles_are_refused():
    with pytest.raises(ValidationError, match=r"'s3://\*\*\*@bucket/a.jsonl' is a URI"):
        SourceConfig(kind="job", path="s3://key:secret@bucket/a.jsonl")
    with pytest.raises(InputError, match="is not bundled; expected 'bundled:sample'"):
        read("bundled:other")


def test_files_of_a_folder_are_read_in_sorted_order_and_may_be_of_several_types(tmp_path):
    (tmp_path / "b").mkdir()
    write_lines(tmp_path / "c.JSONL", row(3))
    write_lines(tmp_path / "b" / "z.jsonl", row(2))
    (tmp_path / "a.csv").write_text("id,text\n1,Nurse\n")
    (tmp_path / "_SUCCESS").write_bytes(b"")
    assert [r.file for r in read(tmp_path)] == ["a.csv", "b/z.jsonl", "c.JSONL"]
    assert [r.file for r in read(tmp_path / "**" / "*.jsonl")] == ["b/z.jsonl"]


def test_a_relative_path_starts_at_the_working_directory(tmp_path, monkeypatch):
    write_lines(tmp_path / "a.jsonl", row(1))
    monkeypatch.chdir(tmp_path)
    assert [r.file for r in read("a.jsonl")] == ["a.jsonl"]
    assert [r.file for r in read("*.jsonl")] == ["a.jsonl"]


def test_a_name_with_glob_characters_that_exists_is_a_file(tmp_path):
    write_lines(tmp_path / "a[1].jsonl", row(1))
    assert len(read(tmp_path / "a[1].jsonl")) == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_no_permission_is_the_callers_mistake(tmp_path, name, monkeypatch):
    (tmp_path / name).write_bytes(b"id,text\n")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(pq, "ParquetFile", refuse)
    with pytest.raises(InputError, match="could not be read: Permission denied"):
        read(tmp_path / name)


def test_a_broken_link_is_not_skipped(tmp_path):
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone.jsonl")
    with pytest.raises(InputError, match="not a regular file"):
        read(tmp_path)


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_csv_rows_are_strings_by_the_header(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as handle:
        csv.writer(handle).writerows(
            [["id", "text", "pay"], ["1", 'two\nlines, "quoted"', "£3"], [], ["2", "x" * 200_000, ""]]
        )
    first, second = read(path)
    assert first == RawRow("a.csv", 1, {"id": "1", "text": 'two\nlines, "quoted"', "pay": "£3"})
    assert (second.row, len(second.values["text"])) == (2, 200_000)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"2", "wrong_shape"),
        (b"2,text,more", "wrong_shape"),
        (b'2,"text"x', "wrong_shape"),
        (b"2,caf\xe9", "invalid_utf8"),
        (b"2,a\x00b", "nul_bytes"),
        (b"2," + b"x" * 300, "row_too_large"),
    ],
)
def test_a_bad_csv_row_costs_itself_only(tmp_path, line, reason, monkeypatch):
    monkeypatch.setattr(csv_reader, "MAX_ROW_BYTES", 100)
    rows = read(write_lines(tmp_path / "a.csv", b"id,text", b"1,a", line, b"3,c"))
    assert reasons(rows) == ["", reason, ""]
    assert [r.row for r in rows] == [1, 2, 3]


def test_a_quote_that_is_never_closed_says_which_lines_it_took(tmp_path):
    rows = read(write_lines(tmp_path / "a.csv", b"id,text", b"1,a", b'2,"open', b"3,c", b"4,d"))
    assert reasons(rows) == ["", "wrong_shape"]
    assert "lines 3 to 5" in rows[1].detail


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"id,body", "no text column.*columns found: body, id"),
        (b"key,text", "no id column 'id'"),
        (b"id;body", "no text column.*columns found: body, id"),
        (b"id,text,text", "2 columns named 'text'"),
        (b"id,t\xe9xt", "not UTF-8"),
    ],
)
def test_a_wrong_csv_header_is_the_callers_mistake(tmp_path, header, message):
    with pytest.raises(InputError, match=message):
        read(write_lines(tmp_path / "a.csv", header, b"1,x"))


# --- Parquet ----------------------------------------------------------------------------------------------------------


def write_table(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_rows_come_in_batches_with_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 2)
    text = pa.array(["a", "b", "a", None, "c"]).dictionary_encode()
    rows = read(write_table(tmp_path / "a.parquet", id=[1, 2, 3, 4, 5], text=text, tags=[["x"]] * 5))
    assert [(r.row, r.values["id"], r.values["text"]) for r in rows] == [
        (1, 1, "a"),
        (2, 2, "b"),
        (3, 3, "a"),
        (4, 4, None),
        (5, 5, "c"),
    ]


def test_a_parquet_file_without_rows_is_read(tmp_path):
    assert read(write_table(tmp_path / "a.parquet", id=pa.array([], pa.string()), text=pa.array([], pa.string()))) == []


def test_a_missing_parquet_column_is_the_callers_mistake(tmp_path):
    with pytest.raises(InputError, match=r"no text column.*columns found: body, id"):
        read(write_table(tmp_path / "a.parquet", id=["1"], body=["x"]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["1"], "text": [1.5]}, "text column 'text' of type double"),
        ({"id": ["1"], "text": [b"x"]}, "text column 'text' of type binary"),
        ({"id": [1.5], "text": ["x"]}, "id column 'id' of type double with fractions"),
        ({"id": ["1"], "text": ["x"], "title": [["x"]]}, "title column 'title' of type list"),
    ],
)
def test_a_parquet_column_of_the_wrong_type_is_the_callers_mistake(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        read(write_table(tmp_path / "a.parquet", **columns))


def test_truncated_parquet_is_the_callers_mistake(tmp_path):
    path = write_table(tmp_path / "a.parquet", id=["1"] * 100, text=["x"] * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read(path)


def test_a_parquet_string_that_is_not_utf8_costs_its_row_only(tmp_path):
    offsets = pa.py_buffer(pa.array([0, 1, 3, 4], pa.int32()).buffers()[1])
    text = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"a\xc3\x28b")])
    rows = read(write_table(tmp_path / "a.parquet", id=["1", "2", "3"], text=text))
    assert reasons(rows) == ["", "invalid_utf8", ""]
    assert [r.row for r in rows] == [1, 2, 3]


# --- PDF and DOCX -----------------------------------------------------------------------------------------------------


def test_a_folder_of_pdf_and_docx_is_read_and_a_bad_file_costs_itself_only(tmp_path):
    (tmp_path / "sub").mkdir()
    write_pdf(tmp_path / "sub" / "anna.pdf", "Staff nurse in Leeds")
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 this is no PDF")
    (tmp_path / "empty.pdf").write_bytes(b"")
    (tmp_path / "broken.docx").write_bytes(b"PK\x03\x04 and nothing else")
    (tmp_path / "~$ben.docx").write_bytes(b"lock")
    document = docx.Document()
    document.add_paragraph("Welder")
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "Skill", "TIG"
    document.add_paragraph("References on request")
    document.save(str(tmp_path / "ben.docx"))
    rows = read(tmp_path)
    assert {r.file: str(r.reason) for r in rows if isinstance(r, RejectedRow)} == {
        "bad.pdf": "unreadable_file",
        "broken.docx": "unreadable_file",
        "empty.pdf": "unreadable_file",
    }
    good = {r.file: r.values for r in rows if isinstance(r, RawRow)}
    assert good == {
        "ben.docx": {"id": "ben.docx", "title": "ben", "text": "Welder\nSkill | TIG\nReferences on request"},
        "sub/anna.pdf": {"id": "sub/anna.pdf", "title": "anna", "text": "Staff nurse in Leeds"},
    }


def test_an_encrypted_pdf_is_quarantined(tmp_path):
    writer = PdfWriter()
    writer.add_blank_page(72, 72)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(tmp_path / "locked.pdf")
    assert reasons(read(tmp_path)) == ["unreadable_file"]


def test_a_docx_that_unpacks_to_too_much_is_quarantined(tmp_path, monkeypatch):
    docx.Document().save(str(tmp_path / "a.docx"))
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 100)
    (row,) = read(tmp_path / "a.docx", text_field="body")
    assert (row.reason, "unpacks to" in row.detail) == ("unreadable_file", True)


# --- what leads out of its folder, and bombs --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["inside", "inside/*.jsonl", "inside/*/*.jsonl", "inside/**/*.jsonl"])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path, path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    secret = write_lines(tmp_path / "outside" / "secret.jsonl", row(1))
    (tmp_path / "inside" / "link.jsonl").symlink_to(secret)
    (tmp_path / "inside" / "folder").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match=r"lead out of .*'(link|folder/secret)\.jsonl'"):
        read(tmp_path / path)


def test_links_inside_the_folder_and_links_that_the_operator_names_are_read(tmp_path):
    (tmp_path / "inside").mkdir()
    target = write_lines(tmp_path / "inside" / "a.jsonl", row(1))
    (tmp_path / "inside" / "b.jsonl").symlink_to(target)
    (tmp_path / "named.jsonl").symlink_to(target)
    (tmp_path / "folder").symlink_to(tmp_path / "inside")
    assert len(read(tmp_path / "folder")) == 2
    assert len(read(tmp_path / "named.jsonl")) == 1


def test_dots_behind_a_wildcard_are_refused_and_before_it_are_not(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    write_lines(tmp_path / "a" / "secret.jsonl", row(1))
    with pytest.raises(InputError, match="after a wildcard"):
        read(tmp_path / "a" / "*" / ".." / "*.jsonl")
    assert len(read(tmp_path / "a" / "b" / ".." / "*.jsonl")) == 1


def rewritten(path, change):
    """A DOCX whose parts ``change`` has changed: from name and content to name and content."""
    docx.Document().save(str(path))
    with zipfile.ZipFile(path) as archive:
        parts = [change(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return path


def in_body(xml):
    return lambda name, content: (name, content.replace(b"<w:body>", b"<w:body>" + xml))


def test_a_docx_bomb_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    path = rewritten(tmp_path / "bomb.docx", in_body(b"<w:p/>" * 3_000_000))
    assert path.stat().st_size < 100_000
    (rejected,) = read(path)
    assert (rejected.reason, "bytes of XML" in rejected.detail) == ("unreadable_file", True)
    monkeypatch.setattr(docx_reader, "MAX_PARAGRAPHS", 1000)
    (rejected,) = read(rewritten(path, in_body(b"<w:p/>" * 1100)))
    assert "more than 1000 paragraphs" in rejected.detail


@pytest.mark.timeout(20)
def test_a_cell_that_spans_a_billion_columns_is_read_once(tmp_path):
    cell = b'<w:tc><w:tcPr><w:gridSpan w:val="1000000000"/></w:tcPr><w:p><w:r><w:t>Welder</w:t></w:r></w:p></w:tc>'
    table = b'<w:tbl><w:tblGrid><w:gridCol w:w="1"/></w:tblGrid><w:tr>' + cell + b"</w:tr></w:tbl>"
    (read_row,) = read(rewritten(tmp_path / "wide.docx", in_body(table)))
    assert read_row.values["text"].strip() == "Welder"


def test_a_docx_reads_no_file_that_its_xml_names_and_writes_none_that_its_archive_names(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    entity = f'<!DOCTYPE x [<!ENTITY leak SYSTEM "{secret.as_uri()}">]>'.encode()

    def attack(name, content):
        if name == "docProps/thumbnail.jpeg":
            return "../../escaped.txt", b"escaped"
        if name == "word/document.xml":
            declaration, separator, rest = content.partition(b"?>")
            content = declaration + separator + entity + rest
            content = content.replace(b"<w:body>", b"<w:body><w:p><w:r><w:t>&leak;</w:t></w:r></w:p>")
        return name, content

    (tmp_path / "a" / "b").mkdir(parents=True)
    (found,) = read(rewritten(tmp_path / "a" / "b" / "x.docx", attack))
    assert "SECRET" not in str(found)
    assert not (tmp_path / "escaped.txt").exists()


def test_a_pdf_that_is_too_large_is_quarantined(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "MAX_WORKERS", 0)  # limits are changed in this process
    write_pdf(tmp_path / "a.pdf", "Staff nurse in Leeds")
    for limit, detail in (("MAX_UNPACKED_BYTES", "bytes"), ("MAX_PAGES", "pages"), ("MAX_TEXT_CHARS", "characters")):
        with monkeypatch.context() as patched:
            patched.setattr(pdf, limit, 0)
            (rejected,) = read(tmp_path / "a.pdf")
        assert (rejected.reason, detail in rejected.detail) == ("unreadable_file", True)


def test_a_parquet_dictionary_bomb_is_unpacked_in_bounded_parts(tmp_path, monkeypatch):
    text = pa.DictionaryArray.from_arrays(pa.array([0, 0, 1, None] * 250, pa.int32()), ["x" * 2**20, "short"])
    columns = {"id": [str(n) for n in range(1000)], "text": text}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", compression="zstd", dictionary_pagesize_limit=2**30)
    assert (tmp_path / "a.parquet").stat().st_size < 20_000, "half a gigabyte of text in a few kilobytes"
    parse, unpacked = parquet._parse_batch, []

    def spy(batch, **place):
        unpacked.append(batch.nbytes)
        return parse(batch, **place)

    monkeypatch.setattr(parquet, "_parse_batch", spy)
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 2**22)
    rows = read(tmp_path / "a.parquet")
    assert [len(row.values["text"] or "") for row in rows] == [2**20, 2**20, 5, 0] * 250
    assert [row.row for row in rows] == list(range(1, 1001))
    assert max(unpacked) < 2**22 + 2**16


@pytest.mark.parametrize(
    ("columns", "declared"),
    [
        ({"id": pa.array(["1"] * 10**6), "text": pa.array(["a"] * 10**6)}, "1000000 rows in"),
        (
            {"id": ["1"], "text": ["a"], "tags": pa.ListArray.from_arrays([0, 2 * 10**7], pa.nulls(2 * 10**7))},
            "20000000 values of 'tags",
        ),
    ],
)
def test_a_parquet_file_that_declares_too_much_is_refused(tmp_path, columns, declared):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(InputError, match=f"declares {declared}") as caught:
        read(tmp_path / "a.parquet")
    assert "bomb" in caught.value.hint


def test_a_parquet_page_that_unpacks_to_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_MAX_CHUNK_BYTES", 10**6)
    columns = {"id": ["1", "2"], "text": ["x" * 10**7, "y"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(InputError, match="of 'text' that unpack to 100"):
        read(tmp_path / "a.parquet")


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", ["a\nb\x00\udcff", b"\xffa\x00", {"id": 1, "text": "x\n" * 1000, "more": [1]}])
def test_an_excerpt_is_short_and_printable(raw):
    shown = make_excerpt(raw)
    assert shown.isprintable()
    assert len(shown) <= 800


@pytest.mark.parametrize("kind", ["job", "resume"])
def test_the_bundled_sample_is_a_source(kind):
    rows = list(read_rows(SourceConfig(kind=kind, path="bundled:sample")))
    assert rows
    assert all(isinstance(r, RawRow) for r in rows)

"""Tables as people export them, from the file to the stored document."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.documents.preview import preview_source

TABLES = {
    "BOM before a quoted header": ('\ufeff"id","text"\n"1","Bakes rye bread"\n', {"1": "Bakes rye bread"}, {}),
    "apostrophe and zeros of an id": ("id,text\n'007,Bakes\n008,Mills\n", {"'007": "Bakes", "008": "Mills"}, {}),
    "line ends of old Macs": ("id,text\r1,Bakes\r2,Mills\r", {"1": "Bakes", "2": "Mills"}, {}),
    "line breaks in cells": (
        'id,text\r\n1,"Bakes\r\n\r\n- rye, ""the best"""\r\n2,Mills\r\n',
        {"1": 'Bakes\n\n- rye, "the best"', "2": "Mills"},
        {},
    ),
    "a row with a cell too few": ("id,place,text\n1,Bakes\n2,Ulm,Mills\n", {"2": "Mills"}, {"wrong_shape": 1}),
    "a stray quote": (
        'id,text\n1,Bakes a 12" loaf\n2,"Mills "fine" flour"\n3,Sells\n',
        {"1": 'Bakes a 12" loaf', "3": "Sells"},
        {"wrong_shape": 1},
    ),
    "a header and no row": ("id,title,text\n", {}, {}),
    "missing texts as programs write them": (
        "id,text\n1,NaN\n2,N/A\n3,-\n4,Mills\n",
        {"4": "Mills"},
        {"empty_text": 3},
    ),
    "a separator line of Excel": ("sep=;\nid;text\n1;Bakes; rye\n", {}, {"wrong_shape": 1}),
    "ids that became floats": ("id,text\n1.0,Bakes\n2.4E+03,Mills\n", {"1": "Bakes", "2400": "Mills"}, {}),
    "a second field where the first is empty": ("id,text,description\n1,,Mills\n", {"1": "Mills"}, {}),
}
RECORDS = {
    "an emoji and half a character": (
        '{"id": 1, "text": "Bakes \\ud83e\\udd50 \\ud83e!"}',
        {"1": "Bakes 🥐 \ufffd!"},
        {},
    ),
    "ids and texts of wrong types": (
        '{"id": 2.0, "text": "a"}\n{"id": null, "text": "b"}\n{"id": true, "text": "c"}\n{"id": 4, "text": ["d"]}\n'
        '{"id": 5, "text": "Mills", "pay": NaN}',
        {"5": "Mills"},
        {"wrong_type": 4},
    ),
}


def stored(path):
    found = preview_source(SourceConfig(kind="job", path=str(path)), clean=CleanConfig(), redact=RedactConfig(job=()))
    assert found.refused is None
    assert found.rows_in == found.rows_kept + found.rows_quarantined
    return {each.id: each.text for each in found.documents}, found.quarantine_reasons


@pytest.mark.parametrize("name", TABLES)
def test_a_csv_gives_its_rows(tmp_path, name):
    content, documents, reasons = TABLES[name]
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert stored(tmp_path / "a.csv") == (documents, reasons)


@pytest.mark.parametrize("name", RECORDS)
def test_json_lines_give_their_rows(tmp_path, name):
    content, documents, reasons = RECORDS[name]
    (tmp_path / "a.jsonl").write_text(content)
    assert stored(tmp_path / "a.jsonl") == (documents, reasons)


def test_a_parquet_file_gives_its_rows_whatever_their_types(tmp_path):
    columns = {
        "ID": pa.array([1, 2]),
        "Text": pa.array(["Bakes", "Mills"], pa.string_view()),
        "place": pa.array([{"city": "Ulm"}, None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert stored(tmp_path / "a.parquet") == ({"1": "Bakes", "2": "Mills"}, {})


def test_a_field_of_a_parquet_file_can_be_named_by_a_path(tmp_path):
    pq.write_table(pa.table({"id": [1], "body": [{"parts": ["Bakes", "Mills"]}]}), tmp_path / "a.parquet")
    config = SourceConfig(kind="job", path=str(tmp_path / "a.parquet"), text_field="body.parts[]")
    found = preview_source(config, clean=CleanConfig(), redact=RedactConfig())
    assert [each.text for each in found.documents] == ["Bakes\nMills"]

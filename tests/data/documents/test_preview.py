import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.documents.preview import preview_source


def preview(path, **settings):
    config = SourceConfig(kind="resume", path=str(path), **settings)
    return preview_source(config, clean=CleanConfig(), redact=RedactConfig())


def test_a_preview_counts_every_row_and_shows_documents_as_they_would_be_stored(tmp_path):
    rows = [{"id": number, "text": f"Resume {number}, write to rosa{number}@muster.example"} for number in range(5)]
    lines = [json.dumps(each) for each in [*rows, rows[0], {"id": 9, "text": ""}]]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, "{"]))
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    found = preview(tmp_path)
    assert (found.rows_in, found.rows_kept, found.rows_quarantined) == (8, 5, 3)
    assert found.quarantine_reasons == {"duplicate_id": 1, "empty_text": 1, "bad_json": 1}
    assert (found.formats, list(found.skipped)) == ({"jsonl": 1}, ["Thumbs.db"])
    assert [each.id for each in found.documents] == ["0", "1", "2"]
    assert found.documents[0].text == "Resume 0, write to [EMAIL_1]"
    assert [(each.row, each.reason) for each in found.rejected] == [
        (6, "duplicate_id"), (7, "empty_text"), (8, "bad_json"),
    ]  # fmt: skip


def test_a_preview_names_the_field_that_the_text_is_taken_from(tmp_path):
    (tmp_path / "a.csv").write_text("id,description\n1,Welds\n")
    assert preview(tmp_path).fields == {"id": "id", "title": "title", "text": "description"}
    assert preview(tmp_path, text_field=["description"]).fields["text"] == "description"


# --- sources that are refused -----------------------------------------------------------------------------------------

LONG = "Leads the kitchen of a large hospital and plans menus for nine hundred patients."


def refused(path, **settings):
    found = preview(path, **settings)
    assert found.refused is not None
    assert found.rows_in == found.rows_kept + found.rows_quarantined
    return found


def test_a_refused_table_is_shown_with_the_settings_that_it_needs(tmp_path):
    lines = [f"K-{number};Koch {number};Küche {number}: {LONG}" for number in range(3)]
    (tmp_path / "a.csv").write_bytes("\n".join(["Job Reference;Position;Duties", *lines]).encode("cp1252"))
    found = refused(tmp_path / "a.csv")
    assert "no id column 'id'" in found.refused.error
    (look,) = found.refused.files
    assert (look.file, look.format, look.encoding) == ("a.csv", "csv", "cp1252")
    assert look.first_lines[1] == f"K-0;Koch 0;Küche 0: {LONG}"
    assert found.refused.proposed == {
        "id_field": "Job Reference", "text_field": "Duties", "title_field": "Position",
    }  # fmt: skip
    assert (found.rows_kept, found.documents[0].id, found.documents[0].title) == (3, "K-0", "Koch 0")
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


def test_first_lines_of_a_refused_source_are_redacted(tmp_path):
    (tmp_path / "a.csv").write_text(f"nr,about\n1,{LONG} rosa@muster.example\n")
    assert refused(tmp_path / "a.csv").refused.files[0].first_lines[1] == f"1,{LONG} [EMAIL_1]"


def test_nested_fields_lists_of_records_and_known_formats_are_proposed(tmp_path):
    jobs = [{"meta": {"jobId": number}, "role": "Cook", "body": {"html": LONG}} for number in range(2)]
    cases = {
        "nested.jsonl": "\n".join(map(json.dumps, jobs)),
        "below.json": json.dumps({"total": 2, "jobs": jobs}),
        "lever.json": json.dumps([{"id": "a", "text": "Cook", "categories": {}, "lists": [], "hostedUrl": "u"}]),
    }
    found = {}
    for name, content in cases.items():
        (tmp_path / name).write_text(content)
        found[name] = preview(tmp_path / name)
    fields = {"id_field": "meta.jobId", "title_field": "role", "text_field": "body.html"}
    assert found["nested.jsonl"].refused.proposed == fields
    assert found["nested.jsonl"].documents[0].text == LONG
    assert found["below.json"].refused.proposed == {"records": "jobs[]", **fields}
    assert found["below.json"].rows_kept == 2
    assert found["lever.json"].refused is None or found["lever.json"].refused.proposed == {"format": "lever"}


def test_a_source_without_ids_is_proposed_ids_of_its_content(tmp_path):
    rows = [{"headline": "Cook", "text": LONG}, {"headline": "Cook", "text": f"{LONG} Twice."}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    found = refused(tmp_path / "a.json")
    assert found.refused.proposed == {"id_field": "#content", "title_field": "headline"}
    assert found.rows_kept == 2


def test_a_parquet_file_is_proposed_its_fields_and_lists(tmp_path):
    columns = {"ID": [1, 2], "text": [[LONG, "Second part."], [LONG]]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = refused(tmp_path / "a.parquet")
    assert found.refused.proposed == {"text_field": "text[]"}
    assert found.documents[0].text == f"{LONG}\nSecond part."
    assert found.notes["column 'ID' taken for 'id'"] == 1


def test_the_index_of_pandas_is_the_id_of_a_parquet_file(tmp_path):
    pd.DataFrame({"text": [LONG, "Nurse"]}, index=["k1", "k2"]).to_parquet(tmp_path / "a.parquet")
    found = preview(tmp_path / "a.parquet")
    assert [each.id for each in found.documents] == ["k1", "k2"]
    assert found.notes == {"unnamed index taken for 'id'": 1}


def test_files_for_which_nothing_can_be_proposed_are_shown(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")
    (tmp_path / "b.docx").write_text("Nurse with nine years")
    found = refused(tmp_path)
    assert (found.refused.proposed, found.rows_in) == ({}, 0)
    assert [(each.file, each.format) for each in found.refused.files] == [
        ("a.parquet", "parquet"),
        ("b.docx", "plain text, not docx; if it is a document, name it .txt"),
    ]
    assert refused(tmp_path / "missing.csv").refused.files == []

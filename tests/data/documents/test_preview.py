import json

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

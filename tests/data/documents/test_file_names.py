"""The name of a resume's file is no id: a keyed hash is, and the name is kept without the person's."""

import csv
import json
from datetime import UTC, datetime

import pytest

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.documents.file_names import file_id
from data.documents.preview import preview_source
from data.erasure.erase import named_documents
from data.errors import InputError
from data.redaction.recognisers.file_names import find_file_names
from data.schema import document_id
from data.snapshots.build import build_snapshot
from data.snapshots.tombstones import bury, store_secret

TEXT = "I have cooked in hotels for ten years, and I lead a kitchen of eight.\n"


def source(folder, kind="resume", **fields):
    return SourceConfig(kind=kind, path=str(folder), **fields)


def build(store, folder, *, kind="resume", redact=RedactConfig(), **fields):  # noqa: B008 - frozen
    return build_snapshot(
        store,
        kind=kind,
        sources={"cvs": source(folder, kind, **fields)},
        clean=CleanConfig(),
        redact=redact,
        run_id="run",
        fence=lambda: None,
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "cvs"
    made.mkdir()
    (made / "Zantel_Quivo_CV.txt").write_text(TEXT)
    (made / "Quorin Brackley Lebenslauf.docx").write_bytes(b"PK\x03\x04 broken")
    return made


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Zantel_Quivo_CV.pdf", ["Zantel", "Quivo"]),
        ("cv-zantel-quivo-2024-final.docx", ["zantel", "quivo"]),
        ("2024/Lebenslauf Österquivo.pdf", ["Österquivo"]),
        ("Zantel Quivo.pdf", ["Zantel", "Quivo"]),
        ("张小明_简历.pdf", ["张小明"]),
        ("senior_software_engineer_cv.pdf", []),
        ("welder.pdf", []),
        ("kitchen-rules.pdf", []),
        ("resume 03.pdf", []),
        ("r1.txt", []),
    ],
)
def test_names_in_file_names(name, expected):
    assert [name[span.start : span.end] for span in find_file_names(name)] == expected


def test_nothing_stored_holds_the_name_of_a_file(store, folder):
    snapshot = build(store, folder)
    (document,), (rejected,) = snapshot.table().to_pylist(), snapshot.quarantine().to_pylist()
    stored = json.dumps([document, rejected]) + snapshot.manifest.model_dump_json()
    assert not [name for name in ("Zantel", "Quivo", "Quorin", "Brackley") if name in stored]
    assert document["source_id"] == file_id(store_secret(store), "Zantel_Quivo_CV.txt")
    assert document["doc_id"] == document_id("cvs", document["source_id"])
    assert json.loads(document["metadata"])["file_name"] == "[NAME_1]_[NAME_2]_CV.txt"
    assert document["title"] == "[NAME_1]_[NAME_2]_CV"
    assert rejected["file"].startswith("[NAME_1] [NAME_2] Lebenslauf.docx (file-")


def test_ids_are_stable_in_a_store_and_differ_between_stores(store, folder, tmp_path):
    first = build(store, folder).table()["source_id"].to_pylist()
    (folder / "another.txt").write_text("I am a nurse on a ward for children.\n")
    assert first[0] in build(store, folder).table()["source_id"].to_pylist()
    other = type(store)(tmp_path / "other")
    assert build(other, folder).table()["source_id"].to_pylist() != first


def test_jobs_tables_and_kept_names_keep_their_ids(store, folder, tmp_path):
    assert build(store, folder, kind="job").table()["source_id"].to_pylist() == ["Zantel_Quivo_CV.txt"]
    kept = RedactConfig(resume=("email",))
    other = type(store)(tmp_path / "other")
    assert build(other, folder, redact=kept).table()["source_id"].to_pylist() == ["Zantel_Quivo_CV.txt"]
    with (tmp_path / "Zantel_Quivo.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["id", "text"], ["r1", TEXT]])
    third = type(store)(tmp_path / "third")
    assert build(third, tmp_path / "Zantel_Quivo.csv").table()["source_id"].to_pylist() == ["r1"]


def test_a_json_resume_without_id_is_named_by_its_file_too(store, tmp_path):
    folder = tmp_path / "json"
    folder.mkdir()
    (folder / "zantel_quivo.json").write_text(json.dumps({"text": TEXT}))
    (document,) = build(store, folder).table().to_pylist()
    assert document["source_id"].startswith("file-")
    assert named_documents(store, [], ["zantel_quivo.json"]) == [document["doc_id"]]


def test_a_preview_shows_hidden_names(folder):
    found = preview_source(source(folder), clean=CleanConfig(), redact=RedactConfig())
    assert "Quivo" not in found.model_dump_json() and "Brackley" not in found.model_dump_json()
    assert found.documents[0].id.startswith("file-")


def test_a_document_is_found_by_the_name_of_its_file(store, folder):
    (document,) = build(store, folder).table().to_pylist()
    assert named_documents(store, [], ["Zantel_Quivo_CV.txt"]) == [document["doc_id"]]
    with pytest.raises(InputError, match=r"No document came from a file 'quivo\.txt'"):
        named_documents(store, [], ["quivo.txt"])


@pytest.mark.parametrize("is_former", [True, False])
def test_an_erased_file_does_not_return_under_either_id(store, folder, is_former):
    """Homes of earlier versions buried the name itself."""
    (folder / "another.txt").write_text("I am a nurse on a ward for children.\n")
    name = "Zantel_Quivo_CV.txt"
    buried = name if is_former else file_id(store_secret(store), name)
    bury(store, {document_id("cvs", buried)}, now=datetime(2026, 3, 1, tzinfo=UTC))
    snapshot = build(store, folder)
    assert snapshot.manifest.num_documents == 1
    assert "erased" in snapshot.quarantine()["reason"].to_pylist()


def test_a_message_names_a_damaged_file_once(tmp_path):
    (tmp_path / "empty.pdf").touch()
    (tmp_path / "good.txt").write_text("Welds pressure vessels.")
    found = preview_source(SourceConfig(kind="resume", path=str(tmp_path)), clean=CleanConfig(), redact=RedactConfig())
    assert [each.detail.count("(file-") for each in found.rejected] == [1]

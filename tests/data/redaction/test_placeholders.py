"""Placeholders of personal data are no words: what is encoded, indexed and compared does not hold them."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.config import CleanConfig, SourceConfig
from data.documents.near_duplicates import sketch
from data.redaction.placeholders import PII_TYPES, without_placeholders
from data.schema import encoded_text, sha256_text
from data.snapshots.build import build_snapshot
from llm2vec_core.ranking.words import split_words

CONTACT_LINES = (
    "[EMAIL_1]",
    "[EMAIL_1] | [PHONE_1]",
    "Tel.: [PHONE_1], E-Mail: [EMAIL_1]",
    "• Phone [PHONE_1] / Mobile [PHONE_2]",
    "Name: [NAME_1]; DOB: [BIRTH_DATE_1]",
    "手机：[PHONE_1]",
    "([URL_1])",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[NAME_1]\n[EMAIL_1] | [PHONE_1]\n\nI weld.", "I weld."),
        ("Write to [EMAIL_1] or [PHONE_1]. Soon.", "Write to or. Soon."),
        ("Call us (Tel. [PHONE_1]) today", "Call us today"),
        ("[ADDRESS_1] | Leeds", "Leeds"),
        ("a\n\n[EMAIL_1]\n\nb", "a\n\nb"),
        ("Questions: [EMAIL_1], [PHONE_1]", "Questions"),
        ("[EMAIL_1]", ""),
        ("array[INDEX_1] and [TODO_2]", "array[INDEX_1] and [TODO_2]"),
        ("  kept  as it is  ", "  kept  as it is  "),
    ],
)
def test_placeholders_go_and_blanks_are_closed_up(text, expected):
    assert without_placeholders(text) == expected
    assert without_placeholders(expected) == expected


LINES = st.lists(st.text(alphabet="ab c.,-", min_size=1, max_size=20).map(lambda line: line.strip() or "x"), min_size=1)


@given(st.text(alphabet="Tile x", max_size=9).map(str.strip), LINES, st.sampled_from(CONTACT_LINES), st.data())
def test_a_contact_line_changes_nothing_that_counts(title, lines, contact, data):
    at = data.draw(st.integers(0, len(lines)))
    plain, with_contact = "\n".join(lines), "\n".join([*lines[:at], contact, *lines[at:]])
    assert encoded_text(title, with_contact) == encoded_text(title, plain), "so vectors, words and marks are equal too"
    assert np.array_equal(sketch(encoded_text(title, with_contact)), sketch(encoded_text(title, plain)))


@pytest.mark.parametrize("name", PII_TYPES)
def test_the_tokenizer_knows_every_placeholder(name):
    assert split_words(f"I weld [{name.upper()}_12], daily") == ["i", "weld", "daily"]


def build(store, path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build_snapshot(
        store,
        kind="job",
        sources={"jobs": SourceConfig(kind="job", path=str(path))},
        clean=CleanConfig(),
        run_id="run",
        fence=lambda: None,
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )


def test_a_contact_changes_the_stored_text_and_not_the_content(store, tmp_path):
    path = tmp_path / "jobs.jsonl"
    plain = build(store, path, [{"id": "a", "title": "Florist", "text": "Binds bouquets."}])
    contact = build(store, path, [{"id": "a", "title": "Florist", "text": "Binds bouquets.\nTel: 020 7946 0958"}])
    (before,), (after,) = plain.table().to_pylist(), contact.table().to_pylist()
    assert before["content_sha256"] == after["content_sha256"] == sha256_text("Florist\nBinds bouquets.")
    assert after["text"] == "Binds bouquets.\nTel: [PHONE_1]"
    assert contact.manifest.id != plain.manifest.id, "the stored text is another one"
    assert before["num_chars"] == after["num_chars"]


def test_a_document_of_nothing_but_contacts_is_quarantined(store, tmp_path):
    rows = [{"id": "a", "text": "jane@example.com"}, {"id": "b", "text": "Binds bouquets."}]
    snapshot = build(store, tmp_path / "jobs.jsonl", rows)
    assert snapshot.table()["source_id"].to_pylist() == ["b"]
    (rejected,) = snapshot.quarantine().to_pylist()
    assert (rejected["reason"], rejected["row"]) == ("empty_text", 1)
    assert "personal data" in rejected["detail"]


def test_labels_are_read_where_nothing_else_is(store, tmp_path):
    snapshot = build(
        store, tmp_path / "jobs.jsonl", [{"id": "a", "text": "Tel.: 020 7946 0958\nE-mail: a@example.com"}]
    )
    (document,) = snapshot.table().to_pylist()
    assert document["content_sha256"] == sha256_text("Tel.\nE-mail")


def test_postings_that_differ_by_a_contact_are_duplicates(store, tmp_path):
    rows = [
        {"id": "a", "title": "Florist", "text": "Binds bouquets."},
        {"id": "b", "title": "Florist", "text": "Binds bouquets.\nflowers@example.com"},
    ]
    first, second = build(store, tmp_path / "jobs.jsonl", rows).table().to_pylist()
    assert (first["duplicate_of"], second["duplicate_of"]) == (None, first["doc_id"])

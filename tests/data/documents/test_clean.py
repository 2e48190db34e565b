import json
import zlib

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given
from hypothesis import strategies as st

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.documents.clean import Document, clean_row, clean_text
from data.documents.near_duplicates import NearDuplicateIndex, minhash, sketch
from data.documents.rows import RawRow, RejectedRow
from data.redaction.redact import Redactor
from data.schema import DOCUMENT_SCHEMA, document_id, sha256_text

CONFIG = SourceConfig(kind="job", path="a.jsonl")


def clean(values, **settings):
    return clean_row(
        RawRow("a.jsonl", 7, values),
        source="board",
        config=CONFIG,
        clean=CleanConfig(**settings),
        redactor=Redactor(RedactConfig(), CONFIG.kind),
    )


def test_a_document_has_the_columns_of_the_schema():
    assert list(Document.__dataclass_fields__) == [*DOCUMENT_SCHEMA.names, "contacts"], "its contacts are stored apart"


def test_a_good_row_becomes_a_document():
    document = clean({"id": 12, "title": " Staff\nnurse ", "text": "One.\r\nTwo.", "pay": 3, "description": "short"})
    assert document == Document(
        doc_id=document_id("board", "12"),
        kind="job",
        source="board",
        source_id="12",
        title="Staff nurse",
        text="One.\nTwo.",
        content_sha256=sha256_text("Staff nurse\nOne.\nTwo."),
        metadata_sha256=sha256_text('{"description":"short","pay":3}'),
        metadata='{"description":"short","pay":3}',
        num_chars=21,
    )


@pytest.mark.parametrize("title", [{}, {"title": None}, {"title": "  "}])
def test_the_title_is_optional(title):
    document = clean({"id": "1", "text": "x", **title})
    assert (document.title, document.num_chars) == ("", 1)


def test_a_field_that_is_title_and_text_is_the_text():
    config = SourceConfig(kind="job", path="a", text_field="title")
    redactor = Redactor(RedactConfig(), config.kind)
    row = RawRow("a", 1, {"id": "1", "title": "x"})
    document = clean_row(row, source="s", config=config, clean=CleanConfig(), redactor=redactor)
    assert (document.title, document.text, document.metadata) == ("", "x", "{}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ...}, "missing_id"),
        ({"id": " "}, "missing_id"),
        ({"id": None}, "wrong_type"),
        ({"id": 1.5}, "wrong_type"),
        ({"id": True}, "wrong_type"),
        ({"id": ["1"]}, "wrong_type"),
        ({"id": "1\0"}, "nul_bytes"),
        ({"id": "\ud800"}, "invalid_utf8"),
        ({"id": "x" * 2000}, "id_too_long"),
        ({"title": 5}, "wrong_type"),
        ({"title": "a\0"}, "nul_bytes"),
        ({"text": ...}, "missing_text"),
        ({"text": None}, "missing_text"),
        ({"text": ["x"]}, "wrong_type"),
        ({"text": 5}, "wrong_type"),
        ({"text": {"a": 1}}, "wrong_type"),
        ({"text": "a\0b"}, "nul_bytes"),
        ({"text": ""}, "empty_text"),
        ({"text": " \n\u200b\u00a0"}, "empty_text"),
        ({"text": "x" * 10_000_000}, "text_too_long"),
        ({"title": "x" * 10_000_000}, "text_too_long"),
        ({"more": "x" * 10_000_000}, "metadata_too_long"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason(change, reason):
    values = {"id": "1", "title": "t", "text": "x", **change}
    rejected = clean({name: value for name, value in values.items() if value is not ...})
    assert isinstance(rejected, RejectedRow)
    assert (str(rejected.reason), rejected.file, rejected.row) == (reason, "a.jsonl", 7)
    assert rejected.detail
    assert len(rejected.excerpt) <= 800
    assert rejected.excerpt.isprintable()


def test_markup_is_gone_before_a_document_is_made():
    document = clean(
        {"id": "1", "title": "Cook &amp; <b>chef</b>", "text": "<p>Plans&nbsp;menus</p><ul><li>a<li>b</ul>"}
    )
    assert (document.title, document.text) == ("Cook & chef", "Plans menus\n\na\nb")
    assert clean({"id": "1", "text": "x < 5 and List<String>"}).text == "x < 5 and List<String>"


@pytest.mark.parametrize("empty", ["", " ", "NaN", "N/A", "None", "-", None])
def test_the_description_is_taken_where_the_text_is_empty(empty):
    document = clean({"id": "1", "title": empty, "text": empty, "description": "Plans menus"})
    assert (document.title, document.text, document.metadata) == ("", "Plans menus", "{}")


@pytest.mark.parametrize("empty", ["NaN", "n/a", "null", "--"])
def test_a_word_for_nothing_is_no_text_and_no_id(empty):
    assert clean({"id": "1", "text": empty}).reason == "empty_text"
    assert clean({"id": empty, "text": "x"}).reason == "missing_id"


def test_too_long_a_text_is_not_repaired_first(monkeypatch):
    monkeypatch.setattr("data.documents.clean.clean_text", None)
    assert str(clean({"id": "1", "text": "x" * 11}, max_chars=10).reason) == "text_too_long"


def test_a_text_that_repair_makes_too_long_is_rejected():
    assert str(clean({"id": "1", "text": "\ufb03" * 8}, max_chars=10).reason) == "text_too_long"


def test_metadata_is_valid_json_whatever_the_row_holds():
    values = {"id": "1", "text": "x", "a": float("nan"), "b": {1: [float("inf"), "\ud83d"]}, "c": b"\xff", "d": "\0"}
    document = clean(values)
    assert json.loads(document.metadata) == {"a": None, "b": {"1": [None, "?"]}, "c": "b'\\xff'", "d": "\0"}
    document.metadata.encode()


def test_metadata_nested_too_deeply_is_rejected():
    nested: list[object] = []
    for _ in range(5000):
        nested = [nested]
    assert str(clean({"id": "1", "text": "x", "more": nested}).reason) == "wrong_type"


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a \t b\u00a0c", "a b c"),
        ("a\r\nb\rc\u2028d\x0be", "a\nb\nc\nd\ne"),
        ("a \n\n \n\n b\n", "a\n\nb"),
        ("a\x07b\u200bc\ufeffd\u00ade", "abcde"),
        ("schÃ¶n caf\u0065\u0301", "schön café"),
        ("itâ€™s", "it’s"),
        ("“quoted” – it’s £30", "“quoted” – it’s £30"),
        ("R&amp;D, AT&T, &lt;3 &amp;amp; &nosuch; &#163;", "R&D, AT&T, <3 & &nosuch; £"),
        ("of\ufb01ce", "office"),
        ("cut \ud83d", "cut \ufffd"),
        ("C++ / C# / .NET", "C++ / C# / .NET"),
    ],
)
def test_cleaning_by_example(raw, cleaned):
    assert clean_text(raw) == cleaned


pieces = st.sampled_from(
    ["&amp;", "amp;", "lt;", "&", "\n", " ", "\r", "\x85", "\u200b", "é", "e\u0301", "Ã©", "â€™", "&#13;"]
)


@given(st.text(max_size=200) | st.lists(pieces, max_size=7).map("".join))
def test_cleaning_a_clean_text_changes_nothing(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    cleaned.encode()
    assert "\n\n\n" not in cleaned
    assert "  " not in cleaned


@given(
    st.dictionaries(
        st.sampled_from(["id", "title", "text", "more"]), st.none() | st.integers() | st.text() | st.floats()
    )
)
def test_any_row_becomes_a_document_or_a_reason(values):
    result = clean(values)
    assert isinstance(result, (Document, RejectedRow))
    if isinstance(result, Document):
        again = clean(
            {"id": result.source_id, "title": result.title, "text": result.text, **json.loads(result.metadata)}
        )
        assert again == result


# --- near duplicates --------------------------------------------------------------------------------------------------

WORDS = [f"word{number}" for number in range(400)]


def test_chinese_texts_that_differ_by_a_word_are_near_duplicates():
    text = (
        "本公司诚聘高级焊工一名，负责压力容器和管道的焊接工作，能够看懂图纸，熟练掌握氩弧焊与手工电弧焊，持有特种作业证书。"
        "我们提供有竞争力的薪酬、免费住宿、每周双休以及定期培训机会，欢迎有船厂经历的师傅前来面试，待遇从优，长期有效。"
    )
    index = NearDuplicateIndex(0.9)
    first, second = "0" * 32, "1" * 32
    assert index.add(first, sketch(text)) is None
    assert index.add(second, sketch(text.replace("高级", "中级"))) == first
    assert index.add("2" * 32, sketch(text[::-1])) is None


def test_the_signature_is_that_of_datasketch():
    weights = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
    hashes = [zlib.crc32(word.encode()) for word in WORDS]
    shingles = [sum(h * w for h, w in zip(hashes[i : i + 3], weights, strict=True)) % 2**64 >> 32 for i in range(398)]
    sketch = MinHash(128, seed=1, hashfunc=lambda value: value)
    sketch.update_batch(shingles)
    assert np.array_equal(minhash(" ".join(WORDS)), sketch.hashvalues)


@pytest.mark.parametrize("text", ["", "one", "one two", "one two three"])
def test_short_texts_have_signatures(text):
    assert minhash(text).shape == (128,)
    assert not np.array_equal(minhash(text), minhash("another text"))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_near_duplicates_point_to_the_first_of_their_group(threshold):
    index = NearDuplicateIndex(threshold)
    a, b, c, d, e = (document_id("s", name) for name in "abcde")
    assert index.add(a, sketch(" ".join(WORDS))) is None
    assert index.add(b, sketch(" ".join(reversed(WORDS)))) is None
    assert index.add(c, sketch("  ".join(WORDS).upper())) == a
    assert index.add(d, sketch(" ".join(WORDS))) == a
    assert index.add(e, sketch(" ".join(reversed(WORDS)))) == b


def test_a_small_edit_is_a_near_duplicate_and_another_text_is_not():
    index = NearDuplicateIndex(0.9)
    a, b, c = (document_id("s", name) for name in "abc")
    index.add(a, sketch(" ".join(WORDS)))
    assert index.add(b, sketch(" ".join([*WORDS[:200], "other", *WORDS[201:]]))) == a
    assert index.add(c, sketch(" ".join([*WORDS[:200], *(word + "x" for word in WORDS[200:])]))) is None

"""For each format, the words that an independent second reader finds are the words that are stored."""

import csv
import gzip
import html.parser
import json
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pypdf import PdfReader

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.documents.extract import docx as docx_reader
from data.documents.extract import html as html_reader
from data.documents.extract import odt as odt_reader
from data.documents.extract import page_layout
from data.documents.extract.doc import doc_programs, read_doc
from data.documents.extract.docx import read_docx
from data.documents.extract.extracted import Mark
from data.documents.extract.html import read_html
from data.documents.extract.odt import read_odt
from data.documents.extract.pdf import read_pdf
from data.documents.extract.plain import read_rtf
from data.documents.extract.second_reader import MAX_MISSING_SHARE, missing_share
from data.documents.preview import preview_source
from tests.data.documents.extract.test_office import par, run, table, write_docx, write_odt
from tests.data.documents.extract.test_pdf import lines, write_pdf
from tests.data.documents.readers.test_tables import write_xlsx
from tools.make_printed import DUTIES, GERMAN, LETTER, PRINTED, SKILLS, SUMMARY

OLD_WORD = Path(__file__).parent / "extract" / "files" / "old_word.doc"
PRINTED_FOLDER = Path(__file__).parent / "extract" / "printed"
ROWS = [
    {"id": "1", "title": "Network engineer", "text": f"{SUMMARY}\n\n{LETTER}", "pay": "from thirty thousand"},
    {"id": "2", "title": "Prüfer", "text": GERMAN, "pay": "unknown"},
    {"id": "3", "title": "Splicer, \"fibre\"; senior", "text": "\n".join(DUTIES), "pay": "by agreement"},
]  # fmt: skip


# --- files, and what another reader finds in them ---------------------------------------------------------------------


def write_csv(path):
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, ROWS[0], delimiter=";")
        writer.writeheader()
        writer.writerows(ROWS)


def write_xml(path):
    root = ElementTree.Element("jobs")
    for row in ROWS:
        job = ElementTree.SubElement(root, "job")
        for name, value in row.items():
            ElementTree.SubElement(job, name).text = value
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def write_html(path):
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in SKILLS)
    items = "".join(f"<li>{each}" for each in DUTIES)
    path.write_text(
        f"<html><head><title>Osterfeld</title><style>p {{color: red}}</style></head><body><h1>Imke</h1><p>{SUMMARY}</p>"
        f"<ul>{items}</ul><table>{rows}</table><p>{GERMAN}<br>{LETTER}</body></html>"
    )


def write_ods(path):
    names = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    cells = [[*ROWS[0]], *([*row.values()] for row in ROWS)]
    shown = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>' for cell in row
        )
        + "</table:table-row>"
        for row in cells
    )
    content = (
        f'<office:document-content {names} office:version="1.2"><office:body><office:spreadsheet>'
        f'<table:table table:name="Jobs">{shown}</table:table></office:spreadsheet></office:body>'
        "</office:document-content>"
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        file.writestr("content.xml", content)
        manifest = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
        file.writestr("META-INF/manifest.xml", f'<m:manifest xmlns:m="{manifest}"/>')


class _Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.texts = []
        self._is_left_out = False

    def handle_starttag(self, tag, attrs):
        self._is_left_out = tag in ("style", "script", "head")

    def handle_endtag(self, tag):
        self._is_left_out = self._is_left_out and tag not in ("style", "script", "head")

    def handle_data(self, data):
        self.texts.append("" if self._is_left_out else data)


def html_words(path):
    page = _Page()
    page.feed(path.read_text())
    return " ".join(page.texts)


def zipped_words(path):
    """Every text of every XML part of an archive."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if re.search(r"sheet|s\d\.xml|content\.xml|sharedStrings", name)]
        roots = [ElementTree.fromstring(archive.read(name)) for name in names]
    return " ".join(text for root in roots for text in root.itertext())


def json_words(path):
    def texts(value):
        if isinstance(value, dict):
            return [text for each in value.values() for text in texts(each)]
        return [text for each in value for text in texts(each)] if isinstance(value, list) else [str(value)]

    with pa.input_stream(str(path), compression="detect") as stream:
        raw = stream.read()
    values = json.loads(raw) if raw[:1] == b"[" else [json.loads(line) for line in raw.splitlines()]
    return " ".join(texts(values))


def rtf_words(path):
    """Text of an RTF without its groups of fonts, styles and properties, by patterns."""
    raw = path.read_text("latin-1")
    raw = re.sub(r"\{\\(?:fonttbl|colortbl|stylesheet|info|\*)(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}", "", raw)
    raw = re.sub(r"\\u(\d+)\\'[0-9a-f]{2}", lambda code: chr(int(code[1])), raw)
    raw = re.sub(r"\\'([0-9a-f]{2})", lambda code: bytes.fromhex(code[1]).decode("cp1252"), raw)
    return re.sub(r"\\[a-z]+-?\d* ?|[{}\\]", " ", raw)


def docx_words(path):
    with zipfile.ZipFile(path) as archive:
        root = ElementTree.fromstring(archive.read("word/document.xml"))
    return "\n".join("".join(each.itertext()) for each in root.iter() if each.tag.endswith("}p"))


def odt_words(path):
    with zipfile.ZipFile(path) as archive:
        root = ElementTree.fromstring(archive.read("content.xml"))
    return "\n".join("".join(each.itertext()) for each in root.iter() if each.tag.endswith(("}p", "}h")))


def flat(row):
    return [value.replace("\n", " ") for value in row.values()]


def packed(raw):
    """A frame of Zstandard that states no size, as streams have it."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


def doc_words(path):
    """Runs of letters in an old Word file, whose text lies there in UTF-16, apart from names of its streams."""
    runs = re.findall(rb"(?:[ -~\xa0-\xff\r\n\t]\0){40,}", path.read_bytes())
    return " ".join(run.decode("utf-16-le") for run in runs)


WRITERS = {
    "a.csv": write_csv,
    "a.xlsx": lambda path: write_xlsx(path, Jobs=[[*ROWS[0]], *([*row.values()] for row in ROWS)]),
    "a.ods": write_ods,
    "a.json": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "a.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, ROWS))),
    "a.ndjson": lambda path: path.write_text("\n".join(map(json.dumps, ROWS))),
    "a.tsv": lambda path: path.write_text("\n".join("\t".join(row) for row in [ROWS[0], *map(flat, ROWS)])),
    "a.jsonl.zst": lambda path: path.write_bytes(packed("\n".join(map(json.dumps, ROWS)).encode())),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode())),
    "a.xml": write_xml,
    "a.html": write_html,
    "a.txt": lambda path: path.write_text(f"{SUMMARY}\n{GERMAN}\n{LETTER}", encoding="utf-16"),
    "a.md": lambda path: path.write_text(f"# Osterfeld\n\n{SUMMARY}\n\n- {DUTIES[0]}\n"),
}
SECOND_READERS = {
    ".csv": lambda path: path.read_text().partition("\n")[2],
    ".xlsx": zipped_words,
    ".ods": zipped_words,
    ".json": json_words,
    ".jsonl": json_words,
    ".ndjson": json_words,
    ".zst": json_words,
    ".tsv": lambda path: path.read_text().partition("\n")[2],
    ".gz": json_words,
    ".xml": lambda path: " ".join(ElementTree.parse(path).getroot().itertext()),
    ".html": html_words,
    ".txt": lambda path: path.read_text("utf-16"),
    ".md": Path.read_text,
    ".pdf": lambda path: "\n".join(page.extract_text() for page in PdfReader(path).pages),
    ".docx": docx_words,
    ".odt": odt_words,
    ".rtf": rtf_words,
}


def stored(path):
    """Title, text and further fields of all documents as they would be stored, without redaction."""
    config = SourceConfig(kind="job", path=str(path))
    found = preview_source(config, clean=CleanConfig(), redact=RedactConfig(job=()))
    assert (found.rows_quarantined, found.marks) == (0, {})
    assert found.rows_kept == len(found.documents)
    return "\n".join(f"{each.title}\n{each.text}\n{each.metadata}" for each in found.documents)


@pytest.mark.parametrize("name", [*WRITERS, *(each.name for each in PRINTED)])
def test_the_words_of_a_second_reader_are_stored(tmp_path, name):
    path = tmp_path / name
    if name in WRITERS:
        WRITERS[name](path)
    else:
        path = PRINTED_FOLDER / name
    others = SECOND_READERS[path.suffix](path)
    # What is stored of spreadsheets lacks their headers only.
    headers = " ".join(ROWS[0]) if path.suffix in (".xlsx", ".ods") else ""
    assert len(others.split()) > 40
    assert missing_share(stored(path), others, hidden=headers) <= MAX_MISSING_SHARE


def test_the_words_of_a_parquet_file_are_stored(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    others = " ".join(pq.read_table(tmp_path / "a.parquet").to_pandas().to_numpy().ravel())
    assert missing_share(stored(tmp_path / "a.parquet"), others) <= MAX_MISSING_SHARE


# --- marks ------------------------------------------------------------------------------------------------------------

SENTENCES = [f"Sentence number {word} is about welding." for word in ("one", "two", "three", "four", "five")]


def test_a_pdf_that_lost_a_line_is_marked(tmp_path, monkeypatch):
    path = write_pdf(tmp_path / "a.pdf", lines(*SENTENCES, "Certified inspector"))
    assert read_pdf(path).marks == ()
    whole = page_layout.join_hyphens
    monkeypatch.setattr(page_layout, "join_hyphens", lambda found: whole(found[:-1]))
    assert read_pdf(path).marks == (Mark.WORDS_MISSING,)


def test_a_docx_that_lost_a_table_is_marked(tmp_path, monkeypatch):
    body = "".join(par(run(each)) for each in SENTENCES) + table([par(run("Certified")), par(run("inspector"))])
    path = write_docx(tmp_path / "a.docx", body)
    assert read_docx(path).marks == ()
    monkeypatch.setattr(docx_reader._Walker, "_table", lambda *_: [])
    assert read_docx(path).marks == (Mark.WORDS_MISSING,)


def test_an_odt_that_lost_a_table_is_marked(tmp_path, monkeypatch):
    body = "".join(f"<text:p>{each}</text:p>" for each in SENTENCES)
    comment = "<office:annotation><text:p>Commented midwife</text:p></office:annotation>"
    cells = "<table:table-row><table:table-cell><text:p>Certified</text:p></table:table-cell></table:table-row>"
    path = write_odt(tmp_path / "a.odt", f"{body}<text:p>Nurse{comment}</text:p><table:table>{cells}</table:table>")
    assert read_odt(path).marks == ()
    monkeypatch.setattr(odt_reader, "_PARAGRAPHS", ("h",))
    assert read_odt(path).marks == (Mark.WORDS_MISSING,)


def test_an_html_page_that_lost_a_paragraph_is_marked(monkeypatch):
    page = "<head><title>A</title></head><body><script>one</script>" + "".join(f"<p>{each}" for each in SENTENCES)
    page += "<p style='display:none'>Hidden midwife<p>Certified inspector</body>"
    assert read_html(page).marks == (Mark.HIDDEN_TEXT,)
    monkeypatch.setattr(html_reader, "_LEFT_OUT", frozenset({"p"}))
    assert read_html(page).marks == (Mark.WORDS_MISSING,)


def test_an_rtf_that_lost_a_word_is_marked(tmp_path, monkeypatch):
    path = tmp_path / "a.rtf"
    path.write_text(
        r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}{\*\generator Word}{\info{\title Draft}} "
        + r"\par ".join(SENTENCES)
        + r" Pr\'fcfer}"
    )
    assert read_rtf(path).marks == ()
    monkeypatch.setattr("striprtf.striprtf.rtf_to_text", lambda *_, **__: SENTENCES[0])
    assert read_rtf(path).marks == (Mark.WORDS_MISSING,)


@pytest.mark.skipif(not doc_programs(), reason="no program that reads old Word files")
def test_the_words_of_an_old_word_file_are_stored():
    others = doc_words(OLD_WORD)
    assert "welding pressure vessels" in others
    assert missing_share(read_doc(OLD_WORD).text, others) <= MAX_MISSING_SHARE


def test_a_second_reader_that_fails_says_nothing(tmp_path, monkeypatch):
    path = write_pdf(tmp_path / "a.pdf", lines(*SENTENCES))
    monkeypatch.setattr("pypdf.PdfReader", lambda _: 1 / 0)
    assert read_pdf(path).marks == ()


@pytest.mark.parametrize(
    ("text", "other", "share"),
    [
        ("Built a Kubernetes cluster", "Builta Kuber- netes cluster", 0),
        ("Prüfer, Straße", "Pr¨ufer STRASSE", 0),
        ("office fluid", "o\ufb03ce \ufb02uid", 0),
        ("سمهند Python", "دنهمسpython", 0),
        ("Nurse", "Nurse and midwife", 2 / 3),
        ("Nurse", "Nurse hidden", 0.5),
        ("Nurse", "12 %", 0),
    ],
)
def test_words_are_compared_by_their_letters(text, other, share):
    assert missing_share(text, other) == pytest.approx(share)


def test_words_that_were_left_out_on_purpose_are_not_missing():
    assert missing_share("Nurse", "Nurse hidden", hidden="hidden") == 0

"""Malformed and hostile files, and their reading within limits, in processes of their own.

``python -m tests.data.documents.hostile write FOLDER COUNT`` writes files, ``… read FOLDER`` reads them and prints one
JSON object: files, outcomes, processor milliseconds per file and peak memory. Documents of a folder are read together,
by worker processes. Tables are read one by one, because a table that cannot be read refuses its source.
"""

import gzip
import io
import json
import random
import resource
import struct
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.documents.preview import preview_source
from data.documents.readers.formats import TABLES, promised_format
from tests.data.documents.extract.test_office import STRICT, WORD, control, par, run, table, write_docx, write_odt
from tests.data.documents.extract.test_pdf import lines, write_pdf
from tests.data.documents.readers.test_tables import FEED, write_xlsx

MAX_ADDRESS_BYTES = 6 * 2**30
"""Limit of this process; workers have their own, smaller one."""
SUFFIXES = (
    ".pdf", ".docx", ".csv", ".tsv", ".jsonl", ".json", ".xml", ".xlsx", ".ods", ".odt", ".rtf", ".html", ".txt",
    ".parquet", ".csv.gz", ".pdf.gz", ".zst",
)  # fmt: skip
PRINTED = Path(__file__).parent / "extract" / "printed"


def seeds():
    """Small sound files of every format, as bytes by suffix; several per suffix."""
    found = [(path.suffix, path.read_bytes()) for path in sorted(PRINTED.iterdir())]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pdf(folder / "a.pdf", lines("Certified welder", "with eleven years"), lines("in shipyards"))
        write_docx(folder / "a.docx", par(run("Certified welder")), headers=[par(run("Rosa"))])
        write_docx(folder / "strict.docx", par(run("Certified welder")), namespace=STRICT)
        write_odt(folder / "a.odt", "<text:p>Certified welder</text:p>")
        write_xlsx(folder / "a.xlsx", Jobs=[["id", "text"], [1, "Cook"], [2, "Baker"]])
        rows = [{"id": f"{number}", "text": f"Cook {number}"} for number in range(200)]
        pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
        (folder / "a.csv").write_text('id;text\n1;"Cook; baker"\n2;Nurse\n')
        (folder / "a.tsv").write_text("id\ttext\n1\tCook\n2\tNurse\n")
        (folder / "a.csv.gz").write_bytes(gzip.compress(b"id,text\n1,Cook\n2,Nurse\n"))
        (folder / "a.jsonl").write_text('{"id": 1, "text": "Cook"}\n{"id": 2, "text": "Nurse"}\n')
        (folder / "a.json").write_text('[{"id": 1, "text": "Cook"}, {"id": 2, "text": "Nurse"}]')
        (folder / "a.xml").write_text(FEED)
        (folder / "a.rtf").write_text(r"{\rtf1\ansi {\b Nurse} with nine years}")
        (folder / "a.html").write_text("<html><body><p>Nurse &amp; midwife</p></body></html>")
        found += [("".join(path.suffixes), path.read_bytes()) for path in sorted(folder.iterdir())]
    return found


def damaged(content, chance):
    """A file that was cut, overwritten, or put together wrongly."""
    raw = bytearray(content)
    at = chance.randrange(len(raw))
    way = chance.choice(["cut", "flip", "swap", "insert", "zero", "repeat"])
    if way == "cut":
        return bytes(raw[:at])
    if way == "flip":
        for _ in range(chance.randint(1, 20)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
    elif way == "swap":
        raw = raw[at:] + raw[:at]
    elif way == "insert":
        raw[at:at] = chance.randbytes(200)
    elif way == "zero":
        raw[at : at + 50] = bytes(len(raw[at : at + 50]))
    else:
        raw += raw[at:]
    return bytes(raw)


# --- made to harm -----------------------------------------------------------------------------------------------------


def archive(**parts):
    """A deflated archive; ``__`` in a name stands for a slash, ``_xml`` for its suffix."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name.replace("__", "/").replace("_xml", ".xml"), content)
    return buffer.getvalue()


def lying(packed, size_bytes):
    """An archive whose directory gives another unpacked size for every member."""
    raw = bytearray(packed)
    at = raw.find(b"PK\x01\x02")
    while at >= 0:
        raw[at + 24 : at + 28] = struct.pack("<I", size_bytes)
        at = raw.find(b"PK\x01\x02", at + 4)
    return bytes(raw)


def pdf(*objects, page="", trailer=""):
    """A PDF of objects from number 4 on; its cross-references are missing, so readers rebuild them."""
    body = [
        b"1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj",
        b"2 0 obj << /Type /Pages /Kids [3 0 R] /Count 1 >> endobj",
        f"3 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] {page} >> endobj".encode(),
        *(b"%d 0 obj %s endobj" % (number, content) for number, content in enumerate(objects, 4)),
    ]
    return b"%PDF-1.7\n" + b"\n".join(body) + f"\ntrailer << /Root 1 0 R {trailer} >>\n%%EOF".encode()


def stream(content, *, length=None, filters="/FlateDecode"):
    length = len(content) if length is None else length
    return f"<< /Filter {filters} /Length {length} >>\nstream\n".encode() + content + b"\nendstream"


def document_xml(body):
    return f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'


def hostile(mib):
    """Name and content of files that were made to harm their readers; the large ones have up to 300 ``mib``."""
    entities = '<!DOCTYPE x [<!ENTITY a "zzzzzzzzzz">' + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    bomb = f"{entities}]>"
    outside = '<!DOCTYPE x [<!ENTITY i SYSTEM "file:///etc/passwd">]>'
    words = par(run("Certified welder"))
    relations = '<Relationships xmlns="urn:r"><Relationship Id="a" Type="http://x/header" Target="{}"/></Relationships>'
    yield "bomb.docx", archive(word__document_xml=document_xml(" " * (300 * mib)))
    yield "lying.docx", lying(archive(word__document_xml=document_xml(" " * (40 * mib))), 100)
    yield "lying-more.docx", lying(archive(word__document_xml=document_xml(words)), 2**31)
    yield "many-parts.docx", archive(**{f"word__{number}_xml": "" for number in range(20_000)})
    yield "entities.docx", archive(word__document_xml=bomb + document_xml(par(run("&i;"))))
    yield "outside.docx", archive(word__document_xml=outside + document_xml(par(run("&i;"))))
    for target in ("NULL", "", "../../../../etc/passwd", "document.xml", "\u0000".encode().decode()):
        rels = {"word___rels__document_xml.rels": relations.format(target.replace("\0", "&#xFFFE;"))}
        yield f"target-{len(target)}.docx", archive(word__document_xml=document_xml(words), **rels)
    yield "no-body.docx", archive(word__document_xml="<x/>")
    yield "paragraphs.docx", archive(word__document_xml=document_xml("<w:p/>" * 900_000))
    nested = words
    for _ in range(120):
        nested = table([nested])
    yield "tables.docx", archive(word__document_xml=document_xml(nested))
    controls = words
    for _ in range(5000):
        controls = control(controls)
    yield "controls.docx", archive(word__document_xml=document_xml(controls))
    styles = '<w:styles xmlns:w="w">' + "".join(
        f'<w:style w:styleId="{number}"><w:basedOn w:val="{(number + 1) % 500}"/></w:style>' for number in range(500)
    )
    yield "styles.docx", archive(word__document_xml=document_xml(words), word__styles_xml=styles + "</w:styles>")
    yield "bomb.odt", archive(mimetype="application/vnd.oasis.opendocument.text", content_xml=" " * (300 * mib))
    yield "entities.odt", archive(mimetype="application/vnd.oasis.opendocument.text", content_xml=f"{bomb}<x>&i;</x>")
    yield "empty-parts.xlsx", archive(xl__workbook_xml="<workbook/>", xl__worksheets__s1_xml="<worksheet/>")
    yield "lying.xlsx", lying(archive(xl__workbook_xml="<workbook/>" + " " * (20 * mib)), 50)
    for kind in ("csv", "jsonl", "json", "txt", "html", "md", "rtf", "tsv", "xml"):
        yield f"line.{kind}", b"x" * (10 * mib)
        yield f"zeros.{kind}", bytes(mib)
        yield f"open.{kind}", b'"' * mib
    yield "line-in-json.jsonl", b'{"id": 1, "text": "' + b"x" * (10 * mib) + b'"}'
    for depth in (500, 100_000):
        yield f"deep{depth}.json", b"[" * depth
        yield f"deep-object{depth}.jsonl", b'{"a":' * depth
        yield f"deep{depth}.xml", b"<?xml version='1.0'?>" + b"<a>" * depth
        yield f"deep{depth}.html", b"<div>" * depth + b"x"
        yield f"deep{depth}.rtf", b"{\\rtf1 " + b"{" * depth
        yield f"deep{depth}.pdf", pdf(b"[" * depth + b"]" * depth, page="/Contents 4 0 R")
        yield f"deep-dict{depth}.pdf", pdf(b"<< /A " * depth, page="/Resources 4 0 R")
    yield "entities.xml", f"<?xml version='1.0'?>{bomb}<jobs><job><id>1</id><text>&i;</text></job></jobs>".encode()
    yield "outside.xml", f"<?xml version='1.0'?>{outside}<jobs><job><id>1</id><text>&i;</text></job></jobs>".encode()
    yield "entities.html", f"{bomb}<p>&i;</p>".encode()
    yield "bomb.csv.gz", gzip.compress(bytes(200 * mib))
    yield "cut.csv.gz", gzip.compress(b"id,text\n1,Cook\n" * 1000)[:-20]
    yield "no.csv.gz", b"id,text\n1,Cook\n"
    yield "size.csv.gz", gzip.compress(b"id,text\n1,Cook\n")[:-4] + b"\xff\xff\xff\xff"
    yield "bomb.pdf", pdf(stream(zlib.compress(bytes(300 * mib), 9)), page="/Contents 4 0 R")
    twice = zlib.compress(zlib.compress(bytes(300 * mib), 9), 9)
    yield "bomb-twice.pdf", pdf(stream(twice, filters="[/FlateDecode /FlateDecode]"), page="/Contents 4 0 R")
    text = zlib.compress(b"BT /F1 10 Tf 72 700 Td (Certified welder) Tj ET")
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    resources = "/Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >>"
    yield "length.pdf", pdf(stream(text, length=10**9), font, page=resources)
    yield "negative.pdf", pdf(stream(text, length=-1), font, page=resources)
    yield "filter.pdf", pdf(stream(text, filters="/LZWDecode"), font, page=resources)
    yield "self.pdf", pdf(b"4 0 R", page="/Contents 4 0 R")
    yield "loop.pdf", pdf(b"5 0 R", b"4 0 R", page="/Contents 4 0 R /Resources 5 0 R")
    drawn = stream(zlib.compress(b"/X Do"))
    yield "forms.pdf", pdf(drawn, drawn, page="/Contents 4 0 R /Resources << /XObject << /X 5 0 R >> >>")
    yield "kids.pdf", pdf().replace(b"/Kids [3 0 R]", b"/Kids [2 0 R 2 0 R 3 0 R]")
    yield "count.pdf", pdf().replace(b"/Count 1", b"/Count 2000000000")
    pages = pdf().replace(b"/Kids [3 0 R]", b"/Kids [" + b"3 0 R " * 50_000 + b"]")
    yield "pages.pdf", pages.replace(b"/Count 1", b"/Count 50000")
    yield "box.pdf", pdf(stream(text), font, page=resources).replace(b"612 792", b"1e38 -1e38")
    yield "many.pdf", pdf(stream(zlib.compress(b"BT /F1 1 Tf " + b"(x) Tj " * 200_000 + b"ET")), font, page=resources)
    yield "prev.pdf", pdf(stream(text), font, page=resources, trailer="/Prev 9") + b"\nstartxref\n9\n%%EOF"
    yield "rtf-groups.rtf", b"{\\rtf1 " + b"{\\*\\x " * 50_000
    yield "rtf-bin.rtf", b"{\\rtf1 \\bin999999999 x}"
    yield "bytes.txt", bytes(range(256)) * 1000
    yield "names.jsonl", json.dumps({f"field{number}": "x" for number in range(50_000)}).encode()
    yield "columns.csv", b",".join(b"c%d" % number for number in range(50_000)) + b"\n1,2\n"
    yield "number.json", b'[{"id": ' + b"9" * 200_000 + b', "text": "x"}]'
    yield "surrogates.jsonl", b'{"id": "\\ud800", "text": "\\udc00"}\n'
    for name in ("empty.pdf", "empty.docx", "empty.csv", "empty.json", "empty.txt", "empty.xlsx", "empty.csv.gz"):
        yield name, b""


def write_files(folder, count, seed=19):
    """Write ``count`` files: hostile ones and as many damaged ones at least. Of few files none is large."""
    chance = random.Random(seed)
    made = list(hostile(2**20 if count > 500 else 2**12))
    made = chance.sample(made, min(len(made), count // 2))
    whole = seeds()
    while len(made) < count:
        suffix, content = chance.choice(whole)
        made.append(
            (f"damaged{chance.choice(SUFFIXES) if chance.random() < 0.2 else suffix}", damaged(content, chance))
        )
    for number, (name, content) in enumerate(made):
        (folder / f"{number:04}-{name}").write_bytes(content)


def read_all(folder):
    """Read every file. Returns the outcomes and figures as JSON values."""
    documents, tables = folder / "documents", folder / "tables"
    for each in (documents, tables):
        each.mkdir()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            path.rename((tables if promised_format(path.name) in TABLES else documents) / path.name)
    before = _cpu_seconds()
    outcomes = Counter()
    num_files = len(list(documents.iterdir()))
    found = _preview(documents)
    outcomes.update(found.quarantine_reasons, kept=found.rows_kept)
    assert found.refused is None
    assert found.rows_in == found.rows_kept + found.rows_quarantined
    named = outcomes["unsupported_file"] + outcomes["unreadable_file"]
    assert num_files <= sum(found.formats.values()) + named + len(found.skipped), "every file was read or rejected"
    for path in sorted(tables.iterdir()):
        num_files += 1
        found = _preview(path)
        assert found.rows_in == found.rows_kept + found.rows_quarantined
        outcomes.update(found.quarantine_reasons, kept=found.rows_kept)
        if found.refused is not None:
            outcomes["refused"] += 1
            assert len(found.refused.error) < 5000
    # The kernel hands the peak of getrusage on from the process that started this one; VmHWM is this one's own.
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    peak_kib = {"self": int(own.split()[1]), "workers": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}
    return {
        "files": num_files,
        "outcomes": dict(outcomes),
        "cpu_ms": 1000 * (_cpu_seconds() - before) / num_files,
        "peak_mb": {name: kib / 1024 for name, kib in peak_kib.items()},
    }


def _preview(path):
    config = SourceConfig(kind="resume", path=str(path))
    return preview_source(config, clean=CleanConfig(), redact=RedactConfig(resume=()))


def _cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_files(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))
        sys.stdout.write(json.dumps(read_all(Path(sys.argv[2]))))

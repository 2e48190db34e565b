import zlib
from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DictionaryObject, NameObject

from data.config import SourceConfig
from data.documents.extract import pdf
from data.documents.extract.extracted import ImplausibleTextError, Mark, ScannedError, implausibility
from data.documents.extract.page_layout import join_hyphens
from data.documents.extract.pdf import read_pdf
from data.documents.rows import RejectReason
from data.documents.sources import read_rows

HELVETICA = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def line(text, x, y, size=10):
    return f"BT /F1 {size} Tf 1 0 0 1 {x} {y} Tm ({text}) Tj ET"


def lines(*texts, x=72, y=740):
    return "\n".join(line(text, x, y - 14 * number) for number, text in enumerate(texts))


def write_pdf(path, *pages, font=HELVETICA, further=(), form="", on_page=""):
    """A PDF written by hand: the content of each page, further objects from number 100 on."""
    kids = " ".join(f"{10 + 2 * number} 0 R" for number in range(len(pages)))
    objects = {
        1: f"<< /Type /Catalog /Pages 2 0 R {form} >>".encode(),
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        3: font.encode(),
    }
    for number, content in enumerate(pages):
        at = 10 + 2 * number
        objects[at] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {at + 1} 0 R {on_page}"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        ).encode()
        packed = zlib.compress(content.encode("cp1252"))
        objects[at + 1] = b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(packed), packed)
    objects.update({100 + number: body.encode() for number, body in enumerate(further)})
    raw, table = b"%PDF-1.7\n", []
    for number, body in objects.items():
        table.append(b"%d 1\n%010d 00000 n \n" % (number, len(raw)))
        raw += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (max(objects) + 1, len(raw))
    path.write_bytes(raw + b"xref\n0 1\n0000000000 65535 f \n" + b"".join(table) + trailer)
    return path


def composite_font(words):
    """A font with codes of its own, as TeX's: code 32 is a letter, no code is a space. Returns it and its codes."""
    letters = sorted({char for word in words for char in word})
    codes = {char: 32 + number for number, char in enumerate(letters)}
    pairs = "\n".join(f"<{code:04x}> <{ord(char):04x}>" for char, code in codes.items())
    to_unicode = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        f"1 begincodespacerange <0000> <ffff> endcodespacerange\n{len(codes)} beginbfchar\n{pairs}\nendbfchar\n"
        "endcmap end end"
    )
    further = [
        "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Own /DW 500 /CIDToGIDMap /Identity"
        " /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /FontDescriptor 102 0 R >>",
        f"<< /Length {len(to_unicode)} >>\nstream\n{to_unicode}\nendstream",
        "<< /Type /FontDescriptor /FontName /Own /Flags 4 /FontBBox [0 -200 1000 900] /ItalicAngle 0 /Ascent 900"
        " /Descent -200 /CapHeight 700 /StemV 80 >>",
    ]
    font = (
        "<< /Type /Font /Subtype /Type0 /BaseFont /Own /Encoding /Identity-H /DescendantFonts [100 0 R]"
        " /ToUnicode 101 0 R >>"
    )
    return font, further, codes


# --- words ------------------------------------------------------------------------------------------------------------


def test_words_are_apart_where_a_tex_font_has_no_space(tmp_path):
    words = [
        "Built",
        "a",
        "billing",
        "pipeline",
        "in",
        "Python",
        "and",
        "ran",
        "Kubernetes",
        "clusters",
        "for",
        "four",
        "teams",
    ]
    font, further, codes = composite_font(words)
    shown = " -333 ".join("<" + "".join(f"{codes[char]:04x}" for char in word) + ">" for word in words)
    path = write_pdf(tmp_path / "a.pdf", f"BT /F1 10 Tf 1 0 0 1 40 740 Tm [{shown}] TJ ET", font=font, further=further)
    assert read_pdf(path).text == " ".join(words)


def test_a_space_that_is_drawn_with_a_control_character_is_one(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", line("Nurse\\001with\\001nine\\001years", 72, 740))
    assert read_pdf(path).text == "Nurse with nine years"


def test_ligatures_are_letters_and_divided_words_are_whole(tmp_path):
    path = write_pdf(
        tmp_path / "a.pdf",
        lines("I ran the Kuber-", "netes clusters and the data ware-", "house of a well-", "known clinic"),
    )
    assert read_pdf(path).text == "I ran the Kubernetes clusters and the data warehouse of a well-known clinic"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["a Kuber-", "netes"], "a Kubernetes"),
        (["a full-", "time post"], "a full-time post"),
        (["e-mail and cloud-native,", "also cloud-", "native"], "e-mail and cloud-native,\nalso cloud-native"),
        (["a co-", "founder co-", "ordinated and short-", "ened it"], "a co-founder coordinated and shortened it"),
        (["SAP-", "Berater"], "SAP-Berater"),
        (["2019-", "today"], "2019-\ntoday"),
        (["- one", "- two -", "three"], "- one\n- two -\nthree"),
    ],
)
def test_a_hyphen_at_the_end_of_a_line(found, expected):
    assert join_hyphens(found) == expected


def test_a_soft_hyphen_that_is_drawn_stays(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", line("A start\\255up with long\\255term plans", 72, 740))
    assert read_pdf(path).text == "A start-up with long-term plans"


# --- layout -----------------------------------------------------------------------------------------------------------


def rows(left, right, *, x=360):
    both = [
        (line(a, 72, 740 - 14 * at), line(b, x, 740 - 14 * at))
        for at, (a, b) in enumerate(zip(left, right, strict=True))
    ]
    return "\n".join(part for pair in both for part in pair)


def test_columns_drawn_row_by_row_are_read_one_after_the_other(tmp_path):
    left = ["EXPERIENCE", "Led the wages team of six", "people at a grocery firm", "and its 900 shops."]
    right = ["SKILLS", "Excel", "DATEV", "SAP HCM"]
    path = write_pdf(tmp_path / "a.pdf", rows(left, right))
    assert read_pdf(path).text.split("\n") == [*left, "", *right]


def test_a_table_and_dates_at_the_right_are_read_row_by_row(tmp_path):
    table = rows(["Languages", "Tools", "Licence", "Degree"], ["German, English", "Excel, SAP", "Forklift", "Welding"])
    assert "Tools Excel, SAP" in read_pdf(write_pdf(tmp_path / "a.pdf", table)).text
    posts = ["Head cook at the Grand", "and at the Little Inn", "with a staff of nine", "for all the seasons"]
    dated = rows(posts, ["2019 - 2024", "2015 - 2019", "2012 - 2015", "2010"], x=480)
    assert "Head cook at the Grand 2019 - 2024" in read_pdf(write_pdf(tmp_path / "b.pdf", dated)).text
    listed = rows(["-", "-", "a.", "-"], ["baked bread", "sold rolls", "kept books", "led staff"], x=100)
    assert read_pdf(write_pdf(tmp_path / "c.pdf", listed)).text.startswith("- baked bread\n- sold rolls\na. kept")
    labelled = rows(
        ["Lives:", "Works:", "Email:", "Skype:"], ["at the old mill in Bath", "and sings", "a@b.example", "rosa"]
    )
    assert "Works: and sings" in read_pdf(write_pdf(tmp_path / "d.pdf", labelled)).text


def test_values_of_form_fields_stand_behind_their_labels(tmp_path):
    field = "<< /Type /Annot /Subtype /Widget /FT /Tx /T (f1) /V (eight years of midwifery) /Rect [200 715 500 735] >>"
    path = write_pdf(
        tmp_path / "a.pdf",
        lines("FORM", "Experience:", "Signature"),
        further=[field],
        form="/AcroForm << /Fields [100 0 R] >>",
        on_page="/Annots [100 0 R]",
    )
    assert read_pdf(path).text == "FORM\nExperience: eight years of midwifery\nSignature"


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_turned_pages_and_turned_text_are_read_from_top_to_bottom(tmp_path, turn):
    texts = ["Certified welder", "with eleven years", "in shipyards", "and on sites"]
    for in_content in (False, True):
        writer = PdfWriter(clone_from=PdfReader(write_pdf(tmp_path / "a.pdf", lines(*texts))))
        writer.pages[0].rotate(turn)
        if in_content:
            writer.pages[0].transfer_rotation_to_content()
        writer.write(tmp_path / "b.pdf")
        assert read_pdf(tmp_path / "b.pdf").text.split("\n") == texts


# --- hidden text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        f"1 1 1 rg {line('python kubernetes director', 72, 600)}",
        line("python kubernetes director", 72, 600, size=2),
        line("python kubernetes director", 72, -300),
        f"3 Tr {line('python kubernetes director', 72, 600)}",
    ],
    ids=["white", "tiny", "off the page", "invisible"],
)
def test_text_that_nobody_sees_is_left_out_and_marked(tmp_path, content):
    found = read_pdf(write_pdf(tmp_path / "a.pdf", f"{line('Junior clerk.', 72, 740)} {content}"))
    assert (found.text, found.marks) == ("Junior clerk.", (Mark.HIDDEN_TEXT,))


def test_white_text_on_a_dark_ground_is_seen(tmp_path):
    banner = f"0 0 0.5 rg 0 700 612 92 re f 1 1 1 rg {line('Rosa Muster', 72, 740)} 0 g {line('Welder', 72, 600)}"
    found = read_pdf(write_pdf(tmp_path / "a.pdf", banner))
    assert (found.text, found.marks) == ("Rosa Muster\n\nWelder", ())


# --- scans, passwords, broken files -----------------------------------------------------------------------------------


def test_pages_without_text_are_marked_and_a_document_of_them_is_a_scan(tmp_path):
    found = read_pdf(write_pdf(tmp_path / "a.pdf", line("Scanned by a copier", 72, 740), "q Q"))
    assert (found.text, found.marks) == ("Scanned by a copier", (Mark.PAGES_WITHOUT_TEXT,))
    assert found.pages_without_text == 1
    with pytest.raises(ScannedError, match="none of the 2 page"):
        read_pdf(write_pdf(tmp_path / "b.pdf", "q Q", "q Q"))


def test_an_empty_password_opens_and_another_one_does_not(tmp_path):
    plain = write_pdf(tmp_path / "a.pdf", line("Certified welder", 72, 740))
    for password in ("", "secret"):
        writer = PdfWriter(clone_from=PdfReader(plain))
        writer.encrypt(password, owner_password="owner", algorithm="AES-256")
        writer.write(tmp_path / f"locked{password}.pdf")
    assert read_pdf(tmp_path / "locked.pdf").text == "Certified welder"
    with pytest.raises(ValueError, match="needs a password"):
        read_pdf(tmp_path / "lockedsecret.pdf")


def test_attachments_are_marked(tmp_path):
    writer = PdfWriter(clone_from=PdfReader(write_pdf(tmp_path / "a.pdf", line("See the attachment", 72, 740))))
    writer.add_attachment("cv.txt", b"Welder")
    writer.write(tmp_path / "b.pdf")
    assert read_pdf(tmp_path / "b.pdf").marks == (Mark.ATTACHMENTS,)


def test_an_implausible_text_is_read_again_and_else_refused(tmp_path, monkeypatch):
    path = write_pdf(tmp_path / "a.pdf", lines(*["Builtabillingpipelineinpythonandranit"] * 3))
    with pytest.raises(ImplausibleTextError, match="letters on average"):
        read_pdf(path)
    monkeypatch.setattr(pdf, "_second_reader", lambda path: "Built a billing pipeline in Python and ran it for years")
    found = read_pdf(path)
    assert (found.marks, found.text[:9]) == ((Mark.SECOND_READER,), "Built a b")


def test_a_file_that_the_first_reader_cannot_open_is_read_by_the_second(tmp_path, monkeypatch):
    path = write_pdf(tmp_path / "a.pdf", line("Certified welder", 72, 740))

    def fail(path, **_):
        raise RuntimeError("failed to load page")

    monkeypatch.setattr(pdf, "_first_reader", fail)
    found = read_pdf(path)
    assert (found.text.strip(), found.marks) == ("Certified welder", (Mark.SECOND_READER,))
    monkeypatch.setattr(pdf, "_second_reader", lambda path: "")
    with pytest.raises(RuntimeError, match="failed to load page"):
        read_pdf(path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Certified welder with eleven years in shipyards and on sites.", None),
        ("経験三年以上の看護師を募集しています。" * 4, None),
        ("Donaudampfschifffahrtsgesellschaftskapitän sucht eine Stelle an Bord eines Schiffes", None),
        ("\ue001\ue002 " * 40, "unknown"),
        ("12 34 5 / 66 (7) 88 99 + 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19", "letters"),
        ("W e l d s p r e s s u r e v e s s e l s f o r e l e v e n y e a r s i n t h e y a r d", "single"),
    ],
)
def test_what_is_plausible(text, fault):
    found = implausibility(text)
    assert found is None if fault is None else fault in found


def test_limits_are_kept(tmp_path, monkeypatch):
    path = write_pdf(tmp_path / "a.pdf", *[line("Welder", 72, 740)] * 3)
    monkeypatch.setattr(pdf, "MAX_PAGES", 2)
    with pytest.raises(ValueError, match="3 pages, at most 2"):
        read_pdf(path)
    monkeypatch.setattr(pdf, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(ValueError, match=r"bytes, at most 100"):
        read_pdf(path)


def test_a_damaged_file_is_an_error(tmp_path):
    Path(tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n" + b"\xff\x00 garbage" * 50)
    with pytest.raises(Exception, match=r".+"):
        read_pdf(tmp_path / "a.pdf")


def attached(path, text, names, *, is_portfolio=False):
    writer = PdfWriter(clone_from=write_pdf(path, lines(*text.split("\n"))))
    for name in names:
        writer.add_attachment(name, b"content")
    if is_portfolio:
        writer.root_object[NameObject("/Collection")] = DictionaryObject({NameObject("/View"): NameObject("/D")})
    writer.write(path)
    return path


def test_attached_files_are_named(tmp_path):
    found = read_pdf(attached(tmp_path / "a.pdf", "Welds pressure vessels in Kiel.", ["Zeugnis_2019.pdf", "photo.jpg"]))
    assert found.marks == (Mark.ATTACHMENTS,)
    assert found.attachments == ("Zeugnis 2019.pdf", "photo.jpg"), "blanks, so that redaction sees names"
    (row,) = read_rows(SourceConfig(kind="resume", path=str(tmp_path / "a.pdf")))
    assert row.values["attachments"] == ["Zeugnis 2019.pdf", "photo.jpg"]
    with pytest.raises(ScannedError, match="attached: cv"):
        read_pdf(attached(tmp_path / "b.pdf", "", ["cv.pdf"]))


def test_a_portfolio_is_quarantined_and_its_files_are_named(tmp_path):
    sheet = "For the best experience, open this PDF portfolio in Acrobat X."
    path = attached(tmp_path / "a.pdf", sheet, ["cv.pdf", "letter.docx"], is_portfolio=True)
    (row,) = read_rows(SourceConfig(kind="resume", path=str(path)))
    assert row.reason is RejectReason.UNSUPPORTED_FILE
    assert row.detail == "a portfolio of 2 file(s): cv.pdf, letter.docx; save each as a file of its own"
    whole = "Welds pressure vessels in Kiel.\n" * 40
    assert read_pdf(attached(tmp_path / "b.pdf", whole, ["cv.pdf"], is_portfolio=True)).marks == (Mark.ATTACHMENTS,)

import zipfile

import docx
import pytest

from data.documents.extract import archive
from data.documents.extract import docx as docx_reader
from data.documents.extract.docx import read_docx
from data.documents.extract.extracted import Mark
from data.documents.extract.odt import read_odt

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"


def write_docx(path, body, *, namespace=WORD, styles="", headers=(), footers=(), rels=""):
    """A DOCX of its parts as XML."""
    related = "".join(
        f'<Relationship Id="{kind}{number}" Type="http://x/{kind}" Target="{kind}{number}.xml"/>'
        for kind, parts in (("header", headers), ("footer", footers))
        for number in range(len(parts))
    )
    mc = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" xmlns:v="urn:v" xmlns:wps="urn:wps"'
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "word/document.xml", f'<w:document xmlns:w="{namespace}" {mc}><w:body>{body}</w:body></w:document>'
        )
        file.writestr("word/styles.xml", f'<w:styles xmlns:w="{namespace}">{styles}</w:styles>')
        file.writestr("word/_rels/document.xml.rels", f'<Relationships xmlns="urn:r">{related}{rels}</Relationships>')
        for kind, parts in (("header", headers), ("footer", footers)):
            for number, part in enumerate(parts):
                name = "hdr" if kind == "header" else "ftr"
                file.writestr(f"word/{kind}{number}.xml", f'<w:{name} xmlns:w="{namespace}">{part}</w:{name}>')
    return path


def run(text, properties=""):
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def par(*runs, properties=""):
    return f"<w:p><w:pPr>{properties}</w:pPr>{''.join(runs)}</w:p>"


def table(*rows):
    cells = "".join(f"<w:tr>{''.join(f'<w:tc>{cell}</w:tc>' for cell in row)}</w:tr>" for row in rows)
    return f"<w:tbl><w:tblPr/>{cells}</w:tbl>"


def control(content):
    return f"<w:sdt><w:sdtPr/><w:sdtContent>{content}</w:sdtContent></w:sdt>"


# --- DOCX -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", [WORD, STRICT])
def test_content_controls_of_all_kinds_are_read(tmp_path, namespace):
    body = (
        control(par(run("Midwife on a maternity ward.")))
        + par(run("Employer: "), control(run("St Anne")), run(", since 2020"))
        + control(table([par(run("Course")), control(par(run("Ventilation")))]))
    )
    found = read_docx(write_docx(tmp_path / "a.docx", body, namespace=namespace))
    assert found.text.split("\n") == [
        "Midwife on a maternity ward.",
        "Employer: St Anne, since 2020",
        "Course | Ventilation",
    ]


def test_a_text_box_is_read_once(tmp_path):
    box = f"<w:txbxContent>{par(run('Skills: IFRS, payroll'))}</w:txbxContent>"
    both = (
        f"<mc:AlternateContent><mc:Choice><wps:txbx>{box}</wps:txbx></mc:Choice>"
        f"<mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent>"
    )
    found = read_docx(write_docx(tmp_path / "a.docx", par(run("Accountant"), f"<w:r>{both}</w:r>")))
    assert found.text.split("\n") == ["Accountant", "Skills: IFRS, payroll"]


def test_tracked_changes_are_read_as_accepted(tmp_path):
    body = (
        par(
            run("I led "),
            "<w:del><w:r><w:delText>five</w:delText></w:r></w:del>",
            f"<w:ins>{run('nine')}</w:ins>",
            run(" depots."),
        )
        + par(f"<w:moveFrom>{run('Black belt.')}</w:moveFrom>")
        + par(f"<w:moveTo>{run('Black belt.')}</w:moveTo>")
    )
    found = read_docx(write_docx(tmp_path / "a.docx", body))
    assert found.text.split() == ["I", "led", "nine", "depots.", "Black", "belt."]


def test_fields_smart_tags_links_and_special_characters_are_read(tmp_path):
    body = par(
        f'<w:fldSimple w:instr="X">{run("Field,")}</w:fldSimple>',
        f"<w:smartTag>{run(' tag,')}</w:smartTag>",
        f"<w:hyperlink>{run(' link,')}</w:hyperlink>",
        "<w:r><w:fldChar/><w:instrText>PAGE</w:instrText></w:r>",
        "<w:r><w:t> co</w:t><w:noBreakHyphen/><w:t>founder</w:t><w:br/><w:t>next</w:t><w:tab/><w:t>far</w:t></w:r>",
    )
    assert read_docx(write_docx(tmp_path / "a.docx", body)).text == "Field, tag, link, co-founder\nnext\tfar"


@pytest.mark.parametrize(
    "hidden",
    [
        par(run("python", "<w:vanish/>")),
        par(run("python", '<w:color w:val="FFFFFF"/>')),
        par(run("python", '<w:sz w:val="2"/>')),
        par(run("python", '<w:rStyle w:val="Gone"/>')),
        par(run("python"), properties='<w:pStyle w:val="GoneToo"/>'),
    ],
    ids=["vanish", "white", "tiny", "style", "style of a style"],
)
def test_hidden_text_is_left_out_and_marked(tmp_path, hidden):
    styles = (
        '<w:style w:styleId="Gone"><w:rPr><w:vanish/></w:rPr></w:style>'
        '<w:style w:styleId="GoneToo"><w:basedOn w:val="Gone"/></w:style>'
    )
    found = read_docx(write_docx(tmp_path / "a.docx", par(run("Clerk")) + hidden, styles=styles))
    assert (found.text.strip(), found.marks) == ("Clerk", (Mark.HIDDEN_TEXT,))


@pytest.mark.parametrize(
    "seen",
    [
        par(run("Chef", '<w:vanish w:val="0"/>')),
        par(run("Chef", '<w:color w:val="FFFFFF"/><w:shd w:fill="1F3864"/>')),
        par(run("Chef", '<w:color w:val="FFFFFF"/>'), properties='<w:shd w:fill="000000"/>'),
        table(['<w:tcPr><w:shd w:fill="000000"/></w:tcPr>' + par(run("Chef", '<w:color w:val="FFFFFF"/>'))]),
    ],
    ids=["switched off", "on a dark run", "on a dark paragraph", "in a dark cell"],
)
def test_white_text_on_a_dark_ground_is_seen(tmp_path, seen):
    found = read_docx(write_docx(tmp_path / "a.docx", seen))
    assert (found.text, found.marks) == ("Chef", ())


def test_headers_and_footers_are_read_once_and_nested_tables_in_place(tmp_path):
    body = par(run("Welder")) + table([par(run("2019")), par(run("Yard")) + table([par(run("TIG")), par(run("MAG"))])])
    path = write_docx(
        tmp_path / "a.docx",
        body,
        headers=[par(run("Rosa Muster")), par(run("Rosa Muster"))],
        footers=[par(run("7")), par(run("York"))],
        rels='<Relationship Id="x" Type="http://x/header" Target="NULL"/>',
    )
    assert read_docx(path).text.split("\n") == ["Rosa Muster", "Welder", "2019 | Yard", "TIG | MAG", "York"]


def test_a_document_of_python_docx_reads_as_it_was_written(tmp_path):
    document = docx.Document()
    document.add_heading("Curriculum vitae", level=1)
    document.add_paragraph("Bakes bread.", style="List Bullet")
    cells = document.add_table(rows=1, cols=2).rows[0].cells
    cells[0].text, cells[1].text = "2019", "Bakery"
    document.sections[0].header.paragraphs[0].text = "Anna Beispiel"
    document.save(tmp_path / "a.docx")
    assert read_docx(tmp_path / "a.docx").text.split("\n") == [
        "Anna Beispiel", "Curriculum vitae", "Bakes bread.", "2019 | Bakery",
    ]  # fmt: skip


def test_limits_of_a_docx_are_kept(tmp_path, monkeypatch):
    path = write_docx(tmp_path / "a.docx", par(run("x")) * 4)
    monkeypatch.setattr(docx_reader, "MAX_PARAGRAPHS", 3)
    with pytest.raises(ValueError, match="more than 3 paragraphs"):
        read_docx(path)
    monkeypatch.setattr(archive, "MAX_XML_BYTES", 100)
    with pytest.raises(ValueError, match="bytes of XML, at most 100"):
        read_docx(path)
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(ValueError, match=r"unpacks to .* at most 100"):
        read_docx(path)


def test_entities_are_not_expanded(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as file:
        bomb = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/hostname">]>'
        content = f"<w:document xmlns:w='{WORD}'><w:body><w:p><w:r><w:t>x&b;&c;</w:t></w:r></w:p></w:body></w:document>"
        file.writestr("word/document.xml", bomb + content)
    assert read_docx(tmp_path / "a.docx").text == "x"


# --- ODT --------------------------------------------------------------------------------------------------------------


def write_odt(path, body, *, automatic="", styles=""):
    names = " ".join(f'xmlns:{name}="urn:{name}"' for name in ("office", "text", "table", "style", "fo", "draw"))
    content = f"<office:document-content {names}><office:automatic-styles>{automatic}</office:automatic-styles>"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        file.writestr(
            "content.xml",
            f"{content}<office:body><office:text>{body}</office:text></office:body></office:document-content>",
        )
        file.writestr("styles.xml", f"<office:document-styles {names}>{styles}</office:document-styles>")
    return path


def test_an_odt_is_read_with_tables_boxes_headers_and_without_deleted_text(tmp_path):
    body = (
        "<text:tracked-changes><text:deletion><text:p>GONE</text:p></text:deletion></text:tracked-changes>"
        "<text:h>Baker</text:h><text:p>Nine<text:s text:c='2'/>years<text:line-break/>of\n bread<text:tab/>x"
        "<draw:frame><draw:text-box><text:p>Boxed</text:p></draw:text-box></draw:frame></text:p>"
        "<text:list><text:list-item><text:p>Rye</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>2019</text:p></table:table-cell>"
        "<table:table-cell><text:p>Bakery</text:p></table:table-cell></table:table-row></table:table>"
    )
    header = "<style:master-page><style:header><text:p>Anna</text:p></style:header></style:master-page>"
    found = read_odt(write_odt(tmp_path / "a.odt", body, styles=header))
    assert found.text.split("\n") == ["Anna", "Baker", "Nine  years", "of bread\tx", "Boxed", "Rye", "2019 | Bakery"]


@pytest.mark.parametrize("look", ['text:display="none"', 'fo:color="#ffffff"', 'fo:font-size="1pt"'])
def test_hidden_text_of_an_odt_is_left_out_and_marked(tmp_path, look):
    style = f'<style:style style:name="T1" style:family="text"><style:text-properties {look}/></style:style>'
    body = '<text:p>Clerk<text:span text:style-name="T1"> python</text:span>.</text:p>'
    found = read_odt(write_odt(tmp_path / "a.odt", body, automatic=style))
    assert (found.text, found.marks) == ("Clerk.", (Mark.HIDDEN_TEXT,))

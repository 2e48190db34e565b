"""Personal data is found in every place of a file that the readers read, as it is found in plain text."""

from xml.sax.saxutils import escape

import pytest

from benchmarks.redaction_languages import LAYOUTS, languages, make_language_cases
from data.config import RedactConfig
from data.documents.extract.docx import read_docx
from data.documents.extract.html import read_html
from data.documents.extract.odt import read_odt
from data.documents.extract.pdf import read_pdf
from data.redaction.redact import Redactor
from tests.data.documents.extract.test_office import par, run, table, write_docx, write_odt
from tests.data.documents.extract.test_pdf import line, lines, write_pdf

CASES = make_language_cases(len(languages()) * len(LAYOUTS), seed=7)
BODY = "Served the late shift and kept the books of the kitchen."


def paragraphs(texts):
    return "".join(par(run(escape(text))) for text in texts)


def in_docx_header(path, texts):
    return read_docx(write_docx(path, paragraphs([BODY]), headers=[paragraphs(texts)])).text


def in_docx_footer(path, texts):
    return read_docx(write_docx(path, paragraphs([BODY]), footers=[paragraphs(texts)])).text


def in_docx_text_box(path, texts):
    box = f"<w:r><w:pict><v:textbox><w:txbxContent>{paragraphs(texts)}</w:txbxContent></v:textbox></w:pict></w:r>"
    return read_docx(write_docx(path, par(box) + paragraphs([BODY]))).text


def in_docx_cells(path, texts):
    """One cell for each line, and labels ("Tel: …") in a cell beside their value."""
    cells = ([paragraphs([part]) for part in text.partition(": ")[::2] if part] for text in texts)
    return read_docx(write_docx(path, table(*cells) + paragraphs([BODY]))).text


def in_odt_footer(path, texts):
    shown = "".join(f"<text:p>{escape(text)}</text:p>" for text in texts)
    footer = f"<style:master-page><style:footer>{shown}</style:footer></style:master-page>"
    return read_odt(write_odt(path, f"<text:p>{BODY}</text:p>", styles=footer)).text


def in_html_list(_, texts):
    return read_html(f"<ul>{''.join(f'<li><b>{escape(text)}</b>' for text in texts)}</ul><p>{BODY}").text


def in_pdf_lines(path, texts):
    return read_pdf(write_pdf(path, lines(*map(_escaped, texts)))).text


def in_pdf_form(path, texts):
    """A form: labels and sentences are printed, values behind or below their label are typed into fields."""
    printed, fields, is_below = [], [], False
    for number, text in enumerate(texts):
        y = 740 - 24 * number
        label, colon, value = text.partition(": ")
        is_typed = colon or is_below
        is_below = not is_typed and len(text) < 30
        if colon or not is_typed:
            printed.append(line(_escaped(f"{label}:" if colon else text), 72, y))
        if is_typed:
            typed = (value or text).encode("utf-16-be").hex()
            box = f"[{200 if colon else 72} {y - 4} 560 {y + 14}]"
            fields.append(f"<< /Type /Annot /Subtype /Widget /FT /Tx /T (f{number}) /V <feff{typed}> /Rect {box} >>")
    all_fields = " ".join(f"{100 + number} 0 R" for number in range(len(fields)))
    printed.append(line(BODY, 72, 740 - 24 * len(texts)))
    form = f"/AcroForm << /Fields [{all_fields}] >>"
    return read_pdf(
        write_pdf(path, "\n".join(printed), further=fields, form=form, on_page=f"/Annots [{all_fields}]")
    ).text


FOOTERS = (in_docx_footer, in_odt_footer)


def _escaped(text):
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def _fits_helvetica(text):
    return text == text.encode("cp1252", "ignore").decode("cp1252")


@pytest.mark.parametrize(
    "place",
    [
        in_docx_header,
        in_docx_footer,
        in_docx_text_box,
        in_docx_cells,
        in_odt_footer,
        in_html_list,
        in_pdf_lines,
        in_pdf_form,
    ],
)
def test_what_is_redacted_in_plain_text_is_redacted_in_the_files_of_a_format(tmp_path, place):
    redactor = Redactor(RedactConfig(), "resume")
    total, missed = 0, []
    for case in CASES:
        if place in (in_pdf_lines, in_pdf_form) and not _fits_helvetica(case.text):
            continue
        if place in FOOTERS and case.format.endswith("-split"):
            continue  # nobody writes a first name and a last name on two lines of a footer
        texts = [text for text in case.text.split("\n") if text]
        plain = redactor.redact_text(case.text)
        stored = redactor.redact_text(place(tmp_path / "file", texts))
        known = [value for _, value in case.personal if value not in plain]
        total += len(known)
        missed += [(case.format, value) for value in known if value in stored]
    assert total > 150
    assert len(missed) <= 0.01 * total, missed

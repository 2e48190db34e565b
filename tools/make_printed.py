"""Write the printed resumes of the tests: files of LaTeX, LibreOffice, Chromium and Typst, each with its known text.

``python -m tools.make_printed tests/data/documents/extract/printed`` needs ``pdflatex``, ``soffice``, ``chromium`` and
the Python package ``typst``. A tool that is missing is passed over, and its files stay as they are.

The persons are invented. The known text is written here and never read from a file: a test compares what our reader
finds with it.
"""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SUMMARY = (
    "Experienced infrastructure engineer who modernises telecommunication networks. Responsible for the configuration, "
    "documentation and certification of distributed measurement equipment in seventeen municipal laboratories, and for "
    "the qualification of subcontractors. Office files, fluid workflows and efficient staff training are affordable "
    "when difficult offline work is automated first."
)
GERMAN = (
    "Qualitätsprüfer für Präzisionswerkzeuge in Süddeutschland. Verantwortlich für Oberflächenmessungen, "
    "Materialprüfungen und Prüfmittelüberwachung; übernahm größere Änderungen selbstständig. Straßenbahnführerschein, "
    "Gabelstapler und Ersthelfer."
)
DUTIES = (
    "Planned maintenance windows for four hundred base stations",
    "Reduced spare part inventory by 18 % with a first-in-first-out rule",
    "Introduced peer review of configuration changes (Ansible, Git)",
    "Trained twelve apprentices in fibre splicing and safety",
)
SKILLS = (("Fibre splicing", "expert", "9 years"), ("Ansible", "advanced", "5 years"), ("C++", "basic", "2 years"))
SIDE = ("Leeds", "Driving licence B and C1", "Polish, native", "English, fluent", "French, basic", "First aid 2024")
LETTER = (
    "Between 2015 and 2023 she coordinated the replacement of obsolete transformer substations throughout the region, "
    "negotiated with manufacturers about specifications, and supervised commissioning. The administrative "
    "simplifications that followed shortened authorisation procedures considerably."
)
PAGE_TWO = ("References", "Available on request from the personnel department of the former employer.")
HEAD, FOOT = "Curriculum vitae of Imke Osterfeld", "Confidential - for recruitment purposes only"


@dataclass(frozen=True)
class Printed:
    """One file: its name, its text in reading order, and the function that writes it into a folder."""

    name: str
    text: tuple[str, ...]
    write: Callable[[Path], Path]


# --- LaTeX ------------------------------------------------------------------------------------------------------------


def _tex(text: str) -> str:
    return text.replace("%", r"\%").replace("&", r"\&").replace("#", r"\#")


def _latex(name: str, preamble: str, body: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        source = folder / f"{name}.tex"
        source.write_text(rf"""\documentclass[11pt,a4paper]{{article}}
\usepackage[utf8]{{inputenc}}
{preamble}
\begin{{document}}
{body}
\end{{document}}
""")
        _run(["pdflatex", "-interaction=nonstopmode", source.name], folder)
        return folder / f"{name}.pdf"

    return write


_BREAK = r"\\ "
_ITEMS = r"\begin{itemize}" + "".join(rf"\item {_tex(each)}" for each in DUTIES) + r"\end{itemize}"
_TABLE = r"\begin{tabular}{lll}" + "".join(f"{' & '.join(row)}{_BREAK}" for row in SKILLS) + r"\end{tabular}"
_LATEX_TEXT = ("Imke Osterfeld", "Profile", SUMMARY, "Duties", *DUTIES, "Skills", *(" ".join(row) for row in SKILLS))
_LATEX_BODY = rf"""\section*{{Imke Osterfeld}}
\subsection*{{Profile}} {_tex(SUMMARY)}
\subsection*{{Duties}} {_ITEMS}
\subsection*{{Skills}} {_TABLE}
\subsection*{{Letter}} {LETTER}

{GERMAN}"""
_LATEX_SIDE = rf"""\noindent\begin{{minipage}}[t]{{0.33\textwidth}}\raggedright
\textbf{{Details}}\\ {_BREAK.join(SIDE)}
\end{{minipage}}\hfill\begin{{minipage}}[t]{{0.62\textwidth}}
\textbf{{Profile}}\\ {_tex(SUMMARY)}
\end{{minipage}}

\bigskip\noindent {LETTER}"""
_SIDE_LINES = r" \par ".join(SIDE)
_LATEX_COLUMNS = rf"""\begin{{multicols}}{{2}}
\section*{{Imke Osterfeld}} {_tex(SUMMARY)}

{LETTER}

{GERMAN}
\subsection*{{Details}} {_SIDE_LINES}
\end{{multicols}}"""
_LATEX_PAGES = rf"""\pagestyle{{fancy}}\fancyhf{{}}\fancyhead[L]{{{HEAD}}}\fancyfoot[C]{{{FOOT}}}
\section*{{Imke Osterfeld}} {_tex(SUMMARY)}

{LETTER}
\newpage
\section*{{{PAGE_TWO[0]}}} {PAGE_TWO[1]}"""


# --- Typst ------------------------------------------------------------------------------------------------------------


def _typst(name: str, body: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import typst

        source, target = folder / f"{name}.typ", folder / f"{name}.pdf"
        source.write_text(body)
        typst.compile(str(source), output=str(target))
        return target

    return write


def _bullets(items: tuple[str, ...]) -> str:
    return "\n".join(f"- {each}" for each in items)


_CELLS = ", ".join(f"[{cell}]" for row in SKILLS for cell in row)
_TYPST_ONE = f"""#set page(paper: "a4", header: [{HEAD}], footer: [{FOOT}])
#set text(lang: "en", size: 11pt)
#set par(justify: true)
= Imke Osterfeld
{SUMMARY}
== Duties
{_bullets(DUTIES)}
== Skills
#table(columns: 3, {_CELLS})
#text(lang: "de")[{GERMAN}]
"""
_TYPST_TWO = f"""#set page(paper: "a4", columns: 2)
#set text(lang: "en", size: 11pt)
#set par(justify: true)
= Imke Osterfeld
{SUMMARY}

{LETTER}
#colbreak()
== Details
{_bullets(SIDE)}

{GERMAN}
"""


# --- Chromium and LibreOffice, both from HTML -------------------------------------------------------------------------


def _list(items: tuple[str, ...]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(each)}</li>" for each in items) + "</ul>"


def _rows() -> str:
    return "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in SKILLS)


_STYLE = "body { font: 11pt serif; text-align: justify; hyphens: auto } .two { display: grid; gap: 24pt; " \
    "grid-template-columns: 1fr 2fr } td { border: 1px solid; padding: 2pt 8pt }"  # fmt: skip
_PAGE_ONE = f"""<h1>Imke Osterfeld</h1><p>{SUMMARY}</p><h2>Duties</h2>{_list(DUTIES)}
<h2>Skills</h2><table>{_rows()}</table><p lang="de">{GERMAN}</p><p>{LETTER}</p>"""
_PAGE_TWO = f"""<h1>Imke Osterfeld</h1><div class="two"><div><h2>Details</h2>{_list(SIDE)}</div>
<div><h2>Profile</h2><p>{SUMMARY}</p><p>{LETTER}</p></div></div>"""


def _page(name: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}{body}</html>'


def _chromium(name: str, body: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        source, target = folder / f"{name}.html", folder / f"{name}.pdf"
        source.write_text(_page(name, body))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        _run(["chromium", *options, f"--print-to-pdf={target}", source.as_uri()], folder)
        return target

    return write


def _libreoffice(
    name: str, fill: Callable[[Path], None], source_suffix: str, filter_name: str
) -> Callable[[Path], Path]:
    """Have LibreOffice convert a file. The suffix of ``name`` says to what."""

    def write(folder: Path) -> Path:
        target = folder / name
        source = target.with_suffix(source_suffix)
        fill(source)
        home = f"-env:UserInstallation={(folder / 'office').as_uri()}"
        reader = ["--infilter=HTML (StarWriter)"] if source_suffix == ".html" else []
        convert = ["--convert-to", f"{target.suffix[1:]}:{filter_name}", "--outdir", str(folder), source.name]
        _run(["soffice", home, "--headless", *reader, *convert], folder)
        return target

    return write


def _docx(path: Path) -> None:
    """A Word file with header, footer, list and table on its first page, and two columns on its second."""
    import docx
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = HEAD
    document.sections[0].footer.paragraphs[0].text = FOOT
    document.add_heading("Imke Osterfeld", 0)
    document.add_paragraph(SUMMARY)
    for each in DUTIES:
        document.add_paragraph(each, style="List Bullet")
    table = document.add_table(rows=0, cols=3, style="Table Grid")
    for row in SKILLS:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.add_paragraph(GERMAN)
    columns = OxmlElement("w:cols")
    columns.set(qn("w:num"), "2")
    properties = document.add_section()._sectPr
    for former in properties.findall(qn("w:cols")):
        properties.remove(former)
    properties.append(columns)
    document.add_paragraph(SUMMARY)
    document.add_paragraph(LETTER)
    for each in SIDE:
        document.add_paragraph(each)
    document.save(str(path))


def _odt_html(path: Path) -> None:
    path.write_text(_page("office", _PAGE_ONE))


_DOCX_TEXT = (
    HEAD, "Imke Osterfeld", SUMMARY, *DUTIES, *(" ".join(row) for row in SKILLS), GERMAN, FOOT,
    HEAD, SUMMARY, LETTER, *SIDE, FOOT,
)  # fmt: skip
_ONE_TEXT = ("Imke Osterfeld", SUMMARY, "Duties", *DUTIES, "Skills", *(" ".join(row) for row in SKILLS), GERMAN, LETTER)

PRINTED = (
    Printed(
        "latex-cm.pdf",
        (*_LATEX_TEXT, "Letter", LETTER, GERMAN),
        _latex("latex-cm", r"\usepackage[english]{babel}", _LATEX_BODY),
    ),
    Printed(
        "latex-t1.pdf",
        (*_LATEX_TEXT, "Letter", LETTER, GERMAN),
        _latex("latex-t1", r"\usepackage[T1]{fontenc}\usepackage{lmodern}\usepackage[english]{babel}", _LATEX_BODY),
    ),
    Printed(
        "latex-side.pdf",
        ("Details", *SIDE, "Profile", SUMMARY, LETTER),
        _latex("latex-side", r"\usepackage[T1]{fontenc}\usepackage{helvet}", _LATEX_SIDE),
    ),
    Printed(
        "latex-columns.pdf",
        ("Imke Osterfeld", SUMMARY, LETTER, GERMAN, "Details", *SIDE),
        _latex(
            "latex-columns",
            r"\usepackage[T1]{fontenc}\usepackage{mathptmx}\usepackage{multicol}",
            _LATEX_COLUMNS,
        ),
    ),
    Printed(
        "latex-pages.pdf",
        (HEAD, "Imke Osterfeld", SUMMARY, LETTER, FOOT, HEAD, *PAGE_TWO, FOOT),
        _latex("latex-pages", r"\usepackage{fancyhdr}", _LATEX_PAGES),
    ),
    Printed(
        "typst-one.pdf",
        (HEAD, "Imke Osterfeld", SUMMARY, "Duties", *DUTIES, "Skills", *(" ".join(r) for r in SKILLS), GERMAN, FOOT),
        _typst("typst-one", _TYPST_ONE),
    ),
    Printed(
        "typst-columns.pdf",
        ("Imke Osterfeld", SUMMARY, LETTER, "Details", *SIDE, GERMAN),
        _typst("typst-columns", _TYPST_TWO),
    ),
    Printed("chromium-one.pdf", _ONE_TEXT, _chromium("chromium-one", _PAGE_ONE)),
    Printed(
        "chromium-columns.pdf",
        ("Imke Osterfeld", "Details", *SIDE, "Profile", SUMMARY, LETTER),
        _chromium("chromium-columns", _PAGE_TWO),
    ),
    Printed("office-docx.pdf", _DOCX_TEXT, _libreoffice("office-docx.pdf", _docx, ".docx", "writer_pdf_Export")),
    Printed("office-html.pdf", _ONE_TEXT, _libreoffice("office-html.pdf", _odt_html, ".html", "writer_pdf_Export")),
    Printed("office.docx", _ONE_TEXT, _libreoffice("office.docx", _odt_html, ".html", "Office Open XML Text")),
    Printed("office.odt", _ONE_TEXT, _libreoffice("office.odt", _odt_html, ".html", "writer8")),
    Printed("office.rtf", _ONE_TEXT, _libreoffice("office.rtf", _odt_html, ".html", "Rich Text Format")),
)
"""The files, with their known text in reading order."""


def _run(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)


def main(folder: Path) -> None:
    """Write every file whose tool is installed into a folder."""
    for each in PRINTED:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                shutil.copy(each.write(Path(scratch)), folder / each.name)
            except (FileNotFoundError, ImportError) as error:
                print(f"{each.name}: passed over, {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

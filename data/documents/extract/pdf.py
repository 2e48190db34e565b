"""PDF: the text of a page as a human reader sees it.

pdfium returns every character with its position, size and colour. This module builds lines, columns and form values
from them, and leaves out invisible text. If the result is implausible, pypdf reads the file again. Otherwise pypdf
reads its first pages and tells whether words are missing.
"""

from __future__ import annotations

import ctypes
import math
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from data.documents.extract.extracted import (
    MAX_TEXT_CHARS,
    MAX_UNPACKED_BYTES,
    ContainerError,
    Extracted,
    ImplausibleTextError,
    Mark,
    ScannedError,
    implausibility,
)
from data.documents.extract.ocr import MAX_RECOGNISED_PAGES, has_tesseract, recognise_page
from data.documents.extract.page_layout import Glyph, Segment, page_text
from data.documents.extract.second_reader import is_whole

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage, PdfTextPage

MAX_PAGES = 5000
"""Maximum number of pages: pages may share one huge content, so the file size does not bound the work."""

_MAX_ATTACHMENTS = 100
_MAX_COVER_CHARS = 1000  # the sheet of a portfolio has about 200
# Limits of the check by the second reader, which costs as much as the first one: 10 to 30 ms a page.
_CHECKED_BYTES = 8 * 2**20
_CHECKED_PAGES = 10
_CHECKED_PAGE_BYTES = 2**20
_CHECKED_SECONDS = 2.0

_MIN_POINTS = 3.0  # smaller text is read only by machines
_OFF_PAGE_POINTS = 12.0  # beyond the edge; text cut off by the edge is not hidden
_MIN_CONTRAST = 24  # of 255: difference between the darkest and the lightest pixel of a visible character
_NEARLY_WHITE = 0.9
_RENDER_SCALE = 2
_INVISIBLE_MODES = (3, 7)
_LIGATURES = {
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
    "\ufb05": "st",
    "\ufb06": "st",
}
_TEX_LIGATURES = dict(zip((*range(0x1B, 0x20), *range(0x0B, 0x10)), 2 * ("ff", "fi", "fl", "ffi", "ffl"), strict=True))
_HYPHENS = {0x02, 0xAD, 0xFFFE}  # pdfium's codes for a hyphen at the end of a line; the soft hyphen, which is drawn
_LOCK = threading.Lock()  # only one thread of a process may use pdfium


def read_pdf(path: Path, *, ocr: bool = False) -> Extracted:
    """Text of a PDF, page by page.

    Args:
        path: The file.
        ocr: Recognise the text of pages that have none, if Tesseract is installed.

    Raises:
        ScannedError: No page has text.
        ContainerError: It is a portfolio: its content is in attached files.
        ImplausibleTextError: Neither reader finds plausible text.
        ValueError: It is too large or needs a password.
        Exception: Nearly any type, from the parsers, if the file is malformed.
    """
    size_bytes = path.stat().st_size
    if size_bytes > MAX_UNPACKED_BYTES:
        raise ValueError(f"{size_bytes} bytes, at most {MAX_UNPACKED_BYTES} are read")
    try:
        found, hidden = _first_reader(path, ocr=ocr)
    except (ScannedError, ValueError):
        raise
    except Exception:  # a page that pdfium cannot load; pypdf repairs more
        second = _second_reader(path)
        if not second.strip() or implausibility(second) is not None:
            raise
        return Extracted(second, marks=(Mark.SECOND_READER,))
    fault = implausibility(found.text)
    if fault is None:
        if is_whole(found.text, _words_to_check(path), hidden=hidden):
            return found
        return replace(found, marks=tuple(sorted({*found.marks, Mark.WORDS_MISSING})))
    second = _second_reader(path)
    if not second.strip() or implausibility(second) is not None:
        raise ImplausibleTextError(f"the extracted text is not readable in any language: {fault}")
    return replace(found, text=second, marks=tuple(sorted({*found.marks, Mark.SECOND_READER})))


def _second_reader(path: Path) -> str:
    from pypdf import PdfReader

    texts: list[str] = []
    with path.open("rb") as handle:
        for page in PdfReader(handle).pages:
            texts.append(page.extract_text())
            if sum(map(len, texts)) > MAX_TEXT_CHARS:
                raise ValueError(f"more than {MAX_TEXT_CHARS} characters of text")
    return "\n\n".join(texts)


def _words_to_check(path: Path) -> str:
    """Text of the first pages by the second reader, within limits of time; empty if it cannot read them."""
    from pypdf import PdfReader

    if path.stat().st_size > _CHECKED_BYTES:
        return ""
    texts = []
    started = time.process_time()
    with path.open("rb") as handle:
        try:
            for page in islice(PdfReader(handle).pages, _CHECKED_PAGES):
                contents = page.get_contents()
                if contents is not None and len(contents.get_data()) <= _CHECKED_PAGE_BYTES:
                    texts.append(page.extract_text())
                if time.process_time() - started > _CHECKED_SECONDS:
                    break
        except Exception:  # nearly any type on malformed files, which the first reader repaired
            return "\n".join(texts)
    return "\n".join(texts)


def _first_reader(path: Path, *, ocr: bool) -> tuple[Extracted, str]:
    """Text of a PDF, and the characters that were left out because nobody sees them."""
    import pypdfium2 as pdfium  # imported here, because most sources have no PDFs
    import pypdfium2.raw as raw

    with _LOCK:
        try:
            document = pdfium.PdfDocument(path)
        except pdfium.PdfiumError as error:
            if "password" in str(error).lower():
                raise ValueError("it needs a password") from error
            raise
        with closing(document):
            document.init_forms()
            if len(document) > MAX_PAGES:
                raise ValueError(f"{len(document)} pages, at most {MAX_PAGES} are read")
            texts: list[str] = []
            hidden: list[str] = []
            num_recognised = 0
            num_left = MAX_RECOGNISED_PAGES if ocr and has_tesseract() else 0
            for number in range(len(document)):
                with closing(document[number]) as page:
                    text, left_out = _read_page(page, raw)
                    if not text and num_left:
                        text, num_left = recognise_page(page), num_left - 1
                        num_recognised += bool(text)
                texts.append(text)
                hidden.append(left_out)
                if sum(map(len, texts)) > MAX_TEXT_CHARS:
                    raise ValueError(f"more than {MAX_TEXT_CHARS} characters of text")
            attachments = _attachments(document)
    with_text = sum(bool(text) for text in texts)
    num_hidden = sum(map(len, hidden))
    if not with_text:
        told = f", {num_hidden} hidden characters were left out" if num_hidden else ""
        attached = f"; attached: {_listed(attachments)}" if attachments else ""
        raise ScannedError(f"none of the {len(texts)} page(s) has text{told}{attached}; {_remedy(ocr=ocr)}")
    if attachments and sum(map(len, texts)) < _MAX_COVER_CHARS and _is_portfolio(path):
        raise ContainerError(
            f"a portfolio of {len(attachments)} file(s): {_listed(attachments)}; save each as a file of its own"
        )
    marks = {
        Mark.HIDDEN_TEXT: num_hidden > 0,
        Mark.PAGES_WITHOUT_TEXT: with_text < len(texts),
        Mark.ATTACHMENTS: bool(attachments),
        Mark.OCR: num_recognised > 0,
    }
    extracted = Extracted(
        "\n\n".join(filter(None, texts)),
        marks=tuple(sorted(mark for mark, is_set in marks.items() if is_set)),
        pages_without_text=len(texts) - with_text,
        pages_recognised=num_recognised,
        attachments=attachments,
    )
    return extracted, "".join(hidden)


def _remedy(*, ocr: bool) -> str:
    """What to do about a scan."""
    if not ocr:
        return "set ingest.ocr = true to read it with Tesseract, or use a document whose text can be selected"
    if not has_tesseract():
        return "install Tesseract (apt-get install tesseract-ocr), by which ingest.ocr = true reads it"
    return "Tesseract finds none either; expected a document whose text can be selected"


def _attachments(document: PdfDocument) -> tuple[str, ...]:
    """Names of attached files, with blanks for ``_`` and ``-``, so that redaction finds names of persons."""
    count = min(document.count_attachments(), _MAX_ATTACHMENTS)
    names = [document.get_attachment(index).get_name() for index in range(count)]
    return tuple(" ".join(re.split(r"[\s_\-]+", name))[:100] for name in names)


def _is_portfolio(path: Path) -> bool:
    """Return whether the file is a collection of others. Its own page asks for a viewer that shows them."""
    from pypdf import PdfReader

    with path.open("rb") as handle:
        return "/Collection" in PdfReader(handle).root_object


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _read_page(page: PdfPage, raw: ModuleType) -> tuple[str, str]:
    """Text of a page, and its invisible characters."""
    page.set_rotation(0)
    with closing(page.get_textpage()) as textpage:
        glyphs, suspects = _glyphs(textpage, page.get_bbox(), raw)
    quarters = Counter(glyph.quarter for glyph in glyphs if glyph.box is not None)
    if quarters and (quarter := quarters.most_common(1)[0][0]):
        # pdfium orders lines as displayed: rotate the page until its text is upright.
        page.set_rotation(90 * quarter)
        with closing(page.get_textpage()) as textpage:
            glyphs, suspects = _glyphs(textpage, page.get_bbox(), raw)
        page.set_rotation(0)
    if suspects:
        visible = _visible_suspects(page, suspects)
        suspects = [glyph for glyph in suspects if id(glyph) not in visible]
        hidden = {id(glyph) for glyph in suspects}
        glyphs = [glyph for glyph in glyphs if id(glyph) not in hidden]
    left_out = "".join(glyph.char for glyph in suspects if not glyph.char.isspace())
    return page_text(glyphs, _form_values(page, raw)), left_out


def _glyphs(
    textpage: PdfTextPage, page_box: tuple[float, float, float, float], raw: ModuleType
) -> tuple[list[Glyph], list[Glyph]]:
    """All characters of a page in content order, and the subset that may be hidden."""
    glyphs: list[Glyph] = []
    suspects: list[Glyph] = []
    rect = raw.FS_RECTF()
    rect_pointer = ctypes.byref(rect)
    handle = textpage.raw
    styles: dict[int | None, tuple[float, int, bool]] = {}
    left, bottom, right, top = page_box
    left, bottom, right, top = (
        left - _OFF_PAGE_POINTS,
        bottom - _OFF_PAGE_POINTS,
        right + _OFF_PAGE_POINTS,
        top + _OFF_PAGE_POINTS,
    )
    for index in range(raw.FPDFText_CountChars(handle)):
        code = raw.FPDFText_GetUnicode(handle, index)
        if code in (10, 13, 32) and raw.FPDFText_IsGenerated(handle, index) == 1:
            if code == 32:
                glyphs.append(Glyph(" ", None, 0.0, 0))
            continue  # lines are found by position
        pointer = raw.FPDFText_GetTextObject(handle, index)
        key = ctypes.cast(pointer, ctypes.c_void_p).value
        style = styles.get(key)
        if style is None:
            style = styles[key] = _style(handle, index, pointer, raw)
        points, quarter, is_faint = style
        raw.FPDFText_GetLooseCharBox(handle, index, rect_pointer)
        box = (rect.left, rect.bottom, rect.right, rect.top)
        is_ligature = code in _TEX_LIGATURES and _has_ink(handle, index, raw)
        glyph = Glyph(_TEX_LIGATURES[code] if is_ligature else _char(code), box, points, quarter)
        glyphs.append(glyph)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if glyph.char.isspace():
            continue  # blanks are invisible everywhere
        if is_faint or points < _MIN_POINTS or not (left <= x <= right and bottom <= y <= top):
            suspects.append(glyph)
    return glyphs, suspects


def _has_ink(handle: object, index: int, raw: ModuleType) -> bool:
    """Return whether a character is drawn. A ligature of an old TeX font has a control code, as some spaces have."""
    edges = [ctypes.c_double() for _ in range(4)]
    raw.FPDFText_GetCharBox(handle, index, *map(ctypes.byref, edges))
    left, right, bottom, top = (edge.value for edge in edges)
    return right - left > 0.1 and top - bottom > 0.1


def _char(code: int) -> str:
    if code in _HYPHENS:
        return "-"
    char = chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
    if code < 0x20 or 0x7F <= code < 0xA0:
        return " "  # a font may draw its space with a control character
    return _LIGATURES.get(char, char)


def _style(handle: object, index: int, pointer: object, raw: ModuleType) -> tuple[float, int, bool]:
    """Size in points, direction in quarter turns, and whether the character may be invisible, of a text object."""
    matrix = raw.FS_MATRIX()
    raw.FPDFText_GetMatrix(handle, index, ctypes.byref(matrix))
    points = raw.FPDFText_GetFontSize(handle, index) * (math.hypot(matrix.c, matrix.d) or 1.0)
    quarter = round(math.atan2(matrix.b, matrix.a) / (math.pi / 2)) % 4
    is_faint = False
    if pointer:
        colour = [ctypes.c_uint(0) for _ in range(4)]
        mode = raw.FPDFTextObj_GetTextRenderMode(pointer)
        if raw.FPDFPageObj_GetFillColor(pointer, *(ctypes.byref(part) for part in colour)):
            red, green, blue, alpha = (part.value for part in colour)
            is_faint = (0.3 * red + 0.59 * green + 0.11 * blue) / 255 > _NEARLY_WHITE or alpha < 16
        is_faint = is_faint or mode in _INVISIBLE_MODES
    return points, quarter, is_faint


def _visible_suspects(page: PdfPage, suspects: list[Glyph]) -> set[int]:
    """Suspects that are visible after all: white on dark, or invisible text above a scanned image."""
    left, bottom, right, top = page.get_bbox()
    judged = [glyph for glyph in suspects if glyph.points >= _MIN_POINTS and glyph.box is not None]
    judged = [glyph for glyph in judged if left <= glyph.box[0] <= right and bottom <= glyph.box[1] <= top]  # type: ignore[index]
    width, height = right - left, top - bottom
    if not judged or not 0 < width * height < 4e7:
        return set()
    pixels = page.render(scale=_RENDER_SCALE, grayscale=True).to_numpy().squeeze()
    rows, columns = pixels.shape[:2]
    lines: dict[tuple[int, int], list[Glyph]] = defaultdict(list)
    num_seen: Counter[tuple[int, int]] = Counter()
    for glyph in judged:
        x0, y0, x1, y1 = glyph.box  # type: ignore[misc]
        edge = (y1 - y0) * 0.15  # the lines above and below are close
        y0, y1 = y0 + edge, y1 - edge
        line = (glyph.quarter, round((x0 + x1 if glyph.quarter % 2 else y0 + y1) / 2))
        lines[line].append(glyph)
        patch = pixels[
            max(0, int((top - y1) * rows / height)) : math.ceil((top - y0) * rows / height),
            max(0, int((x0 - left) * columns / width)) : math.ceil((x1 - left) * columns / width),
        ]
        num_seen[line] += bool(patch.size) and int(patch.max()) - int(patch.min()) >= _MIN_CONTRAST
    # A line is judged as a whole: a dot alone has little contrast.
    return {id(glyph) for line, found in lines.items() if 2 * num_seen[line] >= len(found) for glyph in found}


def _form_values(page: PdfPage, raw: ModuleType) -> list[Segment]:
    """Values of text and choice fields, and texts typed onto the page, with their positions."""
    return list(_annotated(page, raw))


def _annotated(page: PdfPage, raw: ModuleType) -> Iterator[Segment]:
    form = page.formenv.raw if page.formenv is not None else None
    text_fields = (raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX)
    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            text = ""
            subtype = raw.FPDFAnnot_GetSubtype(annotation)
            if subtype == raw.FPDF_ANNOT_WIDGET and form is not None:
                if raw.FPDFAnnot_GetFormFieldType(form, annotation) in text_fields:
                    text = _string(lambda *at, a=annotation: raw.FPDFAnnot_GetFormFieldValue(form, a, *at))
            elif subtype == raw.FPDF_ANNOT_FREETEXT:
                text = _string(lambda *at, a=annotation: raw.FPDFAnnot_GetStringValue(a, b"Contents", *at))
            rect = raw.FS_RECTF()
            is_hidden = raw.FPDFAnnot_GetFlags(annotation) & (raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW)
            if text.strip() and not is_hidden and raw.FPDFAnnot_GetRect(annotation, ctypes.byref(rect)):
                low, high = sorted((rect.bottom, rect.top))
                yield Segment(text.strip(), rect.left, low, rect.right, high, min(12.0, max(high - low, 1.0)), 0)
        finally:
            raw.FPDFPage_CloseAnnot(annotation)


def _string(call: Callable[..., int]) -> str:
    """Read a string that pdfium writes as UTF-16 into a buffer; pdfium first returns the size."""
    size = min(int(call(None, 0)), 2**22)
    if size <= 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    call(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    return buffer.raw[:size].decode("utf-16-le", "replace").split("\0")[0]

"""HTML: the text that a browser shows of a page, or of markup in a table field."""

from __future__ import annotations

import html
import re
from dataclasses import replace

from lxml import etree

from data.documents.extract.extracted import Extracted, Mark
from data.documents.extract.second_reader import is_whole, page_words

_LEFT_OUT = frozenset(["script", "style", "noscript", "template", "head", "svg", "math", "iframe", "object", "canvas"])
_BLOCK_NAMES = (
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol option p pre section select summary table "
    "tbody textarea tfoot thead tr ul"
)
_INLINE_NAMES = (
    "a abbr b bdi bdo big br cite code col colgroup del dfn em font i img input ins kbd label link mark meta q s samp "
    "small span strike strong sub sup td th time title tt u var wbr"
)
_SPACED_NAMES = "p h1 h2 h3 h4 h5 h6 ul ol table section article blockquote pre"
_BLOCKS, _SPACED = frozenset(_BLOCK_NAMES.split()), frozenset(_SPACED_NAMES.split())
_KNOWN = "|".join(sorted({*_LEFT_OUT, *_BLOCKS, *_INLINE_NAMES.split()}, key=len, reverse=True))
# An attribute must have a value: without one it is usually a word, as in "a<b and c>d".
_ATTRIBUTE = r"""\s+[a-zA-Z_:@][\w:.\-]*\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>=`]+)"""
_BOOLEAN = (
    rf"(?:{_ATTRIBUTE}|\s+(?:hidden|checked|disabled|selected|nowrap|noshade|itemscope|compact|defer|async|required))"
)
# A text is markup if it closes a known element or contains a void element.
_MARKUP = re.compile(rf"</(?:{_KNOWN})\s*>|<(?:br|hr|p|li|ul|ol|div|h[1-6]|img){_BOOLEAN}*\s*/?>", re.IGNORECASE)
_STRAY = re.compile(rf"<(?!/(?:{_KNOWN})\s*>|(?:{_KNOWN}){_BOOLEAN}*\s*/?>|!--|!doctype\b)", re.IGNORECASE)
_ESCAPED = re.compile(r"&(?:amp;)*(?:lt|#0*60|#x0*3c);", re.IGNORECASE)
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>", re.IGNORECASE)
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?:\.\d+)?(?:px|pt|em|rem|%)?\s*(?:;|$)", re.I
)
_CONTROLS = re.compile("[\0\x1d\x1e]")
_PARAGRAPH, _LINE = "\x1d", "\x1e"  # breaks, until it is known how many follow each other
_BLANKS = re.compile(r"\s+")  # a whole run at once: otherwise each of its characters starts another attempt
_TAG = re.compile(r"<[^<>]*>")
_MAX_ESCAPES = 3


def strip_markup(text: str) -> str:
    """Text that a browser shows, if ``text`` is HTML, escaped or not; otherwise ``text`` itself.

    ``List<String>`` and ``Experience < 5 years`` are not markup and stay, also within HTML.
    """
    if "<" not in text and not _ESCAPED.search(text):
        return text
    found = text
    for _ in range(_MAX_ESCAPES):
        if _MARKUP.search(found):
            return _shown(found).text
        if not _ESCAPED.search(found):
            break
        found = html.unescape(found)
    return text


def read_html(markup: str) -> Extracted:
    """Text and title of a page."""
    hidden: list[str] = []
    found = _shown(_DECLARATION.sub("", markup), hidden)
    if is_whole(found.text, page_words(markup), hidden="\n".join(hidden)):
        return found
    return replace(found, marks=tuple(sorted({*found.marks, Mark.WORDS_MISSING})))


def _shown(markup: str, hidden: list[str] | None = None) -> Extracted:
    """Text and title of a page; ``hidden`` collects the texts that no browser shows."""
    hidden = hidden if hidden is not None else []
    markup = _STRAY.sub("&lt;", _CONTROLS.sub("", markup))
    parser = etree.HTMLParser(no_network=True, remove_comments=True, remove_pis=True, huge_tree=True)
    root = etree.fromstring(f"<html><body>{markup}</body></html>" if "<body" not in markup.lower() else markup, parser)
    if root is None:
        return Extracted("")
    if any(
        "depth" in error.message.lower() for error in parser.error_log
    ):  # libxml2 leaves out content that is nested too deeply
        return Extracted(_tidy(html.unescape(_TAG.sub(_LINE, markup))))
    title = next((" ".join("".join(each.itertext()).split()) for each in root.iter("title")), "")
    has_blocks = any(each.tag in _BLOCKS or each.tag == "br" for each in root.iterfind("body//*"))
    pieces: list[str] = []
    left_out: etree._Element | None = None  # the element that hides everything below it
    for event, element in etree.iterwalk(root, events=("start", "end")):
        tag = element.tag if isinstance(element.tag, str) else ""
        if event == "start":
            if left_out is not None:
                continue
            is_hidden = "hidden" in element.attrib or bool(_HIDDEN.search(element.get("style") or ""))
            if tag in _LEFT_OUT or is_hidden:
                left_out = element
                hidden += [part for part in element.itertext() if part.strip()] if tag not in _LEFT_OUT else []
                continue
            pieces.append(_break(tag, element))
            pieces.append(_inline(element.text, keeps_lines=not has_blocks or tag in ("pre", "textarea")))
        else:
            if left_out is None:
                pieces.append(_PARAGRAPH if tag in _SPACED else _LINE if tag in _BLOCKS else "")
            elif left_out is element:
                left_out = None
            if left_out is None:
                pieces.append(_inline(element.tail, keeps_lines=not has_blocks))
    return Extracted(_tidy("".join(pieces)), title, (Mark.HIDDEN_TEXT,) if hidden else ())


def _break(tag: str, element: etree._Element) -> str:
    if tag in ("td", "th"):
        return " | " if element.getprevious() is not None else ""
    if tag == "br":
        return "\n"
    return _PARAGRAPH if tag in _SPACED else _LINE if tag in _BLOCKS else ""


def _inline(text: str | None, *, keeps_lines: bool) -> str:
    """Text of an element. A line break in the markup is a space, unless the text is preformatted or has no blocks."""
    if not text:
        return ""
    return text if keeps_lines else _BLANKS.sub(_unbroken, text)


def _unbroken(match: re.Match[str]) -> str:
    return " " if "\n" in match.group() or "\r" in match.group() else match.group()


def _tidy(text: str) -> str:
    """Merge consecutive breaks: an empty line between paragraphs, none between list items."""

    def one(match: re.Match[str]) -> str:
        run = match.group()
        if _PARAGRAPH in run or run.count("\n") > 1:
            return "\n\n"
        return "\n" if _LINE in run or "\n" in run else run

    return _BLANKS.sub(one, text).strip()

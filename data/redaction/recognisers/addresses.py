"""Recognising postal addresses: streets with a number and a town, on one line or two; post boxes; postcodes.

A street needs the form of its country. A form that also occurs in other texts needs a postcode beside it, or a label
before it. Towns alone are kept. Every repetition in a pattern has an upper limit.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.redaction.labels import label_before
from data.redaction.recognisers.spans import Span, has_any, line_around

FORMS_FILE = Path(__file__).parent / "addresses.toml"
"""Its bytes are part of the redaction identity, like those of the name lists."""

_CAPITAL = r"[^\W\d_a-zß-öø-ÿ][\w'’.-]{0,30}"
_WORDS = r"(?:[\w'’.-]{1,25} ){0,4}[\w'’.-]{1,25}"
_BREAK = r"(?:,? {0,2}\n? {0,2}|,? [–-] |,? ?\n)"
_TOWN = rf"{_CAPITAL}(?:[ -](?:{_CAPITAL}|am|an|der|den|de|del|di|la|le|les|sur|upon|on|im|bei|aan|do|da|dos)){{0,3}}"
_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}"
_STATES = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
)
_ZIP = rf"(?:{_STATES}),? \d{{5}}(?:-\d{{4}})?"
_CODE_5 = r"(?:[A-Z]{1,2}-)?\d{5}"
_STREET_TYPE = (
    r"(?i:street|st\b\.?|road|rd\b\.?|avenue|ave\b\.?|lane|ln\b\.?|drive|dr\b\.?|boulevard|blvd\b\.?|court|close"
    r"|crescent|cres\b"
    r"|terrace|place|pl\b\.?|square|sq\b\.?|way|gardens|grove|row|walk|mews|parkway|pkwy\b\.?|highway|hwy\b\.?)"
)
_FLAT = r"(?i:flat|apt\.?|apartment|unit|suite)"

_ENGLISH = re.compile(
    rf"\d(?<![\w.,/-]\d)\d{{0,4}}[A-Za-z]?,? (?:{_CAPITAL} ){{1,4}}{_STREET_TYPE}(?!\w)"
    rf"(?:,? (?:{_FLAT}|#) ?\w{{1,6}})?"
    rf"(?:(?:{_BREAK}{_CAPITAL}(?: {_CAPITAL}){{0,2}}){{1,2}}{_BREAK}(?:{_POSTCODE}|{_ZIP})"
    rf"|{_BREAK}(?:{_POSTCODE}|{_ZIP}))?"
)
_PARTS = {
    "<TOWN>": _TOWN, "<WORDS>": _WORDS, "<BREAK>": _BREAK, "<CAPITAL>": _CAPITAL, "<CODE>": _CODE_5, "<UK>": _POSTCODE,
    "<ZIP>": _ZIP,
}  # fmt: skip


@dataclass(frozen=True)
class _Form:
    """The form of addresses in a country: words of which it has one (and those in ASCII), a closer test, a pattern."""

    hints: tuple[str, ...]
    ascii_hints: tuple[str, ...]
    test: re.Pattern[str] | None
    pattern: re.Pattern[str]


@functools.cache
def address_forms() -> tuple[_Form, ...]:
    """The forms of ``addresses.toml``."""
    return tuple(
        _Form(
            hints=tuple(form["hints"]),
            ascii_hints=tuple(hint for hint in form["hints"] if hint.isascii()),
            test=re.compile(form["test"]) if "test" in form else None,
            pattern=re.compile(re.sub("<[A-Z]+>", lambda part: _PARTS[part.group()], "".join(form["form"]))),
        )
        for form in tomllib.loads(FORMS_FILE.read_text(encoding="utf-8"))["forms"]
    )


# The first pattern of a pair is a cheap test; most texts need no search for the second.
_ANCHORED = (
    (re.compile(r", [A-Z]{2},? \d{5}"), re.compile(rf"(?<!\w){_CAPITAL}(?: {_CAPITAL}){{0,2}}, {_ZIP}(?!\w)")),
    (
        re.compile(r"\d[A-Z\d]? \d[A-Z]{2}"),
        re.compile(r"(?<![\w-])[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}(?![\w-])"),
    ),
)

_CODE_AND_TOWN = re.compile(
    rf"\d(?<![\w.,€$£]\d)(?:\d{{4}}|\d{{3}}|\d-\d{{3}}|\d\d \d{{2}}|\d{{3}}-\d{{3}}|\d{{3}} ?[A-Z]{{2}}) {_TOWN}"
)
_COUNTRY_CODE = re.compile(r"[A-Z]{1,3}-$")
_FLAT_BEFORE = re.compile(rf"(?<!\w){_FLAT} \w{{1,5}},? $")
_STREET_BEFORE = re.compile(
    rf"(?:^|(?<=[\n|;:•·,\t])) {{0,2}}(?:{_CAPITAL} ?(?:[\w'’.-]{{1,25}} ){{0,4}})(?:n\.?º? ?)?"
    r"\d{1,4} ?[A-Za-z]?(?:[/-]\d{1,4})?(?:,| [–-]|)? ?\n? ?$"
)
_NO_HOUSE = re.compile(r"19[5-9]\d|20[0-3]\d|0\d{1,8}")
_TOWN_AND_ZIP = re.compile(rf"[ ,\n]{{1,3}}{_TOWN}[ ,\n]{{1,3}}{_ZIP}")
_YEAR = re.compile(r"(?:19|20)\d\d (?![A-Z]{2} )|\d{2}000 ")
_LOOK_BACK = 80
_FLAT_CHARS = 20
_LABELLED_VALUE = re.compile(r"[^\n;|\t]{4,100}")
_NEXT_LINE = re.compile(
    r"\n ?(?:[A-Z]{1,3}-)?(?:\d{4,6}|\d{2}-\d{3}|\d{3} \d{2}|\d{4} ?[A-Z]{2}|〒?\d{3}-\d{4})[ ,]{1,2}[^\n;|\t]{2,40}"
)
_COLON = re.compile(r"[:：|][ \t\n]{0,3}(?=[^\W_]|〒)")
_NO_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|https?:|www\.|@|\[[A-Z]")


def find_addresses(text: str) -> Iterator[Span]:
    """Find streets with a number (and a following town and postcode), post boxes and postcodes, but not towns alone."""
    lowered, is_ascii = text.lower(), text.isascii()
    for form in address_forms():
        hints = form.ascii_hints if is_ascii else form.hints
        if has_any(lowered, hints) and (form.test is None or form.test.search(text)):
            for match in form.pattern.finditer(text):
                if not _is_numbered_by_year(match.group()):
                    yield Span(*match.span(), "address")
    for test, pattern in _ANCHORED:
        if test.search(text):
            yield from (Span(*match.span(), "address") for match in pattern.finditer(text))
    for match in _ENGLISH.finditer(text):
        if _is_numbered_by_year(match.group()) and not _is_place(text, match.start(), match.end()):
            continue  # "2012 First Place" is an award or a job of that year
        flat = _FLAT_BEFORE.search(text[max(0, match.start() - _FLAT_CHARS) : match.start()])
        yield Span(match.start() - (len(flat.group()) if flat else 0), match.end(), "address")
    yield from _before_postcodes(text)
    yield from _labelled(text)


def _is_numbered_by_year(found: str) -> bool:
    """Return whether the only number of an address cannot be one of a house: a year, or "01"."""
    numbers = re.findall(r"\d+", found)
    return len(numbers) == 1 and (_NO_HOUSE.fullmatch(numbers[0]) is not None)


def _is_place(text: str, start: int, end: int) -> bool:
    """Return whether a street stands alone in its line, behind a label, or before a town and its postcode."""
    line = line_around(text, start, end, limit=_LOOK_BACK + end - start)
    if line is not None and not re.search(r"\w", text[line[0] : start] + text[end : line[1]]):
        return True
    return _TOWN_AND_ZIP.match(text, end) is not None or label_before(text, start, "address") is not None


def _before_postcodes(text: str) -> Iterator[Span]:
    """Find any street with a number directly before a postcode and a town: "Am Markt 5, 28195 Bremen"."""
    for match in _CODE_AND_TOWN.finditer(text):
        if _YEAR.match(match.group()):
            continue
        begin = max(0, match.start() - _LOOK_BACK)
        before = _COUNTRY_CODE.sub("", text[begin : match.start()])
        street = _STREET_BEFORE.search(before)
        if street:
            start = begin + street.start() + len(street.group()) - len(street.group().lstrip())
            yield Span(start, match.end(), "address")


def _labelled(text: str) -> Iterator[Span]:
    """Find values of labels such as "Address:" that hold a number, with a next line that begins with a postcode."""
    for colon in _COLON.finditer(text):
        if label_before(text, colon.end(), "address") is None:
            continue
        value = _LABELLED_VALUE.match(text, colon.end())
        if value is None or _NO_ADDRESS.match(value.group()) or value.group()[0].islower():
            continue
        following = _NEXT_LINE.match(text, value.end())
        end = following.end() if following else value.end()
        found = text[colon.end() : end].rstrip()
        if any(char.isdecimal() for char in found):
            yield Span(colon.end(), colon.end() + len(found), "address")

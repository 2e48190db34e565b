"""Recognising national identity numbers: behind a label, or by their form and check digits.

Check digits and dates inside numbers are verified by python-stdnum. A form that is checked by nothing, or that one in
ten numbers passes, needs a label.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator

from data.redaction.labels import label_before
from data.redaction.recognisers.spans import Span

_FORMS: tuple[tuple[str, str], ...] = (
    ("it.codicefiscale", r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]"),
    ("es.dni", r"\d{8}[ -]?[A-Za-z]"),
    ("es.nie", r"[XYZxyz][ -]?\d{7}[ -]?[A-Za-z]"),
    ("iban", r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?"),
    ("cn.ric", r"\d{17}[\dXx]"),
    ("fr.nir", r"[12][ .]?\d{2}[ .]?(?:0[1-9]|1[0-2]|[2-9]\d)[ .]?\d[\dAB][ .]?\d{3}[ .]?\d{3}[ .]?\d{2}"),
    ("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
    ("us.ssn", r"\d{3}-\d{2}-\d{4}"),
    ("in_.aadhaar", r"[2-9]\d{3}[ -]\d{4}[ -]\d{4}"),
    ("ch.ssn", r"756\.\d{4}\.\d{4}\.\d{2}"),
    ("be.nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"),
    ("kr.rrn", r"\d{6}-[1-4]\d{6}"),
    ("fi.hetu", r"\d{6}[-+A]\d{3}[0-9A-Y]"),
    ("se.personnummer", r"(?:19|20)?\d{6}[-+]\d{4}"),
    ("pl.pesel", r"\d{11}"),
)
"""Module of python-stdnum, and the form in which its numbers are recognised without a label."""

_NINO = re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]")
_ALONE = r"(?![\w-]|[.,]\d)"
_NUMBER_START = re.compile(r"\d(?<![\w.,/+-]\d)")
_WITH_DIGIT_FIRST = re.compile(
    rf"(?:{'|'.join(form for _, form in _FORMS if form[0] != '[' or form[1].isdigit())}){_ALONE}"
)
_WITH_LETTER_FIRST = re.compile(
    rf"(?<![\w.,/+-])(?:{'|'.join(form for _, form in _FORMS if form[:2] in ('[A', '[X'))}|{_NINO.pattern}){_ALONE}"
)
_LETTER_HINT = re.compile(r"[A-Z]{2}(?: ?\d{2} ?[\dA-Z]{2}|[A-Za-z]{4}\d{2}[A-Z])|[XYZ][ -]?\d{7}", re.IGNORECASE)
_COMPILED = tuple((module, re.compile(form)) for module, form in _FORMS)
_HINT = re.compile(r"\d(?:\d{5}|\d{1,3}[ .-]\d{2,4}[ .-]\d|(?:(?<=[A-Z]{2}\d)|(?<=[A-Z]{2} \d))\d ?[\dA-Z]{2})")
_VALUE = re.compile(r"[A-ZА-Я]{0,3}[ -]?(?:[A-Z0-9]{1,12}[ ./№-]{0,3}){1,7}", re.IGNORECASE)
_SEPARATED = re.compile(r"[:：#№=|\n \t][ \t]{0,3}(?=[A-ZА-Я]{0,6} ?\d)")
_MARKS = ":：#№=|\n"
_MIN_LABEL_CHARS = 6
_MIN_DIGITS, _MIN_DIGITS_BESIDE_LETTERS = 5, 4


def find_identity_numbers(text: str) -> Iterator[Span]:
    """Find numbers behind a label such as "Passport No", and numbers with valid check digits."""
    if not _HINT.search(text):
        return
    starts = (start.start() for start in _NUMBER_START.finditer(text))
    found = [match for start in starts if (match := _WITH_DIGIT_FIRST.match(text, start))]
    if _LETTER_HINT.search(text):
        found += _WITH_LETTER_FIRST.finditer(text)
    yield from (Span(match.start(), match.end(), "id_number") for match in found if _is_valid(match.group()))
    for separator in _SEPARATED.finditer(text):
        label = label_before(text, separator.end(), "id_number")
        is_marked = separator.group()[0] in _MARKS
        if label is None or not (is_marked or separator.start() - label >= _MIN_LABEL_CHARS):
            continue  # "nie 12345" and "Inn 12345" are words and numbers
        value = _VALUE.match(text, separator.end())
        number = _leading_number(value.group()) if value else ""
        if sum(char.isdigit() for char in number) >= (_MIN_DIGITS if number.isdigit() else _MIN_DIGITS_BESIDE_LETTERS):
            yield Span(separator.end(), separator.end() + len(number), "id_number")


def _leading_number(text: str) -> str:
    """The words of a value up to the last that holds a digit, or a single letter behind it: "12 34 56 C"."""
    ends = [match.end() for match in re.finditer(r"\S{0,40}\d\S{0,40}(?: [A-ZА-Я](?![^ ]))?", text.rstrip(" ./-"))]
    return text[: ends[-1]] if ends else ""


def _is_valid(number: str) -> bool:
    if _NINO.fullmatch(number):
        return True
    return any(form.fullmatch(number) is not None and _validator(module)(number) for module, form in _COMPILED)


@functools.cache
def _validator(name: str) -> Callable[[str], bool]:
    """The check of a kind of number; each module is imported when a number has its form."""
    is_valid: Callable[[str], bool] = importlib.import_module(f"stdnum.{name}").is_valid
    return is_valid

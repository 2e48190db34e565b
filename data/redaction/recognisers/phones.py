"""Recognising telephone numbers: international, behind a label, in a national form, or alone beside other contacts.

Possible and valid numbers are decided by phonenumbers. Every repetition in a pattern has an upper limit.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import phonenumbers

from data.redaction.labels import label_before
from data.redaction.recognisers.spans import Span, line_around

_SEPARATOR = r"[ \u00a0]{0,2}[().\-–/]{0,2}[ \u00a0]{0,2}(?:[\-–][ \u00a0\n])?"
PHONE = re.compile(
    rf"(?<![\w@#/.,$£€-])(?:\+[ \u00a0]?\(?|\(\+)?\(?\d(?:{_SEPARATOR}\d){{6,33}}(?![^\W_]|[.,]\d|%|[ \u00a0]?[€$£])"
)
_ENOUGH_DIGITS = re.compile(r"\d(?:\D{0,6}\d){6}")
_HYPHENS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2212\u30fc", "-"))  # written by PDFs and word processors
_OTHER_NUMBER = re.compile(
    r"(?:\b(?:order|invoice|ref|reference|no|nr|id|ticket|isbn|issn|serial|account|iban|bic|patent|case|licen[cs]e|member"
    r"|membership|registration|reg|number|version|sku|part|policy|grant|employee|build|vacancy|job|commande|facture|bestellung"
    r"|rechnung|pedido|factura|ordine|fattura|zamówienie|faktura|заказ|счёт|doi|pmid|orcid|issue|cert|certificate|permit)"
    r"|订单|注文|№)[ .:：#\"'|=-]{0,6}$",
    re.IGNORECASE,
)
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_NO_PHONE = re.compile(
    r"\d{1,3}(?:[ .\u00a0]\d{3}){1,4}(?: ?[–-] ?\d{1,3}(?:[ .\u00a0]\d{3}){1,4})?"  # thousands
    r"|\d{1,6}(?: ?[–/-] ?)\d{1,6}"  # ranges
)
_SHORT_DATE = re.compile(
    r"(?<![\d/])(?:0?[1-9]|[12]\d|3[01])/(?:0?[1-9]|[12]\d|3[01])/(?:\d{4}|\d\d)(?![\d/])"  # 03/20/12
    r"|^(?:0?[1-9]|1[0-2])/\d\d(?![\d/]| ?\d\d(?!\d))"  # a month and a year: 05/12
)
_ZIP = re.compile(r"\d{5}-\d{4}")
_STATE_BEFORE = re.compile(r"\b[A-Z]{2},? {1,2}$")
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_APART = re.compile(r"( {2,4}| [–/-] |/(?=\+|0))")
_DOTTED_PHONE = re.compile(r"\d{3}\.\d{3}\.\d{4}|0\d(?:\.\d\d){4}|0\d{2,4}\.\d{3,7}(?:\.\d{3,4})?")
_NATIONAL = re.compile(
    r"(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]{0,3}\d{3}[ .-]{1,3}\d{4}"  # United States, Canada
    r"|[6-9]\d{4}[ -]\d{5}"  # India
    r"|8[ -]?\(?\d{3}\)?[ -]?\d{3}[ -]?\d\d[ -]?\d\d"  # Russia
    r"|\(\d\d\) ?9?[ ]?\d{4}[ -]\d{4}"  # Brazil
    r"|1[3-9]\d[ -]\d{4}[ -]\d{4}"  # China
)
_CELLS = re.compile(r"[|·•\t]")
_LONE_PART = re.compile(r"\w\w")
_FILLED = re.compile(r"@|\[(?:EMAIL|PHONE|URL|HANDLE)_\d|https?:|www\.|linkedin|github", re.IGNORECASE)
_MAX_CONTACT_LINE = 160
_CONTEXT_CHARS = 32
_MIN_DIGITS, _MAX_DIGITS = 7, 15
_LONE_DIGITS = 9


def find_phones(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """Find telephone numbers: international, after a label, or valid in one of the regions.

    Args:
        text: Text to search.
        regions: Two-letter regions whose national numbers are recognised.
    """
    if not _ENOUGH_DIGITS.search(text):
        return
    if not text.isascii():
        text = text.translate(_HYPHENS)
    for match in PHONE.finditer(text):
        found, start = match.group(), match.start()
        if _is_phone(text, start, found, regions):
            is_open = "(" in found and ")" not in found and text[match.end() : match.end() + 1] == ")"
            yield Span(start, match.end() + is_open, "phone")
            continue
        at = start
        for part in _APART.split(found):  # perhaps two numbers in a row
            if part != found and _is_phone(text, at, part, regions):
                yield Span(at, at + len(part), "phone")
            at += len(part)


def _is_phone(text: str, start: int, found: str, regions: tuple[str, ...]) -> bool:
    found = found.replace("\n", "")  # behind a hyphen at the end of a line
    num_digits = sum(char.isdigit() for char in found)
    if not _MIN_DIGITS <= num_digits <= _MAX_DIGITS + 1 or _is_date(found) or _IP.fullmatch(found):
        return False
    if _ZIP.fullmatch(found) and _STATE_BEFORE.search(text, max(0, start - 5), start):
        return False
    compact = found.replace(" ", "").replace("\u00a0", "")
    if compact.startswith(("+", "(+")):
        return _is_possible(compact.replace("(+", "+(", 1), None)
    if label_before(text, start, "phone") is not None:
        return any(_is_possible(compact, region) for region in regions)
    before = text[max(0, start - _CONTEXT_CHARS) : start]
    if _OTHER_NUMBER.search(before):
        return False
    is_lone = num_digits >= _LONE_DIGITS and _is_beside_contacts(text, start, found)
    if is_lone and any(_is_valid(compact, region) for region in regions):
        return True
    plain = found.replace("–", "-")
    if _NO_PHONE.fullmatch(plain) and not _DOTTED_PHONE.fullmatch(plain):
        return False
    if compact.startswith("00"):
        return _is_valid(f"+{compact[2:]}", None)
    if "." in plain and not _DOTTED_PHONE.fullmatch(plain):
        return False
    if compact.startswith(("0", "(0")):
        return num_digits >= _LONE_DIGITS and any(_is_possible(compact, region) for region in regions)
    return _NATIONAL.fullmatch(plain) is not None and any(_is_valid(compact, region) for region in regions)


def _is_beside_contacts(text: str, start: int, found: str) -> bool:
    """Return whether a number is alone in its line, or in a short line with another contact."""
    line = line_around(text, start, start + len(found), limit=_MAX_CONTACT_LINE)
    if line is None:
        return False
    first, last = line
    before, behind = text[first:start], text[start + len(found) : last]
    cell = f"{_CELLS.split(before)[-1]} {_CELLS.split(behind)[0]}"
    is_cell = _CELLS.search(before + behind) is not None and not _LONE_PART.search(cell)
    return is_cell or not _LONE_PART.search(before + behind) or _FILLED.search(before + behind) is not None


def _is_date(found: str) -> bool:
    """Return whether the digits are dates: "06/2011 - 12/2012", or "03/20/12" with another number behind it."""
    if found[0] in "+(":
        return False
    if _SHORT_DATE.search(found):
        return True
    if not _YEAR.search(found):
        return False
    groups = re.split(r"\D+", found)
    return all(len(group) <= 2 or _YEAR.fullmatch(group) for group in groups)


@functools.lru_cache(4096)
def _is_possible(number: str, region: str | None) -> bool:
    parsed = _parse_phone(number, region)
    return parsed is not None and phonenumbers.is_possible_number(parsed)


@functools.lru_cache(4096)
def _is_valid(number: str, region: str | None) -> bool:
    parsed = _parse_phone(number, region)
    return parsed is not None and phonenumbers.is_valid_number(parsed)


def _parse_phone(number: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(number.replace("(0)", ""), region)
    except phonenumbers.NumberParseException:
        return None

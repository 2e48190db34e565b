"""Recognising e-mail addresses, URLs, telephone numbers, dates of birth and postal addresses.

Every repetition in a pattern has an upper limit: even a megabyte of ``a@`` takes linear time. A test checks this.

Does not belong here: names (``person_names``), replacing the matches (``redact``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import phonenumbers

from data.redaction.placeholders import PiiType


class Span(NamedTuple):
    """A part of a text that is personal data."""

    start: int
    end: int
    type: PiiType


_TLD = (
    "com|org|net|edu|gov|info|biz|io|dev|me|app|ai|tech|eu|uk|de|fr|es|it|nl|be|ch|at|ie|pl|se|no|dk|fi|pt|in|au|nz|ca|"
    "us|br|mx|jp|cn|sg|za|ng|ke|cz|example|test|online|site|xyz|name|page"
)
_SPACED_TLD = "com|org|net|edu|gov|info|io|eu|uk|de|fr|example"
# Dots of an address with spaces around them, from OCR or as spam protection.
_SPACED_DOT = r"(?: ?\. ?| ?[\[(] ?dot ?[\])] ?)"

_EMAIL = re.compile(r"(?<![\w.%+'-])[\w.%+'-]{1,64}(?:@|＠)[\w-]{1,63}(?:\.[\w-]{1,63}){0,6}\.[^\W\d_]{2,24}")
_SPACED_EMAIL = re.compile(
    r"(?<![\w.%+'-])(?:[\w%+-]{1,32} \. ){0,3}[\w.%+'-]{1,64} ?(?:@|＠|[\[(] ?at ?[\])]) ?"
    rf"(?:[\w-]{{1,63}}{_SPACED_DOT}){{1,4}}(?:{_SPACED_TLD})\b",
    re.IGNORECASE,
)
_AT = re.compile(r"[@＠]|[\[(] ?at ?[\])]", re.IGNORECASE)
_URL_END = r"[^\s<>\"'|`{}\\]"
_URLS = (
    re.compile(rf"\b(?:https?|ftp) ?: ?/ ?/ ?(?:www ?\. ?)?{_URL_END}{{1,2048}}", re.IGNORECASE),
    re.compile(
        rf"\bwww ?\. ?[\w-]{{1,63}}(?: ?\. ?[\w-]{{1,63}}){{0,4}} ?\. ?(?:{_TLD})\b(?:/{_URL_END}{{0,2048}})?",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\bhttps? ?: ?/ ?/ ?[\w-]{{1,63}}(?: ?\. ?[\w-]{{1,63}}){{0,4}} ?\. ?(?:{_TLD})\b"
        rf"(?:/{_URL_END}{{0,2048}})?",
        re.IGNORECASE,
    ),
    re.compile(rf"(?<![\w.@-])[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{0,4}}\.(?:{_TLD})/{_URL_END}{{1,2048}}", re.IGNORECASE),
    # Only in lower case if there is no scheme or path: "Booking.com" is an employer.
    re.compile(rf"(?<![\w.@/-])[a-z0-9-]{{2,63}}(?:\.[a-z0-9-]{{1,63}}){{0,3}}\.(?:{_TLD})\b(?![\w@-]|\.\w)"),
)
_URL_HINT = re.compile(rf":? ?/ ?/|[wW]{{3}} ?\.|\.(?:{_TLD})\b")
_TECHNOLOGIES = re.compile(
    r"(?:asp|vb|ado|ml|dot|entity|nunit|xunit|paint|c|f|json|socket|draw|crates|deeplearning|fast|node|npm|rx|next)"
    r"\.(?:net|io|ai|me|dev|in)\b",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?:\w{2,5} ?: ?/ ?/ ?)?([^\s/?#]{1,253})")


def find_emails(text: str) -> Iterator[Span]:
    """Find e-mail addresses, including spellings with spaces or ``(at)``."""
    if not _AT.search(text):
        return
    for pattern in (_EMAIL, _SPACED_EMAIL):
        for match in pattern.finditer(text):
            yield Span(match.start(), match.end(), "email")


def find_urls(text: str, *, kept_hosts: Iterable[str] = ()) -> Iterator[Span]:
    """Find URLs, and domains without a scheme.

    Args:
        text: Text to search.
        kept_hosts: Hosts whose URLs do not identify a person, such as those of a taxonomy.
    """
    if not _URL_HINT.search(text):
        return
    kept = frozenset(kept_hosts)
    for pattern in _URLS:
        for match in pattern.finditer(text):
            found = match.group().rstrip(".,;:!?)]")
            host = _HOST.match(found)
            if _TECHNOLOGIES.match(found) or (host and host[1].casefold() in kept):
                continue
            yield Span(match.start(), match.start() + len(found), "url")


_SEPARATOR = r"(?: {0,2}[().\-–]{0,2} {0,2}|/)"
PHONE = re.compile(rf"(?<![\w@#/.,$£€-])(?:\+ ?)?\(?\d(?:{_SEPARATOR}\d){{6,17}}(?!\w|[.,]\d|%)")
_HYPHENS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2212", "-"))  # written by PDFs and word processors
_PHONE_LABEL = re.compile(
    r"(?:\b(?:tel|telephone|telefon|tele|phone|mobile|mob|cell|cellphone|handy|fax|call|ring|whatsapp|text|contact|portable"
    r"|téléphone|móvil|m|t|p|h|c|ph)(?:[ _](?:no|number|nr|me))?)[ .:#\"'|=(on-]{0,8}$",
    re.IGNORECASE,
)
_OTHER_NUMBER = re.compile(
    r"\b(?:order|invoice|ref|reference|no|nr|id|ticket|isbn|issn|serial|account|iban|patent|case|licen[cs]e|member|membership"
    r"|registration|reg|number|version|sku|part|policy|grant|employee|build|vacancy|job)[ .:#\"'|=-]{0,6}$",
    re.IGNORECASE,
)
_NO_PHONE = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}"  # an IP address
    r"|\d{1,3}(?:[ .]\d{3}){1,4}(?: ?[–-] ?\d{1,3}(?:[ .]\d{3}){1,4})?"  # thousands
    r"|\d{1,6}(?: ?[–-] ?)\d{1,6}"  # ranges
)
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_APART = re.compile(r"( {2,4}| [–-] )")
_DOTTED_PHONE = re.compile(r"\d{3}\.\d{3}\.\d{4}|0\d(?:\.\d\d){4}|0\d{2,4}\.\d{3,7}(?:\.\d{3,4})?")
_PLAIN_PHONE = re.compile(r"\(?\d{3}\)?[ .-]{1,2}\d{3}[ .-]{1,2}\d{4}|[6-9]\d{4} \d{5}")
_CONTEXT_CHARS = 32
_MIN_DIGITS, _MAX_DIGITS = 7, 15


def find_phones(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """Find telephone numbers: international, after a label, or valid in one of the regions.

    Args:
        text: Text to search.
        regions: Two-letter regions whose national numbers are recognised.
    """
    text = text.translate(_HYPHENS)
    for match in PHONE.finditer(text):
        found = match.group()
        before = text[max(0, match.start() - _CONTEXT_CHARS) : match.start()]
        if _is_phone(found, before, regions):
            end = match.end() + (
                1 if "(" in found and ")" not in found and text[match.end() : match.end() + 1] == ")" else 0
            )
            yield Span(match.start(), end, "phone")
            continue
        at = match.start()
        for part in _APART.split(found):  # perhaps two numbers in a row
            if part != found and _is_phone(part, before, regions):
                yield Span(at, at + len(part), "phone")
            at += len(part)


def _is_phone(found: str, before: str, regions: tuple[str, ...]) -> bool:
    num_digits = sum(char.isdigit() for char in found)
    if not _MIN_DIGITS <= num_digits <= _MAX_DIGITS + 1:
        return False
    if _is_date(found):
        return False
    compact = found.replace(" ", "")
    if compact.startswith("+"):
        return _is_possible(compact, None)
    is_labelled = _PHONE_LABEL.search(before) is not None
    if is_labelled:
        return any(_is_possible(compact, region) for region in regions)
    if _OTHER_NUMBER.search(before) or (_NO_PHONE.fullmatch(found) and not _DOTTED_PHONE.fullmatch(found)):
        return False
    if compact.startswith("00"):
        return _is_valid(f"+{compact[2:]}", None)
    if "." in found and not _DOTTED_PHONE.fullmatch(found):
        return False
    if compact.startswith(("0", "(0")):
        return num_digits >= 9 and any(_is_possible(compact, region) for region in regions)
    return _PLAIN_PHONE.fullmatch(found) is not None and any(_is_valid(compact, region) for region in regions)


def _is_date(found: str) -> bool:
    """Return whether the digits are years, perhaps with days or months: "06/2011 - 12/2012"."""
    if found[0] in "+(" or not _YEAR.search(found):
        return False
    groups = re.split(r"\D+", found)
    return all(len(group) <= 2 or _YEAR.fullmatch(group) for group in groups)


def _is_possible(number: str, region: str | None) -> bool:
    parsed = _parse_phone(number, region)
    return parsed is not None and phonenumbers.is_possible_number(parsed)


def _is_valid(number: str, region: str | None) -> bool:
    parsed = _parse_phone(number, region)
    return parsed is not None and phonenumbers.is_valid_number(parsed)


def _parse_phone(number: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None


_D2, _D4 = r"\d(?: ?\d)?", r"\d(?: ?\d){3}"
_MONTH = (
    "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|januar|februar|märz|mai|juni|juli|oktober|dezember|janvier|février"
    "|mars|avril|juin|juillet|août|enero|febrero|marzo|abril|mayo|junio|julio|agosto)"
)
_BIRTH_WORD = re.compile(r"birth|\bborn|d ?\. ?o ?\. ?b|\bdob|geb(?:\.|oren|urt)|née? le|nacimiento", re.IGNORECASE)
_BIRTH_DATE = re.compile(
    r"(?:date[ _-]{0,2}of[ _-]{0,2}birth|\bd ?\. ?o ?\. ?b\b\.?|\bdob\b"
    r"|birth[ _-]{0,2}(?:date|day)|\bborn(?: on)?\b|\bgeboren(?: am)?\b"
    r"|\bgeb\.|geburtsdatum|\bnée? le\b|fecha de nacimiento)"
    r"(?: (?:in|at) [^\W\d_]{2,20}(?: [^\W\d_]{2,20})?,? (?:on )?)?[\s\"'|:=*.,(_-]{0,8}(?:the )?"
    rf"(?P<date>\d{{4}} ?[-/.] ?{_D2} ?[-/.] ?{_D2}|{_D2} ?[-/.] ?{_D2} ?[-/.] ?(?:{_D4}|\d\d)"
    rf"|{_D2}(?:st|nd|rd|th)?\.? ?(?:of |de )?{_MONTH}[a-z]{{0,6}}\.?,? ?(?:de )?{_D4}"
    rf"|{_MONTH}[a-z]{{0,6}}\.? ?{_D2}(?:st|nd|rd|th)?,? ?{_D4}"
    r"|(?:in )?(?:19[2-9]\d|200\d)\b)",
    re.IGNORECASE,
)


def find_birth_dates(text: str) -> Iterator[Span]:
    """Find dates of birth: dates after a label such as "born" or "DOB"."""
    if not _BIRTH_WORD.search(text):
        return
    for match in _BIRTH_DATE.finditer(text):
        yield Span(*match.span("date"), "birth_date")


_CAPITAL = r"[^\W\d_a-zß-öø-ÿ][\w'’.-]{0,30}"
_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}"
_STATES = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
)
_ZIP = rf"(?:{_STATES}),? \d{{5}}(?:-\d{{4}})?"
_TOWN = rf"(?:,? {{0,2}}{_CAPITAL}(?: {_CAPITAL}){{0,2}}){{1,2}}"
_STREET_TYPE = (
    r"(?i:street|st\b\.?|road|rd\b\.?|avenue|ave\b\.?|lane|ln\b\.?|drive|dr\b\.?|boulevard|blvd\b\.?|court|close|crescent|cres\b"
    r"|terrace|place|pl\b\.?|square|sq\b\.?|way|gardens|grove|row|walk|mews|parkway|pkwy\b\.?|highway|hwy\b\.?)"
)
# The first pattern of a pair is a cheap test; most texts need no search for the second.
_ADDRESSES = (
    (
        re.compile(r"\d[A-Za-z]?,? [^\W\d_]"),
        re.compile(
            r"(?<![\w.,/-])(?:(?i:flat|apt\.?|apartment|unit|suite) \w{1,5},? )?"
            rf"\d{{1,5}}[A-Za-z]?,? (?:{_CAPITAL} ){{1,4}}"
            rf"{_STREET_TYPE}(?!\w)(?:,? (?:(?i:flat|apt\.?|apartment|unit|suite)|#) ?\w{{1,6}})?"
            rf"(?:{_TOWN},? {{0,2}}(?:{_POSTCODE}|{_ZIP})|,? {{0,2}}(?:{_POSTCODE}|{_ZIP}))?"
        ),
    ),
    (
        re.compile(r"(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse) \d"),
        re.compile(
            r"(?<!\w)[A-ZÄÖÜ][\wäöüß-]{1,30}(?:straße|strasse|str\.|weg|platz|allee|gasse) \d{1,4} ?[a-z]?(?!\w)"
            rf"(?:,? (?:D-)?\d{{5}} {_CAPITAL})?"
        ),
    ),
    (
        re.compile(
            r"\d (?:bis |ter )?(?:rue|avenue|boulevard|place|allée|impasse)|\d, ?(?:rue|avenue|boulevard|place)",
            re.IGNORECASE,
        ),
        re.compile(
            rf"(?<!\w)\d{{1,4}}(?: ?(?:bis|ter))?,? (?i:rue|avenue|boulevard|place|allée|impasse)"
            rf" (?:[\w'’-]{{1,25}} ){{0,4}}[\w'’-]{{1,25}},? "
            rf"\d{{5}} {_CAPITAL}"
        ),
    ),
    (
        re.compile(r"\bbox \d", re.IGNORECASE),
        re.compile(rf"(?<!\w)P\.? ?O\.? ?Box \d{{1,6}}(?:{_TOWN},? (?:{_POSTCODE}|{_ZIP}))?", re.IGNORECASE),
    ),
    (
        re.compile(r", [A-Z]{2},? \d{5}"),
        re.compile(rf"(?<!\w){_CAPITAL}(?: {_CAPITAL}){{0,2}}, {_ZIP}(?!\w)"),
    ),
    (
        re.compile(r"\d[A-Z\d]? \d[A-Z]{2}"),
        re.compile(r"(?<![\w-])[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}(?![\w-])"),
    ),
)


def find_addresses(text: str) -> Iterator[Span]:
    """Find streets with a number (and a following town and postcode), post boxes and postcodes, but not towns alone."""
    for hint, pattern in _ADDRESSES:
        if not hint.search(text):
            continue
        for match in pattern.finditer(text):
            yield Span(match.start(), match.end(), "address")


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Sort spans and merge overlapping ones. A merged span has the type of the first."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Span(last.start, max(last.end, span.end), last.type)
        else:
            merged.append(span)
    return merged

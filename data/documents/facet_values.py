"""Values of facets: days, amounts of money, types of employment. What cannot be read is None.

Belongs here: how sources write a value. Does not belong here: names of fields (``facets``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

_MIN_YEAR, _MAX_YEAR = 1970, 2200
_MAX_AMOUNT = 1e9
_MAX_CHARS = 1000  # of a salary or a day; longer texts are descriptions

# --- texts ------------------------------------------------------------------------------------------------------------


def as_text(value: object) -> str | None:
    """A value as text. The values of a list are joined; nested objects have no text."""
    if isinstance(value, list):
        return ", ".join(dict.fromkeys(text for each in value if (text := as_text(each)))) or None
    if value is None or isinstance(value, dict | bool):
        return None
    return str(value).strip() or None


_TYPES = {
    "FULL_TIME": "fulltime vollzeit tempsplein tempscomplet voltijd fulltijd jornadacompleta tempopieno heltid",
    "PART_TIME": "parttime teilzeit tempspartiel deeltijd mediajornada tempoparziale deltid",
    "CONTRACTOR": "contractor contract freelance freelancer selfemployed",
    "TEMPORARY": "temporary temp fixedterm befristet cdd seasonal",
    "INTERN": "intern internship praktikum stage stagiaire",
    "VOLUNTEER": "volunteer voluntary ehrenamt",
    "PER_DIEM": "perdiem",
    "OTHER": "other",
}
_TYPE_OF_WORD = {word: code for code, words in _TYPES.items() for word in words.split()}


def as_employment_type(value: object) -> str | None:
    """Codes that schema.org's JobPosting uses, if all words are known; otherwise the text itself."""
    text = as_text(value)
    if text is None:
        return None
    codes = [_TYPE_OF_WORD.get(re.sub(r"[\W_]", "", word).casefold()) for word in re.split("[,;/|]", text)]
    known = [code for code in codes if code is not None]
    return ", ".join(dict.fromkeys(known)) if len(known) == len(codes) else text


_REMOTE = frozenset({"true", "yes", "y", "1", "remote", "telecommute", "fullyremote", "remoteonly", "homeoffice"})
_ON_SITE = frozenset({"false", "no", "n", "0", "onsite", "office", "hybrid", "hybridremote", "inperson"})


def as_remote(value: object) -> bool | None:
    """Whether the work is remote. Hybrid work is not."""
    if isinstance(value, bool):
        return value
    words = {re.sub(r"[\W_]", "", word).casefold() for word in (as_text(value) or "").split(",")}
    return True if words & _REMOTE else False if words & _ON_SITE else None


# --- days -------------------------------------------------------------------------------------------------------------

_MONTHS = {
    name: number
    for number, names in enumerate(
        ("jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july", "aug august",
         "sep sept september", "oct october", "nov november", "dec december"),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_ISO_START = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?!\d)")
_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?!\d)")  # with dots, the day comes first everywhere
_NAMED_MONTH = re.compile(
    r"(?:(\d{1,2})(?:[a-z]{2})?[ -]([a-z]+)\.?[ -](\d{4})|([a-z]+)\.? (\d{1,2})(?:[a-z]{2})?,? (\d{4}))(?!\d)",
    re.I,
)


def as_day(value: object) -> str | None:
    """A day as ``2026-01-31``, from ISO 8601, RFC 2822, a month's English name, 31.1.2026 or a Unix time.

    Other formats are ambiguous: 3/4 may be in March or April.
    """
    text = as_text(value)
    if text is None or len(text) > _MAX_CHARS:
        return None
    try:
        found = _parsed_day(text)
    except (ValueError, OverflowError, OSError):
        return None
    return found.isoformat() if found is not None and _MIN_YEAR <= found.year <= _MAX_YEAR else None


@lru_cache(10_000)
def _parsed_day(text: str) -> date | None:
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        pass
    if text.isdigit() and len(text) in (10, 13):  # seconds or milliseconds since 1970
        return datetime.fromtimestamp(int(text[:10]), UTC).date()
    if match := _ISO_START.match(text):
        year, month, day = (int(part) for part in match.groups())
        return date(year, month, day)
    if match := _DAY_FIRST.match(text):
        day, month, year = (int(part) for part in match.groups())
        return date(year, month, day)
    if match := _NAMED_MONTH.match(text):
        first, name, last, named, inner, end = match.groups()
        month_of = _MONTHS.get((name or named).casefold())
        return None if month_of is None else date(int(last or end), month_of, int(first or inner))
    return parsedate_to_datetime(text).date()


# --- salaries ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Salary:
    """A salary.

    Attributes:
        low: Lower end; None if only the upper one is known.
        high: Upper end; equal to ``low`` if there is a single amount.
        currency: ISO 4217 code.
        unit: ``hour``, ``day``, ``week``, ``month`` or ``year``.
    """

    low: float | None = None
    high: float | None = None
    currency: str | None = None
    unit: str | None = None


_CODES = (
    "AED ARS AUD BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES KRW MAD MXN MYR NGN "
    "NOK NZD PEN PHP PKR PLN RON RSD RUB SAR SEK SGD THB TRY TWD UAH USD VND ZAR"
)
_SIGNS = {
    "US$": "USD", "A$": "AUD", "AU$": "AUD", "C$": "CAD", "CA$": "CAD", "NZ$": "NZD", "S$": "SGD", "HK$": "HKD",
    "R$": "BRL", "$": "USD", "£": "GBP", "€": "EUR", "₹": "INR", "zł": "PLN", "₽": "RUB", "₺": "TRY", "₩": "KRW",
    "¥": "JPY", "Kč": "CZK",
}  # fmt: skip
_SIGN = "|".join([*(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True)), *_CODES.split()])
_DIGITS = r"\d{1,3}(?:[.,'’ \u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?"
_MONEY = rf"(?:(?:{_SIGN})\s?)?(?<![\d.,])(?:{_DIGITS})(?!\d|\s?%)\s?(?:[kK]\b)?(?:\s?(?:{_SIGN})(?!\w))?"
_RANGE = re.compile(rf"(?P<low>{_MONEY})(?:\s?(?:-|–|—|\bto\b|\band\b|\bbis\b|\bà\b)\s?(?P<high>{_MONEY}))?")
_AMOUNT = re.compile(_DIGITS)
_ONLY_HIGH = re.compile(r"\b(?:up to|max(?:imum)?\.?|bis zu|jusqu'à)\s*$", re.I)
_ONLY_LOW = re.compile(r"\b(?:from|starting at|min(?:imum)?\.?|ab|à partir de)\s*$", re.I)
_UNITS = {
    "hour": r"hours?\b|hr\b|h\b|hourly|stunde|std\b|heure|uur\b",
    "day": r"days?\b|daily|tag\b|jour\b",
    "week": r"weeks?\b|wk\b|weekly|woche|semaine",
    "month": r"months?\b|mth\b|monthly|monat|mtl\b|mois\b|maand",
    "year": r"years?\b|yr\b|yearly|annum|annual|p\.?\s?a\b|jahr|jährlich|an\b|jaar",
}
_UNIT = re.compile("|".join(rf"(?P<{unit}>(?<![^\W\d_])(?:{words}))" for unit, words in _UNITS.items()), re.I)


def as_amount(value: object) -> float | None:
    """A single amount: a number, or a text that holds nothing but one and perhaps a currency."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value <= _MAX_AMOUNT else None
    text = as_text(value)
    match = None if text is None or len(text) > _MAX_CHARS else _RANGE.fullmatch(text)
    return None if match is None or match["high"] is not None else _amount(match["low"])


def as_salary(value: object) -> Salary:
    """A salary from a number or a text such as ``£25,000 - £30,000 per annum``; empty if there is none.

    Without a currency, the text may hold only amounts and a unit: ``Band 5`` is no salary.
    """
    if isinstance(value, int | float):
        amount = as_amount(value)
        return Salary(amount, amount) if amount else Salary()
    text = as_text(value)
    return Salary() if text is None or len(text) > _MAX_CHARS else _salary_in(text)


@lru_cache(10_000)
def _salary_in(text: str) -> Salary:
    matches = list(_RANGE.finditer(text))
    match = next((each for each in matches if _currency_in(each.group())), None)
    if match is None:
        if len(matches) != 1 or re.search(r"[^\W_]", _UNIT.sub("", _without(text, matches[0]))):
            return Salary()
        match = matches[0]
    low, high = _amount(match["low"]), _amount(match["high"] or match["low"])
    if low is None or high is None:
        return Salary()
    if match["high"] and low < 1000 <= high and _is_thousands(match["high"]) and not _is_thousands(match["low"]):
        low *= 1000  # 25-30k
    if low > high or not high:
        return Salary()
    before = text[: match.start()]
    is_open = not match["high"] and text[match.end() :].startswith("+")
    unit = _UNIT.search(text, match.end()) or _UNIT.search(text)
    return Salary(
        low=None if not match["high"] and _ONLY_HIGH.search(before) else low,
        high=None if is_open or (not match["high"] and _ONLY_LOW.search(before)) else high,
        currency=_currency_in(match.group()),
        unit=unit.lastgroup if unit else None,
    )


def as_currency(value: object) -> str | None:
    """ISO 4217 code of a currency, from its code or sign."""
    text = as_text(value) or ""
    return _SIGNS.get(text) or (text.upper() if text.upper() in _CODES.split() else None)


def as_unit(value: object) -> str | None:
    """Unit of time of a salary: ``YEAR``, ``hourly``, ``per-month-salary``."""
    match = _UNIT.search(as_text(value) or "")
    return match.lastgroup if match else None


def _without(text: str, match: re.Match[str]) -> str:
    rest = text[: match.start()] + text[match.end() :]
    return re.sub(r"\b(?:per|a|an|pro|par|brutto|gross)\b", "", rest, flags=re.I)


def _is_thousands(money: str) -> bool:
    return bool(re.search(r"\d\s?[kK]\b", money))


def _currency_in(text: str) -> str | None:
    match = re.search(rf"(?:{_SIGN})", text)
    return None if match is None else _SIGNS.get(match.group(), match.group())


def _amount(money: str) -> float | None:
    """Amount of ``1,234.50``, ``1.234,50``, ``1 234`` or ``25k``: a group of three digits holds thousands."""
    match = _AMOUNT.search(money)
    if match is None:
        return None
    digits = re.sub("['’ \u00a0\u202f]", "", match.group())
    whole, mark, cents = digits.rpartition("." if digits.rfind(".") > digits.rfind(",") else ",")
    has_cents = mark and len(cents) != 3
    digits = re.sub("[.,]", "", whole if has_cents else digits) + (f".{cents}" if has_cents else "")
    amount = float(digits) * (1000 if _is_thousands(money) else 1)
    return amount if amount <= _MAX_AMOUNT else None

"""Recognising dates of birth: dates behind a label or a word such as "born", in several languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data.redaction.labels import label_before
from data.redaction.recognisers.spans import Span, has_any

_HINTS = (
    "birth", "born", "dob", "d.o.b", "d. o. b", "d o b", "geb",
    "naiss", "né ", "née ", "né(e)", "ne le", "nacim", "nacid",
    "f. nac", "nascit", "nato il", "nato a", "nata il", "nata a",
    "nato/", "nasc", "geboort", "urodz", " ur.", "\nur.", "föd",
    "føds", "født", "synt", "рожд", "родил", "д.р", "naro",
    "doğum", "szület", "出生", "生日", "生年", "誕生", "생년", "ميلاد",
    "जन्म",
)  # fmt: skip
_ASCII_HINTS = tuple(hint for hint in _HINTS if hint.isascii())
_D, _Y = r"\d(?: ?\d)?", r"(?:\d(?: ?\d){3}|\d\d)"
_DATE = re.compile(
    r"(?<![\w])(?:"
    rf"\d{{4}} ?[-/.] ?{_D} ?[-/.] ?{_D}(?!\d)"
    r"|\d{4} ?[-/.] ?(?:0[1-9]|1[0-2])(?![\d.])"
    r"|\d{4} ?年 ?(?:\d{1,2} ?月(?: ?\d{1,2} ?日)?)?|\d{4}年생?|\d{4}년 ?\d{1,2}월 ?\d{1,2}일"
    r"|(?:昭和|平成|令和)\d{1,2}年\d{1,2}月\d{1,2}日"
    rf"|{_D} ?[-/.] ?{_D} ?[-/. ] ?{_Y}(?!\d)"
    rf"|{_D}(?:st|nd|rd|th|er|º|ª)?[.,]?[ /-]{{0,2}}(?:of |de |den |di )?[^\W\d_]{{3,12}}[.,]{{0,2}}[ /-]{{0,2}}"
    r"(?:de |del )?\d(?: ?\d){3}(?!\d)"
    rf"|[^\W\d_]{{3,12}}\.? ?{_D}(?:st|nd|rd|th)?,?[ \n]?\d(?: ?\d){{3}}(?!\d)"
    r"|(?:19[2-9]\d|200\d)(?!\d)"
    r")",
    re.IGNORECASE,
)
_BORN = re.compile(
    r"(?:\bborn|\bgeboren|\bgeb\.|\bn[ée]e?|\bn[ée]\(e\)|\bnat[oa](?:/a)?|\bnacid[oa]|\bnascid[oa]|\burodzon[ya]|\bur\."
    r"|\bfödd|\bfødt|родил(?:ся|ась)|\bnarozena?)"
    r"(?:[ ,(][^\d\n;|.]{0,40})?$",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"(?:\b(?:the|on|am|le|el|il|den|op|em|w dniu|dnia) ?)$", re.IGNORECASE)
_CONTEXT = 64


def find_birth_dates(text: str) -> Iterator[Span]:
    """Find dates behind a label such as "DOB", and dates or years behind "born"."""
    folded = text.casefold()
    if not has_any(folded, _ASCII_HINTS if text.isascii() else _HINTS):
        return
    for match in _DATE.finditer(text):
        before = text[max(0, match.start() - _CONTEXT) : match.start()].rpartition("\n")[2]
        between = _BETWEEN.search(before)
        at = match.start() - (len(between.group()) if between else 0)
        if label_before(text, at, "birth_date") is not None or _BORN.search(before):
            yield Span(match.start(), match.end(), "birth_date")

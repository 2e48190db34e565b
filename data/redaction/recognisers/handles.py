"""Recognising handles: names of accounts behind the name of a service, such as "Skype: rosa.muster85"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data.redaction.names import name_lists
from data.redaction.recognisers.spans import Span

_SERVICES = (
    "linkedin", "linked in", "skype", "github", "gitlab",
    "telegram", "twitter", "x.com", "instagram", "facebook", "wechat",
    "weixin", "微信", "line id", "qq", "xing",
    "stackoverflow", "stack overflow", "kaggle", "behance", "dribbble", "discord",
    "viber", "leetcode", "codepen", "телеграм", "скайп",
)  # fmt: skip
_HANDLE = re.compile(
    r"(?: ?(?:id|profile|profil|user(?:name)?|handle|account|name|号))?[ \t]{0,2}(?P<mark>[:：=|/@(]|[–-] |)[ \t]{0,3}"
    r"(?P<handle>@?(?:live:)?/?(?:in/)?[A-Za-z0-9][\w.-]{1,58}\w)(?![\w@/]|\.\w)",
    re.IGNORECASE,
)
_UNMISTAKABLE = re.compile(
    r"[\w-]{1,60}[._][\w.-]{0,60}\d|[A-Za-z_-]{3,60}\d{2,20}|[a-z]{1,60}_[a-z_]{1,60}|[a-z]{1,30}(?:-[a-z]{1,30}){1,3}-\d\w{0,20}"
)
_TELLING = re.compile(r"[\d._-]")
_CAPITALISED = re.compile(r"[A-Z][\w'’-]{1,30}(?: [A-Z][\w'’-]{1,30}){1,2}(?=[ \t]{0,4}(?:$|[|;,\n]))", re.MULTILINE)
_END = re.compile(r"[ \t]{0,4}(?:$|[|;,·•)\n])", re.MULTILINE)
_VERSION = re.compile(r"v?\d{1,9}(?:[.-]\d{1,9}){0,6}[a-z]?")
_COLONS = ":：=|"


def find_handles(text: str) -> Iterator[Span]:
    """Find names of accounts behind a service: with a digit or a sign in them, with ``@``, or alone behind a colon."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter whose lower case is longer
        lowered = text
    if "/in/" in lowered:
        yield from (Span(*match.span(), "handle") for match in _PATH.finditer(text))
    for service in _SERVICES:
        at = lowered.find(service)
        while at >= 0:
            end = at + len(service)
            if not (service.isascii() and lowered[max(0, at - 1) : at].isalnum()):
                yield from _handle_behind(text, end)
            at = lowered.find(service, end)


_PATH = re.compile(r"(?<![\w./])/in/[\w-]{3,60}")


def _handle_behind(text: str, end: int) -> Iterator[Span]:
    match = _HANDLE.match(text, end)
    if match is None or _VERSION.fullmatch(match["handle"]):
        return
    handle, start = match["handle"], match.start("handle")
    if not match["mark"] and not text[end : end + 1].isspace():
        return
    if match["mark"] == "@" or handle.startswith(("@", "live:", "in/", "/in/")) or _UNMISTAKABLE.fullmatch(handle):
        yield Span(start, match.end("handle"), "handle")
    elif match["mark"] and match["mark"] in _COLONS:
        named = _CAPITALISED.match(text, start)
        if named and not any(word.casefold() in name_lists().words for word in named.group().split()):
            yield Span(*named.span(), "handle")
        elif (_TELLING.search(handle) or handle.islower()) and _END.match(text, match.end("handle")):
            yield Span(start, match.end("handle"), "handle")

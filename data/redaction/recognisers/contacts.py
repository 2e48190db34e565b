"""Recognising e-mail addresses and URLs.

Every repetition in a pattern has an upper limit: even a megabyte of ``a@`` takes linear time. A test checks this.

Does not belong here: other kinds of personal data (a module each), replacing the matches (``redact``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from data.redaction.recognisers.spans import Span

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
_AT = re.compile(r"[@＠\[(](?:(?<=[@＠])| ?[aA][tT] ?[\])])")
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
_SLASHES = re.compile(r"/ ?/")
_DOMAIN_END = re.compile(rf"\.(?:{_TLD})\b")
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
    if not (_SLASHES.search(text) or "www" in text.lower() or _DOMAIN_END.search(text)):
        return
    kept = frozenset(kept_hosts)
    for pattern in _URLS:
        for match in pattern.finditer(text):
            found = match.group().rstrip(".,;:!?)]")
            host = _HOST.match(found)
            if _TECHNOLOGIES.match(found) or (host and host[1].casefold() in kept):
                continue
            yield Span(match.start(), match.start() + len(found), "url")

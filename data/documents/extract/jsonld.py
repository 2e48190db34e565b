"""JSON-LD: find postings in linked data, and in the scripts of a saved web page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from lxml import etree

_POSTING = "JobPosting"
# Properties under which sites put their postings, besides plain lists.
_CONTAINERS = ("@graph", "mainEntity", "mainEntityOfPage", "itemListElement", "item", "hasPart")
_MAX_DEPTH = 20
_OPENING = re.compile(r"^\s*(?:<!--|(?://\s*)?<!\[CDATA\[)")
_CLOSING = re.compile(r"(?:-->|(?://\s*)?\]\]>)\s*$")


def find_postings(value: object, depth: int = 0) -> Iterator[Mapping[str, object]]:
    """All JobPosting objects in a JSON-LD value, in order, also below ``@graph``, ``mainEntity`` and item lists."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for each in value:
            yield from find_postings(each, depth + 1)
    elif isinstance(value, Mapping):
        if _POSTING in types_of(value):
            yield value
            return
        for name in _CONTAINERS:
            if name in value:
                yield from find_postings(value[name], depth + 1)


def types_of(value: Mapping[str, object]) -> set[str]:
    """Types of a JSON-LD object, without namespaces; empty if it states none."""
    stated = value.get("@type")
    listed = stated if isinstance(stated, list) else [stated]
    return {re.split("[/#:]", each)[-1] for each in listed if isinstance(each, str)}


def page_postings(markup: str) -> tuple[list[Mapping[str, object]], bool]:
    """Postings in the JSON-LD scripts of a web page, and whether a script with a posting cannot be read."""
    if _POSTING not in markup:
        return [], False
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, huge_tree=True)
    root = etree.fromstring(markup.encode("utf-8", "replace"), parser)
    postings: list[Mapping[str, object]] = []
    is_damaged = False
    for script in root.iter("script") if root is not None else ():
        if "ld+json" not in (script.get("type") or "").lower():
            continue
        content = _CLOSING.sub("", _OPENING.sub("", script.text or ""))
        try:
            value = json.loads(content, strict=False)  # many sites leave line breaks in texts
        except (ValueError, RecursionError):
            is_damaged = is_damaged or _POSTING in content
            continue
        postings += find_postings(value)
    return postings, is_damaged

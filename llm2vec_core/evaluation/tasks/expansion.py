"""Documents expanded with the training texts that belong to them.

An encoder that was trained on pairs of a title and an alternative title has read much about the documents with these
titles. BM25 gets the same knowledge when it reads the alternative titles behind each document. Without this row, a gain
over plain BM25 may be nothing more than the training data. An encoder finds the documents by the same titles
(``protocols.documents``), so that both legs of a fusion know them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from llm2vec_core.evaluation.tasks.layouts import TaskRow


@dataclass(frozen=True)
class Expansion:
    """Training texts by the text that they were paired with.

    Attributes:
        anchors: Lower-case positive to its anchors, without duplicates.
    """

    anchors: Mapping[str, tuple[str, ...]]

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Expansion:
        """The expansion by pairs of an anchor and a positive."""
        found: dict[str, dict[str, None]] = {}
        for anchor, positive in pairs:
            found.setdefault(_key(positive), {})[anchor] = None
        return cls({positive: tuple(anchors) for positive, anchors in found.items()})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all pairs, 16 hex digits."""
        return hashlib.sha256(json.dumps(sorted(self.anchors.items())).encode()).hexdigest()[:16]

    def added(self, title: str, text: str) -> list[str]:
        """The anchors of a document's title and of its text."""
        keys = dict.fromkeys(map(_key, (title, text, f"{title} {text}")))
        return [anchor for key in keys if key for anchor in self.anchors.get(key, ())]

    def expand(self, title: str, text: str) -> str:
        """A document with the anchors of its title and of its text behind it."""
        return " ".join(part for part in (title, text, *self.added(title, text)) if part)

    def count(self, corpus: Sequence[TaskRow]) -> int:
        """Number of documents that get longer."""
        keys = ((_key(row.get("title") or ""), _key(row["text"])) for row in corpus)
        return sum(any(key in self.anchors for key in pair if key) for pair in keys)


def _key(text: str) -> str:
    return " ".join(text.casefold().split())

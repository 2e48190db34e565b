"""Sentences on how much of the documents the encoder read."""

from __future__ import annotations

from collections.abc import Mapping

from data.schema import DocumentKind
from data.vectors.shards import TokenCount
from tasks.run.settings import EncodeSettings


def cut_sentence(kind: DocumentKind, count: TokenCount, encode: EncodeSettings) -> str | None:
    """What is wrong and what to do if more tokens of a kind were cut than the settings allow; otherwise None."""
    if count.cut_share <= encode.max_cut_share:
        return None
    advice = (
        'Set encode.long_texts = "parts", which reads documents whole, and run `l2v embed`.'
        if encode.long_texts == "cut"
        else "Train with a larger train.max_tokens, or shorten encode.prompts."
    )
    return (
        f"{count.cut:,} of {count.cut + count.read:,} tokens of the {kind}s ({count.cut_share:.1%}) never reached the "
        f"encoder; the limit is {encode.max_cut_share:.1%} (encode.max_cut_share). {advice}"
    )


def read_sentence(counts: Mapping[DocumentKind, TokenCount]) -> str:
    """Share of the tokens that were read, by kind."""
    parts = []
    for kind, count in counts.items():
        total = count.read + count.cut
        part = f"{1 - count.cut_share:.1%} of {total:,} tokens of {kind}s" if total else f"nothing known of {kind}s"
        if count.uncounted:
            part += f" ({count.uncounted:,} texts were encoded before tokens were counted)"
        parts.append(part)
    return ", ".join(parts)

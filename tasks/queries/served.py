"""The served documents: the served generation, its tables, and the words of their rows. Never imports prefect."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from data.errors import InputError, VectorSpaceError
from data.schema import DocumentKind, encoded_text
from data.store.base import Store
from data.vectors.pointer import Pointer, read_pointer

if TYPE_CHECKING:
    from data.vectors.lance import LanceTable


class NothingServedError(InputError):
    """There is no pointer: nothing was promoted yet."""


def served(store: Store) -> Pointer:
    """The pointer to what is served.

    Raises:
        NothingServedError: Nothing is served.
    """
    pointer = read_pointer(store)
    if pointer is None:
        raise NothingServedError(
            "Nothing is served yet.",
            hint="Run `l2v nightly` first; or `l2v ingest`, then `l2v embed --checkpoint ID`.",
        )
    return pointer


def served_table(store: Store, pointer: Pointer, kind: DocumentKind) -> LanceTable:
    """The served table of a kind of documents, at the served version."""
    from data.vectors.lance import open_table

    return open_table(store, generation=pointer.generation, kind=kind, version=pointer.version_of(kind))


def past_jobs(table: LanceTable, day: date) -> list[str]:
    """Ids of the jobs whose ``valid_through`` is before a day, sorted."""
    from data.vectors.filters import past_on

    if not table.has_column("valid_through"):
        return []
    return sorted(table.read(["doc_id"], where=past_on(day))["doc_id"].to_pylist())


def require_same_space(store: Store, pointer: Pointer, checkpoint: str) -> None:
    """Refuse to compare vectors of two checkpoints.

    Raises:
        VectorSpaceError: ``checkpoint`` did not write the served vectors.
    """
    from tasks.encoders.checkpoints import find_checkpoint

    wanted = find_checkpoint(store, checkpoint).fingerprint
    if wanted != pointer.checkpoint:
        raise VectorSpaceError(
            f"Checkpoint {pointer.checkpoint[:12]} wrote the served generation {pointer.generation}; "
            f"the query would be encoded by {wanted[:12]}.",
            hint=f"Promote a generation of {wanted[:12]} (`l2v generations list`), or pass "
            f"--checkpoint {pointer.checkpoint[:12]}.",
        )


def split_as_served(table: LanceTable, text: str) -> list[str]:
    """Words of a text in the form in which a table holds them; tables of former layouts hold words as written."""
    from llm2vec_core.ranking.words import split_words, tokenize

    return tokenize(text) if table.has_column("similar_order") else split_words(text)


def words_of(row: dict[str, Any]) -> list[str]:
    """Words of a row. Tables of the first layout store only the text."""
    from llm2vec_core.ranking.words import split_words

    return row["words"].split() if "words" in row else split_words(encoded_text(row["title"], row["text"]))

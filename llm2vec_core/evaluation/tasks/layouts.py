"""Layouts of task folders: the files of each type, their readers, and their errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from llm2vec_core.errors import EvalTaskError

LAYOUT_HINT = "The layout of a task folder is described in llm2vec_core/evaluation/tasks/folders.py."

TaskRow = dict[str, Any]


def read_task_file(path: Path) -> str:
    """The text of a file of the folder."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EvalTaskError(f"{path} is missing.", hint=LAYOUT_HINT) from None
    except UnicodeDecodeError as error:
        raise EvalTaskError(f"{path} is not UTF-8: {error}.", hint="Save the file as UTF-8.") from None


class ValueKind(StrEnum):
    """Kinds of JSON values; a member's value is its name in error messages."""

    TEXT = "text"
    NUMBER = "a number"
    LABEL = "text or a whole number"
    TEXTS = "a list of texts"
    NUMBERS = "a list of numbers"
    WORDS = "a list of one or more texts, none of them blank"


def require_keys(row: object, kinds: Mapping[str, ValueKind], *, where: str) -> None:
    """Refuse a row that lacks a key, or has a value of the wrong kind; the message says which and where."""
    if not isinstance(row, dict):
        raise EvalTaskError(f"{where} is not a JSON object.", hint=LAYOUT_HINT)
    if missing := [key for key in kinds if key not in row]:
        raise EvalTaskError(f"{where} lacks {', '.join(missing)}; it has {', '.join(row)}.", hint=LAYOUT_HINT)
    for key, kind in kinds.items():
        if not _is_kind(row[key], kind):
            raise EvalTaskError(f"{where}: {key} is {_shown(row[key])}; expected {kind}.", hint=LAYOUT_HINT)


def _is_kind(value: object, kind: ValueKind) -> bool:
    """Whether a JSON value has a kind; true and false are neither numbers nor labels."""
    if kind is ValueKind.WORDS:
        return isinstance(value, list) and value != [] and all(isinstance(word, str) and word.strip() for word in value)
    if kind in (ValueKind.TEXTS, ValueKind.NUMBERS):
        element_kind = ValueKind.TEXT if kind is ValueKind.TEXTS else ValueKind.NUMBER
        return isinstance(value, list) and all(_is_kind(element, element_kind) for element in value)
    if isinstance(value, bool):
        return False
    if kind is ValueKind.NUMBER:
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, str) or (kind is ValueKind.LABEL and isinstance(value, int))


def _shown(value: object) -> str:
    """A value for a message, shortened because documents can be long and personal."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _jsonl(
    name: str, check_row: Callable[[TaskRow, str], None] | None = None, **kinds: ValueKind
) -> Callable[[Path], list[TaskRow]]:
    """Make a reader of a JSONL file with these keys; ``check_row`` gets each row and its place."""

    def read(folder: Path) -> list[TaskRow]:
        rows = []
        # not splitlines(): a JSON string may contain U+2028 and similar characters
        for number, line in enumerate(read_task_file(folder / name).split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{folder / name}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise EvalTaskError(
                    f"{where} is not JSON: {error.msg}.", hint="Write one JSON object per line."
                ) from None
            require_keys(row, kinds, where=where)
            if check_row:
                check_row(row, where)
            rows.append(row)
        return rows

    return read


def _qrels(folder: Path) -> list[TaskRow]:
    """``qrels.tsv``: query, document and a whole-number judgment per line, after a header."""
    path = folder / "qrels.tsv"
    rows = []
    for number, line in enumerate(read_task_file(path).split("\n"), start=1):
        cells = line.rstrip("\r").split("\t")
        if number == 1 or not line.strip():
            continue
        if len(cells) != 3 or not cells[2].strip().lstrip("-").isdigit():
            raise EvalTaskError(
                f"{path}, line {number} is {line!r}; expected query, document and a whole number.",
                hint="Write three tab-separated columns, after one header line.",
            )
        rows.append({"query": cells[0], "document": cells[1], "score": int(cells[2])})
    return rows


def _check_one_tag_a_word(row: TaskRow, where: str) -> None:
    """Check that a sentence has as many tags as words."""
    if len(row["tokens"]) != len(row["tags"]):
        raise EvalTaskError(
            f"{where} has {len(row['tokens'])} tokens and {len(row['tags'])} tags.", hint="One tag per token."
        )


def _check_cluster(row: TaskRow, where: str) -> None:
    """Check that the cluster of a row is a text."""
    if not isinstance(row.get("cluster", ""), str):
        raise EvalTaskError(
            f"{where}: 'cluster' is {_shown(row['cluster'])}; expected text.",
            hint="Rows with the same text are one observation of the intervals and tests.",
        )


def _check_query(row: TaskRow, where: str) -> None:
    """Check that the slices of a query are texts by name, and its cluster a text."""
    _check_cluster(row, where)
    slices = row.get("slices", {})
    if not isinstance(slices, dict) or not all(isinstance(value, str) for value in slices.values()):
        raise EvalTaskError(
            f"{where}: 'slices' must be an object with string values; found {_shown(slices)}.",
            hint='For example {"seniority": "lead"}; each value is a row of the report.',
        )


def _check_nothing(folder: Path, tables: dict[str, list[TaskRow]]) -> None:
    """Check nothing: the rows of these types are independent."""


def _check_pairs(folder: Path, tables: dict[str, list[TaskRow]]) -> None:
    """Check that labels of pairs are 0 or 1."""
    for position, row in enumerate(tables["pairs"], start=1):
        if row["label"] not in (0, 1):
            raise EvalTaskError(
                f"{folder / 'pairs.jsonl'}, pair {position} has the label {row['label']!r}; expected 0 or 1.",
                hint="1 means that the two have the same meaning, 0 that they do not.",
            )


def _check_classes(folder: Path, tables: dict[str, list[TaskRow]]) -> None:
    """Check that labels have one kind, and that the training split has every label of the test split."""
    if len({type(row["label"]) for rows in tables.values() for row in rows}) > 1:
        raise EvalTaskError(
            f"{folder} has labels that are numbers and labels that are texts.", hint="Write all of them as texts."
        )
    unknown = {row["label"] for row in tables["test"]} - {row["label"] for row in tables["train"]}
    if unknown:
        shown = ", ".join(sorted(map(repr, unknown))[:5])
        raise EvalTaskError(
            f"{folder / 'test.jsonl'} has {len(unknown)} label(s) that train.jsonl lacks: {shown}.",
            hint="A classifier cannot predict an unseen label; add training texts with it, or remove these rows.",
        )


def _check_retrieval(folder: Path, tables: dict[str, list[TaskRow]]) -> None:
    """Check that ids are unique and judgments refer to them; queries without a relevant document are not scored."""
    identities = {}
    for stem in ("corpus", "queries"):
        seen = [row["_id"] for row in tables[stem]]
        identities[stem] = set(seen)
        if len(identities[stem]) < len(seen):
            raise EvalTaskError(
                f"{folder / stem}.jsonl has {len(seen) - len(identities[stem])} repeated _id(s).",
                hint="Give each line a unique _id.",
            )
    for row in tables["qrels"]:
        for key, stem in (("query", "queries"), ("document", "corpus")):
            if row[key] not in identities[stem]:
                raise EvalTaskError(
                    f"{folder / 'qrels.tsv'} judges the {key} {row[key]!r}, which {stem}.jsonl lacks.",
                    hint="Write the query's _id first, then the document's.",
                )
    relevant = {row["query"] for row in tables["qrels"] if row["score"] > 0}
    tables["queries"] = [row for row in tables["queries"] if row["_id"] in relevant]


def _check_reranking(folder: Path, tables: dict[str, list[TaskRow]]) -> None:
    """Drop samples without a positive or without a negative, as mteb does: every ranking of them scores the same."""
    tables["samples"] = [row for row in tables["samples"] if row["positive"] and row["negative"]]


def _check_summaries(folder: Path, tables: dict[str, list[TaskRow]]) -> None:
    """Check for one judgment per machine summary, and at least one human summary."""
    for position, row in enumerate(tables["samples"], start=1):
        where = f"{folder / 'samples.jsonl'}, sample {position}"
        judgments = row["relevance"]
        if len(judgments) != len(row["machine_summaries"]) or not row["human_summaries"]:
            raise EvalTaskError(
                f"{where} has {len(row['machine_summaries'])} machine summaries, {len(judgments)} judgments and "
                f"{len(row['human_summaries'])} human summaries.",
                hint="Write one judgment per machine summary, and at least one human summary.",
            )


def require_variety(folder: Path, task_type: str, tables: Mapping[str, Sequence[TaskRow]]) -> None:
    """Refuse a task with a single label or score, because every system would score the same."""
    stem, key = {
        "STS": ("pairs", "score"),
        "PairClassification": ("pairs", "label"),
        "Classification": ("train", "label"),
        "Clustering": ("items", "label"),
        "TokenClassification": ("train", "tags"),
    }.get(task_type, ("", ""))
    if not stem:
        return
    values = [row[key] for row in tables[stem]]
    if key == "tags":
        values = [tag for tags in values for tag in tags]
    if len(set(values)) < 2:
        raise EvalTaskError(
            f"Every one of the {len(tables[stem])} rows of {folder / stem}.jsonl has the same {key}; "
            "expected at least two different ones.",
            hint="Add rows, or raise max_items if you set it.",
        )


@dataclass(frozen=True)
class Layout:
    """The files of a type, their checks, and the tables that a subset cuts.

    Attributes:
        files: Readers by file stem.
        items: The table whose rows are counted and scored; ``max_items`` cuts it.
        check: Checks all rows together; may drop rows that cannot be scored.
        also_cut: Other tables that ``max_items`` cuts, with the factor of their rows.
    """

    files: Mapping[str, Callable[[Path], list[TaskRow]]]
    items: str
    check: Callable[[Path, dict[str, list[TaskRow]]], None] = _check_nothing
    also_cut: Mapping[str, int] = field(default_factory=dict)

    @property
    def items_file(self) -> str:
        """Name of the file whose rows are counted."""
        return f"{self.items}.jsonl"

    @property
    def file_names(self) -> list[str]:
        """Names of all files of the type, except ``task.json``."""
        return [f"{stem}.tsv" if stem == "qrels" else f"{stem}.jsonl" for stem in self.files]


_TEXT, _LABEL, _TEXTS = ValueKind.TEXT, ValueKind.LABEL, ValueKind.TEXTS

LAYOUTS: dict[str, Layout] = {
    "STS": Layout(
        files={
            "pairs": _jsonl("pairs.jsonl", _check_cluster, sentence1=_TEXT, sentence2=_TEXT, score=ValueKind.NUMBER)
        },
        items="pairs",
    ),
    "PairClassification": Layout(
        files={"pairs": _jsonl("pairs.jsonl", _check_cluster, sentence1=_TEXT, sentence2=_TEXT, label=_LABEL)},
        items="pairs",
        check=_check_pairs,
    ),
    "Classification": Layout(
        files={
            "train": _jsonl("train.jsonl", text=_TEXT, label=_LABEL),
            "test": _jsonl("test.jsonl", text=_TEXT, label=_LABEL),
        },
        items="test",
        check=_check_classes,
    ),
    "Clustering": Layout(files={"items": _jsonl("items.jsonl", text=_TEXT, label=_LABEL)}, items="items"),
    "Retrieval": Layout(
        files={
            "corpus": _jsonl("corpus.jsonl", _id=_TEXT, text=_TEXT),
            "queries": _jsonl("queries.jsonl", _check_query, _id=_TEXT, text=_TEXT),
            "qrels": _qrels,
        },
        items="queries",
        check=_check_retrieval,
    ),
    "Reranking": Layout(
        files={"samples": _jsonl("samples.jsonl", query=_TEXT, positive=_TEXTS, negative=_TEXTS)},
        items="samples",
        check=_check_reranking,
    ),
    "Summarization": Layout(
        files={
            "samples": _jsonl(
                "samples.jsonl",
                text=_TEXT,
                human_summaries=_TEXTS,
                machine_summaries=_TEXTS,
                relevance=ValueKind.NUMBERS,
            )
        },
        items="samples",
        check=_check_summaries,
    ),
    "TokenClassification": Layout(
        files={
            stem: _jsonl(f"{stem}.jsonl", _check_one_tag_a_word, tokens=ValueKind.WORDS, tags=ValueKind.WORDS)
            for stem in ("train", "test")
        },
        items="test",
        also_cut={"train": 4},
    ),
}

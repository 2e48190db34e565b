"""Evaluation task folders: what lies in them, read and checked.

A folder holds ``task.json`` (at least ``name``, ``type``, ``main_score``) and the files of its type:

==================  =========================================================================================
STS                 ``pairs.jsonl`` {sentence1, sentence2, score}, scores from 0 to 5
PairClassification  ``pairs.jsonl`` {sentence1, sentence2, label}, label 0 or 1
Classification      ``train.jsonl``, ``test.jsonl`` {text, label}
Clustering          ``items.jsonl`` {text, label}
Retrieval           ``corpus.jsonl`` {_id, title, text}, ``queries.jsonl`` {_id, text}, ``qrels.tsv`` with a header
Reranking           ``samples.jsonl`` {query, positive[], negative[]}
Summarization       ``samples.jsonl`` {text, human_summaries[], machine_summaries[], relevance[]}
==================  =========================================================================================

Belongs here: the layout, its faults in words, subsets and the content hash. Does not belong here: how a task is scored
(``mteb_tasks``), what is scored (``systems``).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from llm2vec_core.errors import EvalTaskError

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

EvalTaskType = Literal[
    "Retrieval", "Reranking", "Clustering", "PairClassification", "Classification", "STS", "Summarization"
]
EVAL_TASK_TYPES: tuple[EvalTaskType, ...] = get_args(EvalTaskType)
"""The seven categories, in the order of Table 1 of the LLM2Vec paper."""

TASK_FILE = "task.json"
_LAYOUT_HINT = "The layout of a task folder is described in llm2vec_core/evaluation/eval_tasks.py."

Row = dict[str, Any]


@dataclass(frozen=True)
class EvalTask:
    """One evaluation task in memory.

    Attributes:
        name: Name of the task, as in ``task.json``.
        type: One of the seven categories.
        main_score: Name of the mteb metric that stands for the task.
        language: Language and script, such as ``eng-Latn``.
        content_sha256: Identity of what is scored: the files, and the subset if there is one. The same name with other
            content has another hash.
        num_items: Pairs, queries, test texts, items or samples that are scored.
        tables: Rows by file stem (``pairs``, ``train``, ``corpus``, ...), checked.
    """

    name: str
    type: EvalTaskType
    main_score: str
    language: str
    content_sha256: str
    num_items: int
    tables: Mapping[str, Sequence[Row]] = field(repr=False)

    def mteb_task(self) -> AbsTask:
        """A fresh mteb task over these rows; in memory, with mteb's own protocol for the type.

        Fresh each time, because mteb's tasks carry the state of their random numbers from one run to the next.
        """
        from llm2vec_core.evaluation.mteb_tasks import build_mteb_task

        return build_mteb_task(self)


def discover_eval_tasks(folder: Path, names: Sequence[str] | None = None) -> list[Path]:
    """Find task folders.

    Args:
        folder: A task folder, or a folder of task folders.
        names: Only these, in this order. Default: all, by name.

    Returns:
        Task folders; the name of a folder is the name to ask for.

    Raises:
        EvalTaskError: If there is no task folder, or none of an asked name; the names there are, are listed.
    """
    if (folder / TASK_FILE).is_file():
        found = {folder.name: folder}
    elif folder.is_dir():
        found = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{TASK_FILE}"))}
    else:
        raise EvalTaskError(f"The folder {folder} does not exist.", hint="Pass a folder of evaluation task folders.")
    if not found:
        raise EvalTaskError(
            f"The folder {folder} holds no task folder: no {TASK_FILE} in it or one level below.", hint=_LAYOUT_HINT
        )
    if names is None:
        return list(found.values())
    if unknown := [name for name in names if name not in found]:
        raise EvalTaskError(
            f"No evaluation task {', '.join(map(repr, unknown))} in {folder}.", hint=f"There are: {', '.join(found)}."
        )
    return [found[name] for name in dict.fromkeys(names)]


def load_eval_task(folder: Path, *, max_items: int | None = None, seed: int = 42) -> EvalTask:
    """Read and check one task folder.

    Args:
        folder: The task folder.
        max_items: Score at most this many pairs, queries, test texts, items or samples, drawn at random. A corpus and
            a training split stay whole: they are what the items are scored against. Default: all.
        seed: Of the draw.

    Returns:
        The task. Its hash covers a subset only where the subset leaves something out.

    Raises:
        EvalTaskError: If a file is missing, a line is not JSON, a key is missing or of the wrong kind, a label or a
            judgment cannot be used, or the type is unknown; with file and line.
    """
    if max_items is not None and max_items < 1:
        raise EvalTaskError(f"max_items was {max_items}, one or more was expected.", hint="Leave it out to score all.")
    header = _read_header(folder)
    layout = _LAYOUTS[header["type"]]
    tables: dict[str, list[Row]] = {stem: read(folder) for stem, read in layout.files.items()}
    layout.check(folder, tables)
    items = tables[layout.items]
    if not items:
        raise EvalTaskError(f"{folder / layout.items_file} holds nothing to score.", hint=_LAYOUT_HINT)
    is_subset = max_items is not None and max_items < len(items)
    if max_items is not None and is_subset:
        kept = sorted(random.Random(seed).sample(range(len(items)), max_items))
        tables[layout.items] = [items[position] for position in kept]
    _require_variety(folder, header["type"], tables)
    return EvalTask(
        name=header["name"],
        type=header["type"],
        main_score=header["main_score"],
        language=header.get("language", "eng-Latn"),
        content_sha256=_content_sha256(folder, header, layout, subset=f"{max_items}/{seed}" if is_subset else "all"),
        num_items=len(tables[layout.items]),
        tables=tables,
    )


def _read_header(folder: Path) -> Row:
    """``task.json``, with the keys that scoring needs."""
    path = folder / TASK_FILE
    try:
        header = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise EvalTaskError(f"{path} is not JSON: {error}.", hint=_LAYOUT_HINT) from None
    _require_keys(header, dict.fromkeys(("name", "type", "main_score"), _Kind.TEXT), where=str(path))
    if header["type"] not in EVAL_TASK_TYPES:
        raise EvalTaskError(
            f"{path} is of type {header['type']!r}.", hint=f"Known types: {', '.join(EVAL_TASK_TYPES)}."
        )
    return dict(header)


def _read_text(path: Path) -> str:
    """The text of a file of the folder."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EvalTaskError(f"{path} is missing.", hint=_LAYOUT_HINT) from None
    except UnicodeDecodeError as error:
        raise EvalTaskError(f"{path} is not UTF-8: {error}.", hint="Save the file as UTF-8.") from None


class _Kind(StrEnum):
    """What a value must be; the value of the member is how a message says it."""

    TEXT = "text"
    NUMBER = "a number"
    LABEL = "text or a whole number"
    TEXTS = "a list of texts"
    NUMBERS = "a list of numbers"


def _require_keys(row: object, kinds: Mapping[str, _Kind], *, where: str) -> None:
    """Refuse a row that lacks a key, or holds a value of the wrong kind, saying where and which."""
    if not isinstance(row, dict):
        raise EvalTaskError(f"{where} is not a JSON object.", hint=_LAYOUT_HINT)
    if missing := [key for key in kinds if key not in row]:
        raise EvalTaskError(f"{where} lacks {', '.join(missing)}; it has {', '.join(row)}.", hint=_LAYOUT_HINT)
    for key, kind in kinds.items():
        if not _is_kind(row[key], kind):
            raise EvalTaskError(f"{where}: {key} is {_shown(row[key])}, {kind} was expected.", hint=_LAYOUT_HINT)


def _is_kind(value: object, kind: _Kind) -> bool:
    """Whether a JSON value is of a kind; true and false are neither numbers nor labels."""
    if kind in (_Kind.TEXTS, _Kind.NUMBERS):
        element_kind = _Kind.TEXT if kind is _Kind.TEXTS else _Kind.NUMBER
        return isinstance(value, list) and all(_is_kind(element, element_kind) for element in value)
    if isinstance(value, bool):
        return False
    if kind is _Kind.NUMBER:
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, str) or (kind is _Kind.LABEL and isinstance(value, int))


def _shown(value: object) -> str:
    """A value in a message, cut: documents can be long, and personal."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _jsonl(name: str, **kinds: _Kind) -> Callable[[Path], list[Row]]:
    """A reader of a JSONL file with these keys."""

    def read(folder: Path) -> list[Row]:
        rows = []
        # not splitlines(): a JSON string may hold U+2028 and its like
        for number, line in enumerate(_read_text(folder / name).split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{folder / name}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise EvalTaskError(f"{where} is not JSON: {error.msg}.", hint="One JSON object a line.") from None
            _require_keys(row, kinds, where=where)
            rows.append(row)
        return rows

    return read


def _qrels(folder: Path) -> list[Row]:
    """``qrels.tsv``: query, document and a whole-number judgment a line, after a header."""
    path = folder / "qrels.tsv"
    rows = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        cells = line.rstrip("\r").split("\t")
        if number == 1 or not line.strip():
            continue
        if len(cells) != 3 or not cells[2].strip().lstrip("-").isdigit():
            raise EvalTaskError(
                f"{path}, line {number} is {line!r}; query, document and a whole number were expected.",
                hint="Three columns with tabs between them, after one line of header.",
            )
        rows.append({"query": cells[0], "document": cells[1], "score": int(cells[2])})
    return rows


def _check_nothing(folder: Path, tables: dict[str, list[Row]]) -> None:
    """Types whose rows stand on their own."""


def _check_pairs(folder: Path, tables: dict[str, list[Row]]) -> None:
    """Labels of pairs are 0 or 1."""
    for position, row in enumerate(tables["pairs"], start=1):
        if row["label"] not in (0, 1):
            raise EvalTaskError(
                f"{folder / 'pairs.jsonl'}, pair {position} has the label {row['label']!r}, 0 or 1 was expected.",
                hint="1: the two mean the same; 0: they do not.",
            )


def _check_classes(folder: Path, tables: dict[str, list[Row]]) -> None:
    """Every label of the test split can be learned from the training split."""
    unknown = {row["label"] for row in tables["test"]} - {row["label"] for row in tables["train"]}
    if unknown:
        shown = ", ".join(sorted(map(repr, unknown))[:5])
        raise EvalTaskError(
            f"{folder / 'test.jsonl'} has {len(unknown)} label(s) that train.jsonl lacks: {shown}.",
            hint="A classifier cannot predict a label that it never saw; add such texts, or drop these.",
        )


def _check_retrieval(folder: Path, tables: dict[str, list[Row]]) -> None:
    """Identities are distinct and judgments name them; queries without a relevant document are not scored."""
    identities = {}
    for stem in ("corpus", "queries"):
        seen = [row["_id"] for row in tables[stem]]
        identities[stem] = set(seen)
        if len(identities[stem]) < len(seen):
            raise EvalTaskError(
                f"{folder / stem}.jsonl has {len(seen) - len(identities[stem])} repeated _id(s).",
                hint="Give each line an _id of its own.",
            )
    for row in tables["qrels"]:
        for key, stem in (("query", "queries"), ("document", "corpus")):
            if row[key] not in identities[stem]:
                raise EvalTaskError(
                    f"{folder / 'qrels.tsv'} judges the {key} {row[key]!r}, which {stem}.jsonl lacks.",
                    hint="Query first, document second; both by their _id.",
                )
    relevant = {row["query"] for row in tables["qrels"] if row["score"] > 0}
    tables["queries"] = [row for row in tables["queries"] if row["_id"] in relevant]


def _check_reranking(folder: Path, tables: dict[str, list[Row]]) -> None:
    """Samples without a positive or without a negative cannot be ranked well or badly; mteb drops them, so do we."""
    tables["samples"] = [row for row in tables["samples"] if row["positive"] and row["negative"]]


def _check_summaries(folder: Path, tables: dict[str, list[Row]]) -> None:
    """One judgment a machine summary, and a human summary to compare with."""
    for position, row in enumerate(tables["samples"], start=1):
        where = f"{folder / 'samples.jsonl'}, sample {position}"
        judgments = row["relevance"]
        if len(judgments) != len(row["machine_summaries"]) or not row["human_summaries"]:
            raise EvalTaskError(
                f"{where} has {len(row['machine_summaries'])} machine summaries, {len(judgments)} judgments and "
                f"{len(row['human_summaries'])} human summaries.",
                hint="One judgment a machine summary, and at least one human summary.",
            )


def _require_variety(folder: Path, task_type: str, tables: Mapping[str, Sequence[Row]]) -> None:
    """Refuse a set on which every system would score the same, or none could be scored."""
    stem, key = {
        "STS": ("pairs", "score"),
        "PairClassification": ("pairs", "label"),
        "Classification": ("train", "label"),
        "Clustering": ("items", "label"),
    }.get(task_type, ("", ""))
    if stem and len({row[key] for row in tables[stem]}) < 2:
        raise EvalTaskError(
            f"Every one of the {len(tables[stem])} rows of {folder / stem}.jsonl has the same {key}; "
            "at least two different ones were expected.",
            hint="Add rows, or raise max_items if you set it.",
        )


@dataclass(frozen=True)
class _Layout:
    """Which files a type has, how they are checked, and which one is counted (and cut by ``max_items``)."""

    files: Mapping[str, Callable[[Path], list[Row]]]
    items: str
    check: Callable[[Path, dict[str, list[Row]]], None] = _check_nothing

    @property
    def items_file(self) -> str:
        return f"{self.items}.jsonl"

    @property
    def file_names(self) -> list[str]:
        return [f"{stem}.tsv" if stem == "qrels" else f"{stem}.jsonl" for stem in self.files]


_LAYOUTS: dict[str, _Layout] = {
    "STS": _Layout(
        files={"pairs": _jsonl("pairs.jsonl", sentence1=_Kind.TEXT, sentence2=_Kind.TEXT, score=_Kind.NUMBER)},
        items="pairs",
    ),
    "PairClassification": _Layout(
        files={"pairs": _jsonl("pairs.jsonl", sentence1=_Kind.TEXT, sentence2=_Kind.TEXT, label=_Kind.LABEL)},
        items="pairs",
        check=_check_pairs,
    ),
    "Classification": _Layout(
        files={
            "train": _jsonl("train.jsonl", text=_Kind.TEXT, label=_Kind.LABEL),
            "test": _jsonl("test.jsonl", text=_Kind.TEXT, label=_Kind.LABEL),
        },
        items="test",
        check=_check_classes,
    ),
    "Clustering": _Layout(files={"items": _jsonl("items.jsonl", text=_Kind.TEXT, label=_Kind.LABEL)}, items="items"),
    "Retrieval": _Layout(
        files={
            "corpus": _jsonl("corpus.jsonl", _id=_Kind.TEXT, text=_Kind.TEXT),
            "queries": _jsonl("queries.jsonl", _id=_Kind.TEXT, text=_Kind.TEXT),
            "qrels": _qrels,
        },
        items="queries",
        check=_check_retrieval,
    ),
    "Reranking": _Layout(
        files={"samples": _jsonl("samples.jsonl", query=_Kind.TEXT, positive=_Kind.TEXTS, negative=_Kind.TEXTS)},
        items="samples",
        check=_check_reranking,
    ),
    "Summarization": _Layout(
        files={
            "samples": _jsonl(
                "samples.jsonl",
                text=_Kind.TEXT,
                human_summaries=_Kind.TEXTS,
                machine_summaries=_Kind.TEXTS,
                relevance=_Kind.NUMBERS,
            )
        },
        items="samples",
        check=_check_summaries,
    ),
}


def _content_sha256(folder: Path, header: Row, layout: _Layout, *, subset: str) -> str:
    """Hash what decides the scores: name, type and metric, every data file, and the subset."""
    digest = hashlib.sha256()
    decisive = {key: header[key] for key in ("name", "type", "main_score")} | {"subset": subset}
    digest.update(json.dumps(decisive, sort_keys=True).encode())
    for name in sorted(layout.file_names):
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"\n{name} {content}".encode())
    return digest.hexdigest()

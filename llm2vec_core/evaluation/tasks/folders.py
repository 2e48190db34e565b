"""Evaluation task folders: reading and checking their files.

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

A query may name its groups (``"slices": {"seniority": "lead"}``, any names): a report has a row for each group. A query
or a pair may name its cluster (``"cluster": "nurses"``): rows of one cluster are one observation (see ``clusters``).

These seven are about whole texts, and mteb scores them. One more is about the words of a text; ``word`` scores it:

===================  ========================================================================================
TokenClassification  ``train.jsonl``, ``test.jsonl`` {tokens[], tags[]}, one tag per token
===================  ========================================================================================

Folders in the layouts of TalentCLEF and WorkRB are read as they are (``job_benchmarks``).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.tasks.job_benchmarks import holds_foreign_task, read_foreign_task
from llm2vec_core.evaluation.tasks.layouts import (
    LAYOUT_HINT,
    LAYOUTS,
    Layout,
    TaskRow,
    ValueKind,
    read_task_file,
    require_keys,
    require_variety,
)
from llm2vec_core.evaluation.tasks.types import EVAL_TASK_TYPES, WORD_TASK_TYPE, EvalTaskType

TASK_FILE = "task.json"
OFFICIAL_NOTE = "official MTEB task"
"""The ``note`` in ``task.json`` that marks published figures for the task as comparable."""


@dataclass(frozen=True)
class EvalTask:
    """One evaluation task in memory.

    Attributes:
        name: Name of the task, as in ``task.json``.
        type: One of the seven categories, or the type of word-level tasks.
        main_score: Name of the task's main metric: one of mteb's, or one of ``word``.
        language: Language and script, such as ``eng-Latn``.
        content_sha256: Hash of the scored content: the files, and the subset if there is one. The same name with other
            content has another hash.
        num_items: Pairs, queries, test texts, items, samples or test sentences that are scored.
        is_official: Whether this is a complete MTEB task, so that published figures are comparable: its ``note`` says
            so, and no subset was drawn.
        tables: Rows by file stem (``pairs``, ``train``, ``corpus``, ...), checked.
        instruction: Instruction for instructed systems, as a sentence; ``instruction`` in ``task.json``.
    """

    name: str
    type: EvalTaskType
    main_score: str
    language: str
    content_sha256: str
    num_items: int
    is_official: bool
    tables: Mapping[str, Sequence[TaskRow]] = field(repr=False)
    instruction: str | None = None


def discover_eval_tasks(folder: Path, names: Sequence[str] | None = None) -> list[Path]:
    """Find task folders.

    Args:
        folder: A task folder, or a folder of task folders.
        names: Tasks to return, in this order. Default: all, by name.

    Returns:
        Task folders, those in the layout of a public job benchmark among them; a task is requested by the name of its
        folder.

    Raises:
        EvalTaskError: There is no task folder, or a requested one is missing; the message lists the existing names.
    """
    if (folder / TASK_FILE).is_file() or holds_foreign_task(folder):
        found = {folder.name: folder}
    elif folder.is_dir():
        found = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{TASK_FILE}"))}
        below = (path for path in sorted(folder.glob("*/")) if path.name not in found)
        found |= {path.name: path for path in below if holds_foreign_task(path)}
    else:
        raise EvalTaskError(f"The folder {folder} does not exist.", hint="Pass a folder of evaluation task folders.")
    if not found:
        raise EvalTaskError(
            f"The folder {folder} contains no task folder: no {TASK_FILE} in it or one level below.", hint=LAYOUT_HINT
        )
    if names is None:
        return list(found.values())
    if unknown := [name for name in names if name not in found]:
        raise EvalTaskError(
            f"No evaluation task {', '.join(map(repr, unknown))} in {folder}.", hint=f"Found: {', '.join(found)}."
        )
    return [found[name] for name in dict.fromkeys(names)]


def load_eval_task(folder: Path, *, max_items: int | None = None, seed: int = 42) -> EvalTask:
    """Read and check one task folder.

    Args:
        folder: The task folder.
        max_items: Score at most this many pairs, queries, test texts, items, samples or test sentences, drawn at
            random. A corpus and a training split stay whole, because items are scored against them. In a word-level
            task, training sentences cost as much as test sentences, so at most four times as many of them are drawn.
        Default: all.
        seed: Seed of the draw.

    Returns:
        The task. Its hash covers the subset only if that leaves something out.

    Raises:
        EvalTaskError: A file is missing, a line is not JSON, a key is missing or of the wrong kind, a label or a
            judgment cannot be used, or the type is unknown. The message has file and line.
    """
    if max_items is not None and max_items < 1:
        raise EvalTaskError(f"max_items is {max_items}; expected one or more.", hint="Leave it out to score all.")
    foreign = None if (folder / TASK_FILE).is_file() or not holds_foreign_task(folder) else read_foreign_task(folder)
    if foreign is None:
        header = _read_header(folder)
        layout = LAYOUTS[header["type"]]
        tables: dict[str, list[TaskRow]] = {stem: read(folder) for stem, read in layout.files.items()}
        layout.check(folder, tables)
    else:
        header = {"name": folder.name, "type": "Retrieval", "main_score": foreign.main_score}
        layout, tables = LAYOUTS["Retrieval"], foreign.tables
    if not tables[layout.items]:
        raise EvalTaskError(f"{folder / layout.items_file} contains nothing to score.", hint=LAYOUT_HINT)
    is_subset = max_items is not None and _cut(tables, layout, max_items=max_items, seed=seed)
    require_variety(folder, header["type"], tables)
    subset = f"{max_items}/{seed}" if is_subset else "all"
    if foreign is None:
        content = _content_sha256(folder, header, layout, subset=subset)
    else:
        content = hashlib.sha256(f"{header['name']} {foreign.content_sha256} {subset}".encode()).hexdigest()
    return EvalTask(
        name=header["name"],
        type=header["type"],
        main_score=header["main_score"],
        instruction=header.get("instruction"),
        language=header.get("language", "eng-Latn"),
        content_sha256=content,
        num_items=len(tables[layout.items]),
        is_official=header.get("note") == OFFICIAL_NOTE and not is_subset,
        tables=tables,
    )


def _cut(tables: dict[str, list[TaskRow]], layout: Layout, *, max_items: int, seed: int) -> bool:
    """Sample the rows of the tables that a subset cuts, in their order; return whether any was left out."""
    is_subset = False
    for stem, factor in {layout.items: 1, **layout.also_cut}.items():
        rows, limit = tables[stem], factor * max_items
        if limit < len(rows):
            tables[stem] = [rows[position] for position in sorted(random.Random(seed).sample(range(len(rows)), limit))]
            is_subset = True
    return is_subset


def _read_header(folder: Path) -> TaskRow:
    """``task.json``, with the keys that scoring needs."""
    path = folder / TASK_FILE
    try:
        header = json.loads(read_task_file(path))
    except json.JSONDecodeError as error:
        raise EvalTaskError(f"{path} is not JSON: {error}.", hint=LAYOUT_HINT) from None
    require_keys(header, dict.fromkeys(("name", "type", "main_score"), ValueKind.TEXT), where=str(path))
    if "instruction" in header:
        require_keys(header, {"instruction": ValueKind.TEXT}, where=str(path))
    known_types = (*EVAL_TASK_TYPES, WORD_TASK_TYPE)
    if header["type"] not in known_types:
        raise EvalTaskError(
            f"{path} has the unknown type {header['type']!r}.", hint=f"Known types: {', '.join(known_types)}."
        )
    return dict(header)


def _content_sha256(folder: Path, header: TaskRow, layout: Layout, *, subset: str) -> str:
    """Hash of everything that affects the scores: name, type and metric, every data file, and the subset."""
    digest = hashlib.sha256()
    decided_by = ("name", "type", "main_score", "instruction")
    decisive = {"subset": subset} | {key: header[key] for key in decided_by if key in header}
    digest.update(json.dumps(decisive, sort_keys=True).encode())
    for name in sorted(layout.file_names):
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"\n{name} {content}".encode())
    return digest.hexdigest()

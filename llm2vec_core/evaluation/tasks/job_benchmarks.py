"""Public benchmarks of the job domain in their own file layouts: TalentCLEF and WorkRB.

Both become retrieval tasks in memory; nothing is converted on disk.

TalentCLEF: ``queries`` and ``corpus_elements`` with ``qrels.tsv`` beside them (query, 0, document, relevance; no
header). In 2025 both are tables with a header: ``q_id`` or ``c_id``, and ``jobtitle``, ``skill`` or ``skill_aliases``.
In 2026's task A both are folders with one text file for each document, named by its id. Main score: MAP.

WorkRB: a split of a data set that it reads from the hub, with the label space that it takes from ESCO. Either
``test.*`` (or ``validation.*``) with a query column and a label column beside ``labels.*``, or ``queries.*``,
``corpus.*`` and ``qrels.*`` with BEIR's columns, where the title of a document is its text. Tables are CSV, TSV, JSONL
or Parquet. Rows whose label is not in the label space are dropped, as WorkRB does. Main score: MRR.

Source: TalentCLEF's corpus descriptions of 2025 and 2026; WorkRB 0.6.0, ``workrb.tasks.ranking``.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.tasks.layouts import TaskRow, read_task_file

_SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet", "")
_QUERY_COLUMNS = ("sentence", "text", "query", "vacancy_job_title", "job_title", "jobtitle")
_LABEL_COLUMNS = ("label", "skill", "esco_job_title", "tagged_esco_skills", "labels", "skills")
_NAME_COLUMNS = ("preferredLabel", "label", "name", "title", "text")
_DOCUMENT_COLUMNS = ("jobtitle", "skill_aliases", "skill", "text")


@dataclass(frozen=True)
class ForeignTask:
    """A task in another layout.

    Attributes:
        main_score: Metric that the benchmark reports.
        tables: Rows of a retrieval task: ``corpus``, ``queries``, ``qrels``.
        content_sha256: Hash of the files.
    """

    main_score: str
    tables: dict[str, list[TaskRow]]
    content_sha256: str


def holds_foreign_task(folder: Path) -> bool:
    """Whether a folder has the files of one of the layouts."""
    return _is_talentclef(folder) or _is_beir(folder) or _is_pairs(folder)


def read_foreign_task(folder: Path) -> ForeignTask:
    """Read a folder in one of the layouts (:func:`holds_foreign_task`).

    Raises:
        EvalTaskError: A file or a column is missing, or no query has a relevant document.
    """
    if _is_talentclef(folder):
        main_score, files, tables = "map", ("queries", "corpus_elements", "qrels"), _read_talentclef(folder)
    elif _is_beir(folder):
        main_score, files, tables = "mrr", ("queries", "corpus", "qrels"), _read_beir(folder)
    else:
        main_score, files, tables = "mrr", ("test", "validation", "labels"), _read_pairs(folder)
    relevant = {row["query"] for row in tables["qrels"] if row["score"] > 0}
    tables["queries"] = [row for row in tables["queries"] if row["_id"] in relevant]
    if not tables["queries"]:
        raise EvalTaskError(f"No query of {folder} has a relevant document.", hint="Check its qrels or its labels.")
    digest = hashlib.sha256(main_score.encode())
    for path in sorted(path for stem in files if (found := _find(folder, stem)) for path in _files_of(found)):
        digest.update(f"\n{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return ForeignTask(main_score, tables, digest.hexdigest())


# --- layouts -------------------------------------------------------------------------------------------------------


def _is_talentclef(folder: Path) -> bool:
    return all(_find(folder, stem) for stem in ("queries", "corpus_elements", "qrels"))


def _is_beir(folder: Path) -> bool:
    return not (folder / "task.json").exists() and all(_find(folder, stem) for stem in ("queries", "corpus", "qrels"))


def _is_pairs(folder: Path) -> bool:
    has_split = _find(folder, "test") or _find(folder, "validation")
    return not (folder / "task.json").exists() and bool(has_split and _find(folder, "labels"))


def _read_talentclef(folder: Path) -> dict[str, list[TaskRow]]:
    qrels = []
    path = folder / "qrels.tsv"
    for number, line in enumerate(read_task_file(path).split("\n"), start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 4 or not cells[3].lstrip("-").isdigit():
            raise EvalTaskError(
                f"{path}, line {number} is {line!r}; expected query, 0, document and a whole number.",
                hint="TalentCLEF's judgments have four columns and no header.",
            )
        qrels.append({"query": cells[0], "document": cells[2], "score": int(cells[3])})
    texts = {
        stem: _texts(_require(folder, stem), identity)
        for stem, identity in (("queries", "q_id"), ("corpus_elements", "c_id"))
    }
    return _tables(texts["queries"], texts["corpus_elements"], qrels, folder)


def _texts(path: Path, identity: str) -> dict[str, str]:
    """Text by id: of a folder with a file for each document, or of a table."""
    if path.is_dir():
        return {each.stem: read_task_file(each).strip() for each in sorted(path.iterdir()) if each.is_file()}
    found = {}
    for row in _rows(path):
        column = _column(row, _DOCUMENT_COLUMNS, path)
        found[str(row[_column(row, (identity, "q_id", "c_id", "id"), path)])] = _joined(row[column])
    return found


def _joined(value: object) -> str:
    """A text, or the texts of a list that is written as one (``['a', 'b']``)."""
    text = str(value).strip()
    if text.startswith("["):
        try:
            return ", ".join(map(str, ast.literal_eval(text)))
        except (ValueError, SyntaxError):
            return text
    return text


def _read_beir(folder: Path) -> dict[str, list[TaskRow]]:
    queries = {str(row["_id"]): str(row["text"]) for row in _rows(_require(folder, "queries"))}
    corpus = {str(row["_id"]): str(row.get("title") or row["text"]) for row in _rows(_require(folder, "corpus"))}
    qrels = [
        {"query": str(row["query-id"]), "document": str(row["corpus-id"]), "score": int(float(row["score"]))}
        for row in _rows(_require(folder, "qrels"))
    ]
    return _tables(queries, corpus, qrels, folder)


def _read_pairs(folder: Path) -> dict[str, list[TaskRow]]:
    """Pairs of a text and a label; equal texts are one query, as in WorkRB."""
    labels_path = _require(folder, "labels")
    names = [str(row[_column(row, _NAME_COLUMNS, labels_path)]) for row in _rows(labels_path)]
    numbers = {name: f"l{at}" for at, name in enumerate(dict.fromkeys(names))}
    split = _find(folder, "test") or _require(folder, "validation")
    wanted: dict[str, list[str]] = {}
    for row in _rows(split):
        if str(row.get("relevant", "True")).lower() not in ("true", "1"):
            continue
        label = row[_column(row, _LABEL_COLUMNS, split)]
        for each in label if isinstance(label, list) else [label]:
            if str(each) in numbers:
                wanted.setdefault(str(row[_column(row, _QUERY_COLUMNS, split)]), []).append(numbers[str(each)])
    queries = {f"q{at}": text for at, text in enumerate(wanted)}
    qrels = [
        {"query": query, "document": document, "score": 1}
        for query, text in queries.items()
        for document in dict.fromkeys(wanted[text])
    ]
    return _tables(queries, {number: name for name, number in numbers.items()}, qrels, folder)


def _tables(
    queries: Mapping[str, str], corpus: Mapping[str, str], qrels: Sequence[TaskRow], folder: Path
) -> dict[str, list[TaskRow]]:
    """The tables of a retrieval task. Queries without a judgment are left out later."""
    unknown = next((row for row in qrels if row["query"] not in queries or row["document"] not in corpus), None)
    if unknown is not None:
        raise EvalTaskError(
            f"{folder} judges the query {unknown['query']!r} and the document {unknown['document']!r}, one of which "
            "it does not have.",
            hint="Take queries, documents and judgments from the same release.",
        )
    return {
        "corpus": [{"_id": key, "title": "", "text": text} for key, text in corpus.items()],
        "queries": [{"_id": key, "text": text} for key, text in queries.items()],
        "qrels": list(qrels),
    }


# --- files ---------------------------------------------------------------------------------------------------------


def _find(folder: Path, stem: str) -> Path | None:
    """The file or folder with a stem; a folder only without a suffix."""
    return next((path for suffix in _SUFFIXES if (path := folder / f"{stem}{suffix}").exists()), None)


def _require(folder: Path, stem: str) -> Path:
    found = _find(folder, stem)
    if found is None:
        raise EvalTaskError(f"{folder} has no file {stem}.", hint="Its layout is described in job_benchmarks.py.")
    return found


def _files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(each for each in path.iterdir() if each.is_file())


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    """The rows of a table."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    text = read_task_file(path)
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    delimiter = "," if path.suffix == ".csv" else "\t"
    return list(csv.DictReader(text.splitlines(), delimiter=delimiter))


def _column(row: Mapping[str, object], names: Sequence[str], path: Path) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise EvalTaskError(
            f"{path} has the columns {', '.join(map(str, row))}; expected one of {', '.join(names)}.",
            hint="Rename the column, or write a task folder (llm2vec_core/evaluation/tasks/folders.py).",
        )
    return found

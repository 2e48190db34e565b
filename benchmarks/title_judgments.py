"""Job-title judgments of ESCO and O*NET as files that `l2v train --stage supervised` reads.

    python -m benchmarks.title_judgments ../shared/data OUT_DIR

writes ``onet_titles.jsonl`` and ``esco_titles.jsonl`` (alternative title -> title) and ``occupations.jsonl``
(alternative title -> title and beginning of the description). What evaluates titles is left out: the queries of
OnetAlternateTitleRetrievalDev, and every name of the ESCO occupations that EscoTitleRetrieval holds out.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.sample_esco import read_occupations
from data.sample_tasks import is_held_out

_SEED = 42


def main(shared_data: Path, out_dir: Path) -> None:
    """Write the three files and print how many judgments each holds."""
    task = shared_data / "eval" / "OnetAlternateTitleRetrievalDev"
    held_out = {_fold(row["text"]) for row in _read(task / "queries.jsonl")}
    for occupation in read_occupations():
        if is_held_out(occupation.uri):
            held_out.update(map(_fold, (occupation.label, *occupation.alternatives)))

    corpora = shared_data / "corpora"
    onet = {row["id"]: row for row in _read(corpora / "occupations_onet.jsonl")}
    esco = [row for row in _read(corpora / "occupations_esco.jsonl") if not is_held_out(row["id"])]
    onet_pairs = [
        (row["alternate_title"], onet[row["occupation"]])
        for row in _read(shared_data / "train" / "onet_titles.jsonl")
        if row["occupation"] in onet
    ]
    esco_pairs = [(title, row) for row in esco for title in row["alt_titles"]]
    kept = {
        name: [(title, row) for title, row in pairs if held_out.isdisjoint((_fold(title), _fold(row["title"])))]
        for name, pairs in (("onet_titles", onet_pairs), ("esco_titles", esco_pairs))
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, pairs in kept.items():
        _write(out_dir / f"{name}.jsonl", ({"anchor": title, "positive": row["title"]} for title, row in pairs))
    documents = [*kept["onet_titles"], *kept["esco_titles"]]
    random.Random(_SEED).shuffle(documents)
    _write(
        out_dir / "occupations.jsonl",
        ({"anchor": title, "positive": f"{row['title']} {row['description']}"} for title, row in documents),
    )


def _read(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def _write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    lines = [f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path}: {len(lines)} judgments")


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

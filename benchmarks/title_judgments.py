"""Judgments of job titles and skills, from ESCO and O*NET, as files that `l2v train --stage supervised` reads.

    python -m benchmarks.title_judgments ../shared/data OUT_DIR

writes ``onet_titles.jsonl`` and ``esco_titles.jsonl`` (alternative title -> title), ``occupations.jsonl``
(alternative title -> title and beginning of the description) and ``skills.jsonl`` (names of a skill -> its other names,
or its description). What evaluates titles is left out: the queries of OnetAlternateTitleRetrievalDev, and every name of
the ESCO occupations that EscoTitleRetrieval holds out; so are the skills of ICT, which the sample's resumes name.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.sample_esco import read_flat_skills, read_occupations
from data.sample_tasks import is_held_out

_SEED = 42
_NAME_WORDS = 8


def main(shared_data: Path, out_dir: Path) -> None:
    """Write the files and print how many judgments each holds."""
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
    _write(out_dir / "skills.jsonl", _skill_pairs())


def _skill_pairs() -> Iterator[dict[str, str]]:
    """Of each skill, words from both halves of its unseparated names, and the later ones with its description."""
    for names, description in read_flat_skills():
        words = names.split()
        middle = len(words) // 2
        first, second = (" ".join(half[:_NAME_WORDS]) for half in (words[:middle], words[middle:]))
        if first:
            yield {"anchor": first, "positive": second}
        yield {"anchor": second, "positive": description}


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

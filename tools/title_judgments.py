"""Make judgments of job titles and skills, from ESCO and O*NET, as files for `l2v train --stage supervised`.

    python -m tools.title_judgments ../shared/data OUT_DIR

writes ``onet_titles.jsonl`` and ``esco_titles.jsonl`` (alternative title -> title), ``occupations.jsonl``
(alternative title -> title and beginning of the description) and ``skills.jsonl`` (names of a skill -> its other names,
or its description). ``OUT_DIR/areas`` has them again in a harder arrangement, because a batch comes from one file.
O*NET is split by areas of work, the largest into two files for two turns. Names of skills have a near miss each:
another skill with most of the same words.

Evaluation data of titles are left out: the queries of OnetAlternateTitleRetrievalDev, every name of the ESCO
occupations that EscoTitleRetrieval holds out, and the skills of ICT, which the sample's resumes name.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bm25s

from data.sample.esco import read_flat_skills, read_occupations
from data.sample.eval_tasks import is_held_out

_SEED = 42
_NAME_WORDS = 8
_NEAR_MISSES = 4
_AREAS = {
    "business": ("11", "13", "23"),
    "science": ("15", "17", "19"),
    "people": ("21", "25", "27"),
    "care": ("29", "31", "35", "37", "39"),
    "office": ("33", "41", "43", "55"),
    "trades": ("45", "47", "53"),
    "production": ("49", "51"),
}
"""Areas of work by major groups of the Standard Occupational Classification; each has 100 occupations and more."""
_IN_TWO = "production"

Judgment = dict[str, Any]
TitlePair = tuple[str, Judgment]
"""An alternative title, and its occupation."""


def main(shared_data: Path, out_dir: Path) -> None:
    """Write the files and print how many judgments each holds."""
    onet, esco = kept_titles(shared_data)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_rows(out_dir / "onet_titles.jsonl", map(with_title, onet))
    write_rows(out_dir / "esco_titles.jsonl", map(with_title, esco))
    documents = [*onet, *esco]
    random.Random(_SEED).shuffle(documents)
    write_rows(out_dir / "occupations.jsonl", map(with_description, documents))
    write_rows(out_dir / "skills.jsonl", _skill_pairs())
    _write_areas(out_dir / "areas", onet, esco)


def kept_titles(shared_data: Path) -> tuple[list[TitlePair], list[TitlePair]]:
    """Alternative titles of O*NET and ESCO with their occupations, without evaluation data."""
    task = shared_data / "eval" / "OnetAlternateTitleRetrievalDev"
    held_out = {_fold(row["text"]) for row in read_rows(task / "queries.jsonl")}
    for occupation in read_occupations():
        if is_held_out(occupation.uri):
            held_out.update(map(_fold, (occupation.label, *occupation.alternatives)))

    corpora = shared_data / "corpora"
    onet = {row["id"]: row for row in read_rows(corpora / "occupations_onet.jsonl")}
    esco = [row for row in read_rows(corpora / "occupations_esco.jsonl") if not is_held_out(row["id"])]
    onet_pairs = [
        (row["alternate_title"], onet[row["occupation"]])
        for row in read_rows(shared_data / "train" / "onet_titles.jsonl")
        if row["occupation"] in onet
    ]
    esco_pairs = [(title, row) for row in esco for title in row["alt_titles"]]
    kept_onet, kept_esco = (
        [(title, row) for title, row in pairs if held_out.isdisjoint((_fold(title), _fold(row["title"])))]
        for pairs in (onet_pairs, esco_pairs)
    )
    return kept_onet, kept_esco


def _write_areas(out_dir: Path, onet: list[TitlePair], esco: list[TitlePair]) -> None:
    out_dir.mkdir(exist_ok=True)
    for name, pairs in by_area(onet).items():
        write_rows(out_dir / f"titles_{name}.jsonl", map(with_title, pairs))
        write_rows(out_dir / f"documents_{name}.jsonl", map(with_description, pairs))
    write_rows(out_dir / "documents_onet.jsonl", map(with_description, onet))
    write_rows(out_dir / "documents_esco.jsonl", map(with_description, esco))
    near = list(near_misses())
    write_rows(out_dir / "skills_near_1.jsonl", near[::2])
    write_rows(out_dir / "skills_near_2.jsonl", near[1::2])
    write_rows(
        out_dir / "skills_described.jsonl", ({"anchor": second, "positive": text} for _, second, text in skills())
    )


def by_area(onet: list[TitlePair]) -> dict[str, list[TitlePair]]:
    """Titles of O*NET by area of work, in random order. A batch of one area is harder than one of all."""
    areas: dict[str, list[TitlePair]] = {}
    for area, groups in _AREAS.items():
        pairs = [(title, row) for title, row in onet if row["id"].startswith(groups)]
        random.Random(_SEED).shuffle(pairs)
        areas |= {f"{area}_1": pairs[::2], f"{area}_2": pairs[1::2]} if area == _IN_TWO else {area: pairs}
    return areas


def with_title(pair: TitlePair) -> Judgment:
    """An alternative title and the title of its occupation."""
    title, row = pair
    return {"anchor": title, "positive": row["title"]}


def with_description(pair: TitlePair) -> Judgment:
    """An alternative title, and the title and description of its occupation."""
    title, row = pair
    return {"anchor": title, "positive": f"{row['title']} {row['description']}"}


def near_misses() -> Iterator[Judgment]:
    """Two halves of each skill's names, with the names of a skill that shares most words as a negative."""
    named = [(first, second) for first, second, _ in skills() if first]
    firsts, seconds = zip(*named, strict=True)
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(seconds), stopwords="en", show_progress=False), show_progress=False)
    asked = bm25s.tokenize(list(firsts), stopwords="en", show_progress=False)
    nearest, _ = index.retrieve(asked, k=_NEAR_MISSES + 2, show_progress=False)
    rng = random.Random(_SEED)
    for number, (first, second) in enumerate(named):
        others = [other for other in nearest[number].tolist() if _fold(seconds[other]) != _fold(second)]
        yield {"anchor": first, "positive": second, "negatives": [seconds[rng.choice(others[:_NEAR_MISSES])]]}


def _skill_pairs() -> Iterator[Judgment]:
    """Words from both halves of each skill's unseparated names, and the later ones with its description."""
    for first, second, description in skills():
        if first:
            yield {"anchor": first, "positive": second}
        yield {"anchor": second, "positive": description}


def skills() -> Iterator[tuple[str, str, str]]:
    """The first words of both halves of each skill's unseparated names, and its description."""
    for names, description in read_flat_skills():
        words = names.split()
        middle = len(words) // 2
        first, second = (" ".join(half[:_NAME_WORDS]) for half in (words[:middle], words[middle:]))
        yield first, second, description


def read_rows(path: Path) -> Iterator[Judgment]:
    """Rows of a JSONL file."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def write_rows(path: Path, rows: Iterable[Judgment]) -> None:
    """Write a JSONL file and print the number of its judgments."""
    lines = [f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path}: {len(lines)} judgments")


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

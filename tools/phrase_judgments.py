"""Make judgments that word overlap cannot solve, from ESCO, O*NET and FOLDOC, for `l2v train --stage supervised`.

    python -m tools.phrase_judgments ../shared/data OUT_DIR

In the pairs of ``tools.title_judgments`` positives mostly share words with their anchor, and negatives share none. An
encoder that only compares words gets most of them right. Here it is the other way round: positives have lost the words
that they share with their anchor, and the negative is a near miss that has some of them:

``skills_N.jsonl``  name of a skill -> its description; not another skill with some of the same words
``framed_N.jsonl``  a stock phrase around a name -> name or description of that skill; not the same around another
``titles.jsonl``    alternative title -> title that shares no word with it; not a title that does
``tasks_N.jsonl``   a task description -> a title of the occupation; not a title of another with some of the same words
``terms.jsonl``     a term of computing -> its definition; not another term that the definition names

They contain no evaluation data of titles or phrases: the occupations and queries that ``tools.title_judgments`` leaves
out, the skills of ICT, and the stock phrases of SkillParaphrasePairs.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import bm25s

from data.sample.eval_tasks import read_skill_pairs
from tools.title_judgments import Judgment, kept_titles, read_rows, skills, write_rows

_SEED = 42
_STEM_CHARS = 5
_FIRST_NEAR_MISS, _NEAR_MISSES_END = 2, 12
"""Ranks in the word search to draw near misses from; the very first often have the same meaning."""
_KEPT_WORDS = 4
"""Minimum number of words left in a text without those that it shares with its anchor."""
_UNCHANGED_SHARE = 0.3
"""Share of the texts that keep the words shared with their anchor, as some real postings do."""
_STOP_WORDS = frozenset(
    (
        "a",
        "an",
        "and",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "in",
        "into",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "them",
        "this",
        "to",
        "which",
        "with",
    )
)

_CATCH_ALL = "All Other"
"""Part of the titles of O*NET's residual occupations."""

_FRAMES = (
    "{} experience",
    "three years of {}",
    "strong skills in {}",
    "you will be in charge of {}",
    "day-to-day work: {}",
    "degree or training in {}",
    "passion for {}",
    "we are looking for someone for {}",
    "previous role: {}",
    "main duty is {}",
    "familiar with {}",
    "proven record in {}",
    "trains new colleagues in {}",
    "advises managers on {}",
    "wrote the manual for {}",
    "runs courses about {}",
    "five days a week of {}",
    "excellent understanding of {}",
    "comfortable with {} under pressure",
    "took over {} from a colleague",
    "improved {} across the company",
    "set up a team for {}",
    "head of {}",
    "internship in {}",
    "award for {}",
    "freelance {} for small clients",
    "assistant for {}",
    "hands-on {}",
    "interest in {} and willingness to learn",
    "reports to the director of {}",
    "plans and budgets for {}",
    "quality control of {}",
    "published articles about {}",
    "ten staff working on {}",
    "evening classes in {}",
    "must have done {} before",
    "led a project on {} last year",
    "specialises in {}",
    "first contact for questions about {}",
    "audits of {}",
)

_SKILL_FILES = 3
_FRAMED_FILES = 3
_TASK_FILES = 4


def main(shared_data: Path, out_dir: Path) -> None:
    """Write the files and print the number of judgments in each."""
    rng = random.Random(_SEED)
    out_dir.mkdir(parents=True, exist_ok=True)
    _write_parts(out_dir, "skills", _skills_reworded(rng), parts=_SKILL_FILES)
    _write_parts(out_dir, "framed", _framed(rng), parts=_FRAMED_FILES)
    onet, esco = kept_titles(shared_data)
    write_rows(out_dir / "titles.jsonl", _titles_reworded([*onet, *esco], rng))
    _write_parts(out_dir, "tasks", _tasks(onet, rng), parts=_TASK_FILES)
    write_rows(out_dir / "terms.jsonl", _terms(shared_data / "text" / "foldoc.jsonl"))


def _skills_reworded(rng: random.Random) -> list[Judgment]:
    named = [(_leading(first or second, rng), description) for first, second, description in skills()]
    names = [name for name, _ in named]
    rows = []
    for (name, description), other in zip(named, _near_misses(names, names, rng), strict=True):
        if other is not None and named[other][0] != name:
            positive, negative = _reworded(description, name, rng), rng.choice(named[other])
            rows.append({"anchor": name, "positive": positive, "negatives": [negative]})
    rng.shuffle(rows)
    return rows


def _framed(rng: random.Random) -> list[Judgment]:
    evaluated = {text.casefold() for pair in read_skill_pairs() for text in (pair["sentence1"], pair["sentence2"])}
    fixed = {frame: [part.strip() for part in frame.split("{}") if part.strip()] for frame in _FRAMES}
    frames = [frame for frame, parts in fixed.items() if not any(part in text for part in parts for text in evaluated)]
    print(f"{len(frames)} of {len(_FRAMES)} stock phrases; SkillParaphrasePairs has the others")
    named = [(_leading(first or second, rng), second, description) for first, second, description in skills()]
    rows = []
    for _ in range(2):
        rng.shuffle(named)
        others = [*named[1:], named[0]]
        for (name, second, description), (other, *_) in zip(named, others, strict=True):
            frame = rng.choice(frames)
            positive = rng.choice((second, rng.choice(frames).format(second), _reworded(description, name, rng)))
            rows.append({"anchor": frame.format(name), "positive": positive, "negatives": [frame.format(other)]})
    return rows


def _titles_reworded(pairs: Sequence[tuple[str, Judgment]], rng: random.Random) -> list[Judgment]:
    titles = list(dict.fromkeys(row["title"] for _, row in pairs))
    unlike = [
        (title, row)
        for title, row in pairs
        if _CATCH_ALL not in row["title"] and _stems(title).isdisjoint(_stems(row["title"]))
    ]
    near = _near_misses([title for title, _ in unlike], titles, rng)
    rows = [
        {"anchor": title, "positive": row["title"], "negatives": [titles[other]]}
        for (title, row), other in zip(unlike, near, strict=True)
        if other is not None and titles[other] != row["title"]
    ]
    rng.shuffle(rows)
    return rows


def _tasks(pairs: Sequence[tuple[str, Judgment]], rng: random.Random) -> list[Judgment]:
    names: dict[str, list[str]] = {}
    occupations = {}
    for title, row in pairs:
        if _CATCH_ALL not in row["title"]:
            names.setdefault(row["title"], [row["title"]]).append(title)
            occupations[row["title"]] = row
    tasks = [(task, title) for title, row in occupations.items() for task in row["tasks"]]
    titles = list(occupations)
    near = _near_misses([task for task, _ in tasks], titles, rng, first=0)
    rows = []
    for (task, title), other in zip(tasks, near, strict=True):
        if other is not None and titles[other] != title:
            positive = rng.choice((title, rng.choice(names[title])))
            negative = rng.choice((titles[other], rng.choice(names[titles[other]])))
            rows.append({"anchor": task, "positive": positive, "negatives": [negative]})
    rng.shuffle(rows)
    return rows


def _terms(path: Path) -> Iterator[Judgment]:
    """Terms of FOLDOC whose entry has a field, a definition, and a link to another term."""
    for row in read_rows(path):
        found = re.match(r"(?P<term>[^<>{}\n]{2,60}?) (?:<[^<>]+> )+(?P<definition>.+)", row["text"], re.DOTALL)
        if found is None:
            continue
        links = re.findall(r"\{([^{}()]{3,40})\}", found["definition"])
        definition = _without(re.sub(r"[{}]|<[^<>]*>|\([^()]*\d{4}[^()]*\)", "", found["definition"]), found["term"])
        if links and len(_stems(definition)) >= _KEPT_WORDS:
            yield {"anchor": found["term"], "positive": definition, "negatives": [links[-1]]}


def _near_misses(
    anchors: Sequence[str], texts: Sequence[str], rng: random.Random, *, first: int = _FIRST_NEAR_MISS
) -> list[int | None]:
    """For each anchor, the index of a text that shares a word with it, or None."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(texts), stopwords="en", show_progress=False), show_progress=False)
    asked = bm25s.tokenize(list(anchors), stopwords="en", show_progress=False)
    numbers, scores = index.retrieve(asked, k=_NEAR_MISSES_END, show_progress=False)
    drawn: list[int | None] = []
    for row, found in zip(numbers, scores, strict=True):
        near = [int(number) for number, score in zip(row[first:], found[first:], strict=True) if score > 0]
        drawn.append(rng.choice(near) if near else None)
    return drawn


def _reworded(text: str, anchor: str, rng: random.Random) -> str:
    """The text without the words shared with its anchor; sometimes unchanged, and always if little would be left."""
    left = _without(text, anchor)
    return text if rng.random() < _UNCHANGED_SHARE or len(_stems(left)) < _KEPT_WORDS else left


def _without(text: str, anchor: str) -> str:
    shared = _stems(anchor)
    return " ".join(word for word in text.split() if shared.isdisjoint(_stems(word)))


def _leading(name: str, rng: random.Random) -> str:
    """The first words of names that stand one after the other: about one of them."""
    return " ".join(name.split()[: rng.randint(3, 5)])


def _stems(text: str) -> set[str]:
    return {word[:_STEM_CHARS] for word in re.findall(r"\w+", text.casefold()) if word not in _STOP_WORDS}


def _write_parts(out_dir: Path, name: str, rows: Sequence[Judgment], *, parts: int) -> None:
    for part in range(parts):
        write_rows(out_dir / f"{name}_{part + 1}.jsonl", rows[part::parts])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Make the texts that the bundled job encoder is distilled on, as one file for `train()` or `l2v ingest`.

    python -m tools.training_texts ../shared/data OUT_DIR

writes ``texts.jsonl``: sentences of WikiText-2 and FOLDOC, premises and hypotheses of SNLI, sentences of SkillSkape,
names and descriptions of ESCO's skills and occupations, titles and tasks of O*NET. Licences of all of them permit
publication of what a model learns from them. ``nli.jsonl`` and ``skillskape.jsonl`` are the judgments among them.

A text that shares eight words in a row with a text of an evaluation task is left out, and so is a short one that equals
a text of it. Names of skills and occupations stay where they are the documents of a task, because they are the
vocabulary that the task searches; its queries are left out.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from data.sample.eval_tasks import read_skill_pairs
from llm2vec_core.evaluation.tasks.seen import TextIndex
from tools.title_judgments import kept_titles, read_rows, skills, write_rows

_SEED = 1
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_VOCABULARIES = ("SkillExtractionHouseRetrieval", "SkillSkapeDevRetrieval", "OnetAlternateTitleRetrievalDev")
_MOST = {"foldoc": 12_000, "skill_texts": 8_000, "skill_names": 8_000, "onet_titles": 15_000, "esco_titles": 8_000,
         "onet_tasks": 10_000, "esco_texts": 6_000}  # fmt: skip
"""Largest number of texts from a group; the other groups are taken whole."""


def main(shared_data: Path, out_dir: Path) -> None:
    """Write the files and print how many rows each has."""
    seen = TextIndex(_evaluation_texts(shared_data / "eval"))
    out_dir.mkdir(parents=True, exist_ok=True)
    nli = [row for row in read_rows(shared_data / "train" / "nli.jsonl") if not any(map(seen.overlaps, _texts(row)))]
    skillskape = [
        row for row in read_rows(shared_data / "train" / "skillskape.jsonl") if not seen.overlaps(row["anchor"])
    ]
    write_rows(out_dir / "nli.jsonl", nli)
    write_rows(out_dir / "skillskape.jsonl", skillskape)
    groups: dict[str, Iterable[str]] = {
        "wikitext": _wikitext(shared_data),
        "foldoc": _sentences((row["text"] for row in read_rows(shared_data / "text" / "foldoc.jsonl")), 4, 40),
        "nli": (text for row in nli for text in _texts(row)),
        "skillskape": (row["anchor"] for row in skillskape),
        **_names_and_descriptions(shared_data),
    }
    rng = random.Random(_SEED)
    kept: dict[str, None] = {}
    for group, texts in groups.items():
        clean = [text for text in dict.fromkeys(texts) if text and not seen.overlaps(text)]
        most = _MOST.get(group, len(clean))
        kept |= dict.fromkeys(clean if len(clean) <= most else rng.sample(clean, most))
    # The documents of the tasks about skills: the vocabulary that they search.
    labels = (row["text"] for row in read_rows(shared_data / "eval" / _VOCABULARIES[1] / "corpus.jsonl"))
    kept |= dict.fromkeys(labels)
    write_rows(out_dir / "texts.jsonl", ({"text": text} for text in kept))


def _evaluation_texts(tasks: Path) -> Iterator[str]:
    """All texts of all tasks, without the vocabularies."""
    for path in tasks.glob("*/*.jsonl"):
        if path.name != "corpus.jsonl" or path.parent.name not in _VOCABULARIES:
            for row in read_rows(path):
                yield from _texts(row)
    for pair in read_skill_pairs():
        yield from _texts(pair)


def _names_and_descriptions(shared_data: Path) -> Mapping[str, Iterable[str]]:
    onet, esco = kept_titles(shared_data)
    occupations = list(read_rows(shared_data / "corpora" / "occupations_onet.jsonl"))
    described = read_rows(shared_data / "corpora" / "occupations_esco.jsonl")
    return {
        "skill_texts": _sentences((text for _, _, text in skills()), 4, 200),
        "skill_names": [name for first, second, _ in skills() for name in (first, second)],
        "onet_titles": [title for title, _ in onet],
        "esco_titles": [*(title for title, _ in esco), *(row["title"] for _, row in esco)],
        "onet_tasks": _sentences(("\n".join((row["description"], *row["tasks"])) for row in occupations), 4, 60),
        "esco_texts": _sentences((row["description"] for row in described), 4, 60),
    }


def _wikitext(shared_data: Path) -> Iterator[str]:
    texts = (row["text"] for row in read_rows(shared_data / "text" / "wikitext2.jsonl"))
    plain = (text.replace(" @-@ ", "-").replace(" ,", ",").replace(" .", ".") for text in texts)
    return (sentence for sentence in _sentences(plain, 5, 40) if "<unk>" not in sentence)


def _sentences(texts: Iterable[str], least: int, most: int) -> Iterator[str]:
    """Sentences of ``least`` to ``most`` words."""
    for text in texts:
        for part in _SENTENCE_END.split(text):
            if least <= len(part.split()) <= most:
                yield part.strip()


def _texts(row: Mapping[str, object]) -> Iterator[str]:
    for value in row.values():
        yield from (text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

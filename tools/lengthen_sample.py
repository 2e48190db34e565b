"""Give a third of the sample's documents the length of real ones: what stands before and behind their short texts.

    python -m tools.lengthen_sample

A seeded generator writes sections around a short text: several employers with their duties, skills, education and
courses; or employer, duties, requirements, benefits and how to apply. All facts about the work come from the same
occupation as the short text, so the judgments stay as they are. The short text stands at any place, not always on top.
The phrases are in ``data/sample/files/long_phrases.toml``. No sentence occurs twice in the sample.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from data.sample.esco import Occupation, read_occupations
from data.sample.read import (
    SAMPLE_DIR,
    LongText,
    build_job_id,
    read_long_phrases,
    read_phrases,
    read_sample_resumes,
    read_test_jobs,
    read_train_triples,
    render_jsonl,
)
from tools.make_sample import (
    clauses_of,
    comparable_sentences,
    fill,
    join_words,
    past_tense,
    read_families,
    role_names,
    sentence,
    topics_of,
)

SEED = 20_261_130
MIN_WORDS = 400
_LAST_YEAR = 2025
_MAX_ATTEMPTS = 2_000


def write_long_texts(folder: Path = SAMPLE_DIR) -> None:
    """Regenerate ``long_texts.jsonl``."""
    (folder / "long_texts.jsonl").write_text(render_jsonl(generate_long_texts()), encoding="utf-8", newline="\n")


def generate_long_texts(*, seed: int = SEED) -> list[LongText]:
    """Lengthen every third resume and test job, and three of five postings of ICT occupations.

    Args:
        seed: Seed of the generator; the committed file was made with the default.

    Returns:
        What stands before and behind each short text, in the order of the documents.
    """
    writer = _Writer(seed)
    occupations = {occupation.uri: occupation for occupation in read_occupations()}
    found: list[LongText] = []
    for number, resume in enumerate(read_sample_resumes(long=False)):
        if number % 3 == 0:
            found.append(writer.resume(resume, occupations[str(resume["occupation"])]))
    for number, occupation in enumerate(read_occupations()):
        if number % 5 < 3:
            found.append(writer.posting(build_job_id(occupation.uri), 60, occupation))
    for number, job in enumerate(read_test_jobs(long=False)):
        if number % 3 == 0:
            found.append(writer.posting(job.id, len(job.description.split()), occupations[job.occupation]))
    return found


class _Writer:
    """Writes sections with one random generator, and no sentence that the sample already has."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._phrases = read_long_phrases()
        texts = [str(row["text"]) for row in read_sample_resumes(long=False)]
        texts += [job.description for job in read_test_jobs(long=False)]
        texts += [str(row[part]) for row in read_train_triples() for part in ("anchor", "positive", "negative")]
        self._used: set[str] = set()  # patterns of the document that is written
        self._taken = {part for text in texts for part in comparable_sentences(text)}

    def resume(self, row: Mapping[str, object], occupation: Occupation) -> LongText:
        """Sections of a resume; the short text is one of them, or stands on top."""
        self._used.clear()
        phrases = self._phrases["resume"]
        headings = self._random.choice(phrases["headings"])
        sections = {
            "summary": self._lines("resume", "summary", occupation, 3),
            "skills": self._lines("resume", "skills", occupation, 3),
            "experience": [],
            "education": self._lines("resume", "education", occupation, 2),
            "more": self._lines("resume", "courses", occupation, 2),
            "other": [self._line("resume", part, occupation) for part in ("languages", "interests", "references")],
        }
        order = ["summary", *self._random.sample(["skills", "experience", "education"], k=3), "more", "other"]
        num_words = len(str(row["text"]).split()) + sum(
            len(line.split()) for part in sections.values() for line in part
        )
        year = _LAST_YEAR
        while num_words < MIN_WORDS:
            station, year = self._station(occupation, year)
            sections["experience"] += station
            num_words += sum(len(line.split()) for line in station)
        blocks = ["\n".join([headings[name], *sections[name]]) for name in order]
        place = self._random.randrange(len(blocks))
        own = headings["own"]
        before = "".join(f"{block}\n\n" for block in blocks[:place]) + (f"{own}\n" if place else "")
        return LongText(id=str(row["id"]), before=before, after="\n\n" + "\n\n".join(blocks[place:]))

    def posting(self, name: str, num_words: int, occupation: Occupation) -> LongText:
        """Sections of a posting; the short text describes the role behind the employer, or stands on top."""
        self._used.clear()
        headings = self._random.choice(self._phrases["posting"]["headings"])
        counts = {"about": 3, "duties": 6, "bring": 5, "offer": 4, "apply": 3}
        sections = {part: self._lines("posting", part, occupation, count) for part, count in counts.items()}
        sections["bring"].append(self._line("posting", "nice", occupation))
        num_words += sum(len(line.split()) for part in sections.values() for line in part)
        while num_words < MIN_WORDS:
            part = self._random.choice(["duties", "duties", "bring", "offer"])
            line = self._line("posting", part, occupation)
            sections[part].append(line)
            num_words += len(line.split())
        blocks = ["\n".join([headings[part], *lines]) for part, lines in sections.items()]
        place = self._random.choice([0, 1, 1, 2])
        before = "".join(f"{block}\n\n" for block in blocks[:place]) + (f"{headings['role']}\n" if place else "")
        return LongText(id=name, before=before, after="\n\n" + "\n\n".join(blocks[place:]))

    def _station(self, occupation: Occupation, until: int) -> tuple[list[str], int]:
        """One employer with period, place and duties, and the year in which it began."""
        since = until - self._random.choice([2, 3, 4, 5])
        role = self._random.choice(role_names(occupation))
        months = self._random.choices(self._phrases["slots"]["month"], k=2)
        sector = self._random.choice(self._phrases["slots"]["sector"])
        head = f"{role[0].upper()}{role[1:]}, {sector}, {months[0]} {since} to {months[1]} {until}"
        lines = [head, self._line("resume", "station", occupation), *self._lines("resume", "duties", occupation, 4)]
        return lines, since

    def _lines(self, kind: str, part: str, occupation: Occupation, count: int) -> list[str]:
        return [self._line(kind, part, occupation) for _ in range(count)]

    def _line(self, kind: str, part: str, occupation: Occupation) -> str:
        """One new sentence, of a pattern that the document does not have yet if the occupation has facts for one."""
        patterns = self._phrases[kind][part]
        usable = [pattern for pattern in patterns if self._facts(pattern, occupation) is not None]
        for _ in range(_MAX_ATTEMPTS):
            pattern = self._random.choice([each for each in usable if each not in self._used] or usable)
            facts = self._facts(pattern, occupation) or {}
            line = re.sub(r"\b([Aa]) (?=[aeio](?!ne)|I[A-Z]|SE)", r"\1n ", sentence(fill(pattern, **facts)))
            parts = comparable_sentences(line)
            if len(set(parts)) == len(parts) and self._taken.isdisjoint(parts):
                self._taken.update(parts)
                self._used.add(pattern)
                return line
        raise AssertionError(f"no new {part} for '{occupation.label}': add phrases")

    def _facts(self, pattern: str, occupation: Occupation) -> dict[str, str] | None:
        facts: dict[str, str] = {}
        for name in dict.fromkeys(re.findall(r"\{(\w+)\}", pattern)):
            base = name.rstrip("2")
            if base in self._phrases["slots"]:
                known = [value for value in self._phrases["slots"][base] if value != facts.get(base)]
            elif base in ("does", "did"):
                known = list(_clauses_of(occupation.uri))
            elif base == "topics":
                topics = _topics_of(occupation.uri)
                known = [join_words(self._random.sample(topics, k=3))] if len(topics) >= 3 else []
            elif base == "field":
                known = read_phrases()["families"][read_families()[occupation.label][0]]["study"]
            else:
                known = list(role_names(occupation))
            if not known:
                return None
            chosen = self._random.choice(known)
            facts[name] = past_tense(chosen) if base == "did" else chosen
        return facts


@cache
def _occupations() -> dict[str, Occupation]:
    return {occupation.uri: occupation for occupation in read_occupations()}


@cache
def _clauses_of(uri: str) -> tuple[str, ...]:
    found = (clause for skill in _occupations()[uri].skills for clause in clauses_of(skill))
    return tuple(dict.fromkeys(found))


@cache
def _topics_of(uri: str) -> tuple[str, ...]:
    found = (topic for skill in _occupations()[uri].skills for topic in topics_of(skill)[:2])
    return tuple(dict.fromkeys(found))


if __name__ == "__main__":
    write_long_texts()

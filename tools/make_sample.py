"""Regenerate the committed files of the bundled sample: resumes, graded relevance, training triples, judged test jobs.

    python -m tools.make_sample

A seeded generator turns ESCO facts into resumes and triples, and a rule grades a resume against an occupation. The
sentence patterns and the families of occupations are in ``data/sample/files/resume_phrases.toml``.

No sentence occurs twice in all files together, so that no retriever can score by recognising a pattern. The only
exception are postings, which are ESCO's own words.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, TypedDict

from data.sample.esco import FlatOccupation, Occupation, Skill, read_flat_occupations, read_occupations
from data.sample.read import SAMPLE_DIR, build_job_id, read_phrases, render_jsonl

RESUME_SEED = 20_240_611
TRIPLE_SEED = 20_240_612

Grade = Literal[0, 1, 2]
GRADE_SAME: Grade = 2
GRADE_RELATED: Grade = 1

_MIN_WORDS, _MAX_WORDS, _MAX_CHARACTERS = 55, 75, 455
_CLAUSE_WORDS = range(3, 15)
_TRIPLES_PER_ICT_OCCUPATION = 5
_NUM_OTHER_TRIPLES = 60
_NUM_HARD_NEGATIVES, _NUM_EASY_NEGATIVES = 3, 2
_NUM_CLAUSES = 7
_MAX_ATTEMPTS = 5_000
_SENIORITIES = ("junior", "mid", "senior", "lead")
_MANAGER_WORDS = frozenset({"manager", "chief", "head", "director", "officer", "ciso", "lead"})
_ICT_WORDS = re.compile(r"\b(ICT|IT|software|data|cloud|web\w*|network|tele\w*|digital|computer|system|e-\w+)\b", re.I)
_CLAUSE_END = re.compile(
    r"\s*(?:;|\.\s|\.$|\(|, such as|, ensuring|, including|, by |, which|, so that|, in order|, taking|, e\.g|, using|"
    r", as well| such as | including | in order to | so that | to ensure | e\.g| i\.e| by means| usually | ensuring )"
)
_PREPOSITIONS = frozenset(
    ("of", "for", "in", "with", "from", "that", "on", "to", "by", "at", "into", "while", "when", "where", "during")
)


class Resume(TypedDict):
    """One generated resume, a row of ``resumes.jsonl``."""

    id: str
    title: str
    text: str
    occupation: str
    seniority: str
    category: str


class Triple(TypedDict):
    """One training triple, a row of ``train_triples.jsonl``."""

    anchor: str
    positive: str
    negative: str
    occupation: str


@cache
def read_families() -> dict[str, tuple[str, ...]]:
    """Read the families of each ICT occupation.

    Returns:
        ESCO preferred label to family names, the main family first.
    """
    families: dict[str, tuple[str, ...]] = {}
    for name, family in read_phrases()["families"].items():
        for label in family["members"]:
            families[label] = (*families.get(label, ()), name)
    return families


def grade_occupations(left: str, right: str) -> Grade:
    """Grade how well a resume of one occupation fits a posting of another.

    Args:
        left: ESCO preferred label of the posting's occupation.
        right: ESCO preferred label of the resume's occupation.

    Returns:
        2 for the same occupation, 1 for two of one hand-listed family, otherwise 0.
    """
    if left == right:
        return GRADE_SAME
    families = read_families()
    return GRADE_RELATED if set(families.get(left, ())) & set(families.get(right, ())) else 0


def comparable_sentences(text: str) -> list[str]:
    """Split a text into normalised sentences, to find those that two texts share.

    Args:
        text: Any text of the sample.

    Returns:
        Lower-cased sentences without punctuation, headings included, of four words and more.
    """
    parts = (re.sub(r"[^a-z0-9+#]+", " ", part).strip() for part in re.split(r"[.!?:;\n](?:\s|$)", text.lower()))
    return [part for part in parts if len(part.split()) >= 4]


def generate_resumes(*, seed: int = RESUME_SEED) -> list[Resume]:
    """Compose the resumes of the sample: four for every other ICT occupation, three for the rest.

    Args:
        seed: Seed of the generator; the committed file was made with the default.

    Returns:
        Resumes in the order of the committed file.
    """
    writer = _Writer(seed)
    drafts: list[Resume] = []
    for index, occupation in enumerate(read_occupations()):
        for copy in range(4 if index % 2 == 0 else 3):
            seniority = _SENIORITIES[(index + copy) % len(_SENIORITIES)]
            title, text = writer.compose_resume(occupation, seniority)
            drafts.append(
                Resume(
                    id="",
                    title=title,
                    text=text,
                    occupation=occupation.uri,
                    seniority=seniority,
                    category=read_families()[occupation.label][0],
                )
            )
    # Shuffled, so that neither an id nor a position reveals the occupation.
    writer.random.shuffle(drafts)
    return [{**draft, "id": f"resume-{number:03d}"} for number, draft in enumerate(drafts, start=1)]


def generate_relevance(resumes: Sequence[Resume]) -> list[tuple[str, str, Grade]]:
    """Grade every resume against every ICT posting of the sample.

    Args:
        resumes: Resumes of the sample.

    Returns:
        (job id, resume id, grade) for the grades above 0, in posting order, best grade first.
    """
    labels = {occupation.uri: occupation.label for occupation in read_occupations()}
    rows: list[tuple[str, str, Grade]] = []
    for occupation in read_occupations():
        graded = [
            (resume["id"], grade_occupations(occupation.label, labels[resume["occupation"]])) for resume in resumes
        ]
        rows.extend(
            (build_job_id(occupation.uri), resume_id, grade)
            for resume_id, grade in sorted(graded, key=lambda pair: (-pair[1], pair[0]))
            if grade
        )
    return rows


def generate_triples(*, excluded: Iterable[str], resumes: Sequence[Resume], seed: int = TRIPLE_SEED) -> list[Triple]:
    """Compose the training triples from occupations that no test job has.

    Args:
        excluded: URIs of the test jobs' occupations.
        resumes: Resumes of the sample; no sentence of theirs is used again.
        seed: Seed of the generator; the committed file was made with the default.

    Returns:
        Triples of the ICT occupations, then of occupations outside ICT.
    """
    writer = _Writer(seed)
    for resume in resumes:
        writer.taken.update(comparable_sentences(resume["text"]))
    left_out = set(excluded)
    allowed = [occupation for occupation in read_occupations() if occupation.uri not in left_out]
    triples: list[Triple] = []
    for occupation in allowed:
        others = [other for other in allowed if other.uri != occupation.uri]
        near = [other for other in others if grade_occupations(occupation.label, other.label)]
        near = near or sorted(others, key=lambda other: (-_num_shared_skills(occupation, other), other.uri))[:3]
        for copy in range(_TRIPLES_PER_ICT_OCCUPATION):
            negative = writer.random.choice(near)
            seniority = _SENIORITIES[copy % len(_SENIORITIES)]
            triples.append(
                Triple(
                    anchor=writer.compose_anchor(occupation),
                    positive="\n".join(writer.compose_resume(occupation, seniority, has_education=False)),
                    negative="\n".join(writer.compose_resume(negative, seniority, has_education=False)),
                    occupation=occupation.uri,
                )
            )
    return triples + _other_triples(writer, left_out)


def choose_negatives(description: str, occupation: str, resumes: Sequence[Resume]) -> list[str]:
    """Choose resumes that are irrelevant to a test job: the closest ones by shared words, and two distant ones.

    Args:
        description: Text of the test job.
        occupation: URI of its occupation.
        resumes: Resumes of the sample.

    Returns:
        Ids of resumes of grade 0, near misses first.
    """
    labels = {entry.uri: entry.label for entry in read_occupations()}
    words = _content_words(description)
    unfit = [resume for resume in resumes if not grade_occupations(labels[occupation], labels[resume["occupation"]])]

    def overlap(resume: Resume) -> tuple[float, str]:
        other = _content_words(f"{resume['title']} {resume['text']}")
        return -len(words & other) / len(words | other), resume["id"]

    ranked = sorted(unfit, key=overlap)
    return [resume["id"] for resume in (*ranked[:_NUM_HARD_NEGATIVES], *ranked[-_NUM_EASY_NEGATIVES:])]


def write_samples(folder: Path = SAMPLE_DIR) -> None:
    """Regenerate the committed files: resumes, relevance, triples, and the judgments (not the texts) of the test jobs.

    Args:
        folder: Folder of the files; ``test_jobs.jsonl`` must already hold id, label, seniority, description and
            occupation.
    """
    resumes = generate_resumes()
    labels = {occupation.uri: occupation.label for occupation in read_occupations()}
    test_jobs = [json.loads(line) for line in (folder / "test_jobs.jsonl").read_text(encoding="utf-8").splitlines()]
    for job in test_jobs:
        grades = {
            resume["id"]: grade
            for resume in resumes
            if (grade := grade_occupations(labels[job["occupation"]], labels[resume["occupation"]]))
        }
        job["relevance"] = dict(sorted(grades.items(), key=lambda pair: (-pair[1], pair[0])))
        job["pos"] = [resume_id for resume_id, grade in job["relevance"].items() if grade == GRADE_SAME]
        job["neg"] = choose_negatives(job["description"], job["occupation"], resumes)
    keys = ("id", "label", "seniority", "pos", "neg", "description", "occupation", "relevance")
    excluded = {job["occupation"] for job in test_jobs}
    texts = {
        "resumes.jsonl": render_jsonl(resumes),
        "relevance.tsv": render_relevance(generate_relevance(resumes)),
        "train_triples.jsonl": render_jsonl(generate_triples(excluded=excluded, resumes=resumes)),
        "test_jobs.jsonl": render_jsonl([{key: job[key] for key in keys} for job in test_jobs]),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def render_relevance(rows: Iterable[tuple[str, str, Grade]]) -> str:
    """Render graded relevance as a table with a header.

    Args:
        rows: (job id, resume id, grade).

    Returns:
        Tab-separated text.
    """
    return "job_id\tresume_id\tgrade\n" + "".join(f"{job}\t{resume}\t{grade}\n" for job, resume, grade in rows)


class _Writer:
    """Composes texts from facts with one random generator, never using a sentence twice."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.taken: set[str] = set()
        self._phrases = read_phrases()
        self._frequency = Counter(skill.label for entry in read_occupations() for skill in entry.skills)

    def compose_resume(self, occupation: Occupation, seniority: str, *, has_education: bool = True) -> tuple[str, str]:
        """Compose title and text of one resume; redraws until length and freshness are right."""
        family = self._phrases["families"][read_families()[occupation.label][0]]
        is_media = read_families()[occupation.label][0] in {"sound", "video"}
        sectors = self._phrases["sectors"]["media" if is_media else "ict"]
        minimum = _MIN_WORDS if has_education else _MIN_WORDS - 15
        for _ in range(_MAX_ATTEMPTS):
            role = self.random.choice(role_names(occupation))
            text = self._draft(occupation, role, seniority, sectors, family["study"], has_education=has_education)
            sentences = comparable_sentences(text)
            if (
                minimum <= len(text.split()) <= _MAX_WORDS
                and len(text) <= _MAX_CHARACTERS
                and len(set(sentences)) == len(sentences)
                and self.taken.isdisjoint(sentences)
            ):
                self.taken.update(sentences)
                return self._title(role, seniority), text
        raise AssertionError(f"no fresh resume for '{occupation.label}' in {_MAX_ATTEMPTS} attempts: add phrases")

    def compose_anchor(self, occupation: Occupation) -> str:
        """Compose a short posting in the words of ESCO."""
        sentences = re.split(r"(?<=[a-z]\.)\s+(?=[A-Z])", occupation.description)
        labels = [skill.label for skill in occupation.skills if not skill.is_knowledge]
        for _ in range(_MAX_ATTEMPTS):
            chosen = self.random.sample(labels, k=min(len(labels), self.random.choice([3, 4])))
            anchor = fill(
                self.random.choice(self._phrases["triples"]["anchor"]),
                label=occupation.label,
                role=self.random.choice(role_names(occupation)),
                description=" ".join(self.random.sample(sentences[:3], k=min(2, len(sentences)))),
                sector=self.random.choice(self._phrases["sectors"]["ict"]),
                skills=join_words(chosen),
            )
            anchor = re.sub(r"\b([Aa]) (?=[aeio](?!ne)|I[A-Z]|SE)", r"\1n ", anchor)
            anchor = f"{anchor[0].upper()}{anchor[1:]}"
            if 12 <= len(anchor.split()) <= _MAX_WORDS and self.taken.isdisjoint([anchor]):
                self.taken.add(anchor)
                return anchor
        raise AssertionError(f"no fresh posting for '{occupation.label}' in {_MAX_ATTEMPTS} attempts: add patterns")

    def _title(self, role: str, seniority: str) -> str:
        is_manager = bool(_MANAGER_WORDS & set(role.lower().split()))
        patterns = self._phrases["titles_managers" if is_manager else "titles"][seniority]
        title = fill(self.random.choice(patterns), role=role)
        return f"{title[0].upper()}{title[1:]}"

    def _draft(
        self,
        occupation: Occupation,
        role: str,
        seniority: str,
        sectors: list[str],
        study: list[str],
        *,
        has_education: bool,
    ) -> str:
        patterns = self._phrases["resume"]
        clauses = self._sample_weighted([s for s in occupation.skills if clauses_of(s)], _NUM_CLAUSES)
        clauses = (clauses * 2)[:_NUM_CLAUSES]
        topics = self._sample_weighted([s for s in occupation.skills if topics_of(s)], self.random.choice([3, 4, 5]))
        does = [self.random.choice(clauses_of(skill)) for skill in clauses]

        places = self.random.sample(sectors, k=len(sectors))

        def say(pattern: str) -> str:
            first, second = does.pop(), does.pop() if "{did2}" in pattern else ""
            return sentence(
                fill(
                    pattern,
                    role=role,
                    sector=places.pop(),
                    years=self.random.choice(self._phrases["years"][seniority]),
                    team=self.random.choice(["four", "five", "six", "eight", "nine", "twelve"]),
                    does=first,
                    did=past_tense(first),
                    did2=past_tense(second),
                )
            )

        if len(topics) > 1:
            kind, named = "skills", [self.random.choice(topics_of(skill)) for skill in topics]
        else:
            kind, named = "abilities", [does.pop(), does.pop()]
        # One station is enough for those whose skills take many words.
        num_stations = self.random.choice([1, 2, 2])
        sections = {
            "u": say(self.random.choice(patterns["summary"])),
            "k": sentence(fill(self.random.choice(patterns[kind]), topics=join_words(named))),
            "x": " ".join(say(pattern) for pattern in self.random.sample(patterns["experience"], k=num_stations)),
            "e": sentence(
                fill(
                    self.random.choice(patterns["education"]),
                    field=self.random.choice(study),
                    sector=places.pop(),
                )
            ),
        }
        sections["u"] = sections["u"].replace("{field}", self.random.choice(study))
        headings = dict(zip("ukxe", self.random.choice(patterns["headings"]), strict=True))
        order = [part for part in self.random.choice(patterns["orders"]) if has_education or part != "e"]
        glue = self.random.choice([" ", "\n"])
        return glue.join(f"{headings[part]}{sections[part]}" for part in order)

    def _sample_weighted(self, skills: Sequence[Skill], count: int) -> list[Skill]:
        """Draw without replacement; a skill that few occupations share is drawn more often."""
        keyed = [(self.random.random() ** self._frequency[skill.label], skill.label, skill) for skill in skills]
        return [skill for _, _, skill in sorted(keyed, key=lambda entry: (-entry[0], entry[1]))[:count]]


def _num_shared_skills(left: Occupation, right: Occupation) -> int:
    return len({skill.label for skill in left.skills} & {skill.label for skill in right.skills})


def _is_same_work(left: str, right: str) -> bool:
    """Tell two postings that say nearly the same apart from a near miss."""
    words, others = _content_words(left), _content_words(right)
    return len(words & others) > 0.5 * min(len(words), len(others))


def _other_triples(writer: _Writer, excluded: set[str]) -> list[Triple]:
    """Compose triples outside ICT: the first sentence is the posting, the others are in the first person."""
    used = {title for titles in read_phrases()["other_jobs"].values() for title in titles}
    structured = {occupation.uri for occupation in read_occupations()} | excluded
    candidates: list[tuple[FlatOccupation, str, str]] = []
    for title, occupation in sorted(read_flat_occupations().items()):
        sentences = re.split(r"(?<=[a-z]\.)\s+(?=[A-Z])", occupation.description)
        told = [re.sub(r"^They\b", "I", sentence) for sentence in sentences[1:] if sentence.startswith("They ")]
        positive = _swap(re.sub(r"\bI are\b", "I am", " ".join(told)).replace(" their ", " my "))
        if re.search(r"\b(they|them|themselves|I \w+ing|I am specialised|respective field)\b", positive):
            continue
        is_plain = (
            title not in used and occupation.uri not in structured and not _ICT_WORDS.search(occupation.description)
        )
        if (
            is_plain
            and len(told) >= 2
            and 25 <= len(positive.split()) <= _MAX_WORDS
            and len(sentences[0].split()) >= 12
        ):
            candidates.append((occupation, sentences[0], positive))
    chosen = writer.random.sample(candidates, k=_NUM_OTHER_TRIPLES)
    triples = []
    for occupation, posting, positive in chosen:
        words = _content_words(occupation.description)
        near = max(
            (other for other in candidates if not _is_same_work(posting, other[1]) and other[2] != positive),
            key=lambda other: (len(words & _content_words(other[0].description)), other[0].uri),
        )
        triples.append(Triple(anchor=_swap(posting), positive=positive, negative=near[2], occupation=occupation.uri))
    return triples


@cache
def role_names(occupation: Occupation) -> tuple[str, ...]:
    """Names of an occupation for a resume: alternative labels of its own; the preferred label as a last resort."""
    count: Counter[str] = Counter()
    for entry in read_occupations():
        count.update({_swap(name).lower() for name in (entry.label, *entry.alternatives)})
    own = _swap(occupation.label).lower()
    names = []
    for name in dict.fromkeys(_swap(name.strip()) for name in occupation.alternatives):
        is_plural = name.endswith("s") and not name.endswith("ss")
        is_misprint = name in read_phrases()["grammar"]["misprints"]
        if not is_misprint and not is_plural and name.lower() != own and 1 < len(name.split()) < 6 and "  " not in name:
            names.append(name)
    unshared = [name for name in names if count[name.lower()] == 1]
    return tuple(unshared or names or [_swap(occupation.label)])


@cache
def _verbs() -> frozenset[str]:
    verbs = {
        skill.label.split()[0].lower()
        for occupation in read_occupations()
        for skill in occupation.skills
        if not skill.is_knowledge
    }
    grammar = read_phrases()["grammar"]
    return frozenset(verbs | set(grammar["past"]) | set(grammar["extra_verbs"])) - {"have", "3d"}


@cache
def clauses_of(skill: Skill) -> tuple[str, ...]:
    """Base-form verb phrases that express a skill in other words than its label."""
    if skill.is_knowledge:
        return ()
    phrases = []
    for candidate in (skill.description, *skill.alternatives):
        clause = _shorten(_CLAUSE_END.split(candidate, maxsplit=1)[0].strip(" ,."))
        words = clause.split()
        is_same = clause.lower() == skill.label.lower() or (candidate is skill.description and len(words) < 4)
        if not words or is_same or len(words) not in _CLAUSE_WORDS or words[0].lower().strip(",") not in _verbs():
            continue
        if re.search(r"\b(you|your|one's|artist's|the following)\b|[()]|^use of\b", clause):
            continue
        phrases.append(_swap(words[0][0].lower() + clause[1:]))
    # The description is the best source; alternative labels are often near copies of the label, which is the last
    # resort.
    return tuple(dict.fromkeys(phrases[:2])) or (_swap(skill.label),)


def _shorten(clause: str) -> str:
    """Cut a long clause before the last preposition that leaves a whole phrase."""
    words = clause.split()
    if len(words) >= _CLAUSE_WORDS.stop:
        ends = [index for index in range(5, _CLAUSE_WORDS.stop) if words[index] in _PREPOSITIONS]
        clause = " ".join(words[: ends[-1]]) if ends else clause
    while len(clause.split()) > _CLAUSE_WORDS.start and _dangling().search(clause):
        clause = _dangling().sub("", clause).strip(" ,")
    return clause.strip(" ,")


@cache
def _dangling() -> re.Pattern[str]:
    return re.compile(rf"({'|'.join(read_phrases()['grammar']['dangling'])})$")


@cache
def topics_of(skill: Skill) -> tuple[str, ...]:
    """Noun phrases for a list of skills."""
    if not skill.is_knowledge:
        return ()
    names = {re.sub(r"\s*\(.*?\)", "", name).strip() for name in (skill.label, *skill.alternatives)}
    fitting = sorted(
        _swap(name) for name in names if 0 < len(name.split()) <= 5 and name.split()[0].lower() not in _verbs()
    )
    others = tuple(name for name in fitting if name.lower() != _swap(skill.label).lower())
    return others or tuple(fitting)


@cache
def past_tense(clause: str) -> str:
    """Put the leading verbs of a base-form phrase into the past tense; a later second verb phrase is cut off."""
    words = clause.split()
    position, out = 0, []
    while position < len(words):
        bare = words[position].strip(",")
        if bare in {"and", "or", "and/or"} and position + 1 < len(words) and words[position + 1].strip(",") in _verbs():
            out.append("and")
        elif bare in _verbs():
            out.append(words[position].replace(bare, _past_verb(bare)))
        else:
            break
        position += 1
        if (
            not words[position - 1].endswith(",")
            and bare not in {"and", "or", "and/or"}
            and (position >= len(words) or words[position] not in {"and", "or", "and/or"})
        ):
            break
    rest: list[str] = []
    for index, word in enumerate(words[position:], start=position):
        following = words[index + 1].strip(",") if index + 1 < len(words) else ""
        if (word == "and" or word.endswith(",")) and following in _verbs() and rest:
            rest.extend([] if word == "and" else [word.strip(",")])
            break
        rest.append(word)
    past = " ".join([*out, *rest]).strip(" ,")
    is_whole = not _dangling().search(past)
    return past if (len(rest) > 1 and is_whole) or len(words) == len(out) + len(rest) else f"had to {clause}"


def _past_verb(verb: str) -> str:
    irregular: dict[str, str] = read_phrases()["grammar"]["past"]
    if verb in irregular:
        return irregular[verb]
    if verb.endswith("e"):
        return f"{verb}d"
    return f"{verb[:-1]}ied" if re.search(r"[^aeiou]y$", verb) else f"{verb}ed"


@cache
def _swap(text: str) -> str:
    for old, new in read_phrases()["grammar"]["swaps"].items():
        text = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new, text)
    return text


def fill(pattern: str, **values: str) -> str:
    """Put values into the placeholders of a pattern; placeholders without a value stay."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match.group(1), match.group(0)), pattern)


def sentence(text: str) -> str:
    """The text with a capital letter at the front and a full stop."""
    text = " ".join(text.split())
    return f"{text[0].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def join_words(parts: Sequence[str]) -> str:
    """A list in words: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _content_words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z0-9][a-z0-9+#-]*", text.lower()) if len(word) > 3}


if __name__ == "__main__":
    write_samples()

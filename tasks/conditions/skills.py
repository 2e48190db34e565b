"""Skills that a job names, how it means them, and the evidence in a resume: sentences, sections, denials.

Belongs here: which mention counts. Does not belong here: names of skills (``data.sample.esco``), what "required" and
"no" are (``data.conditions.sentences``). Never imports prefect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

from data.conditions.sentences import Passage, SplitDocument, Stance, denies, quote, stance
from data.redaction.placeholders import without_placeholders
from data.schema import DocumentKind
from llm2vec_core.ranking.evidence import SkillFinder

Evidence = Literal["named", "near", "pending", "denied", "missing"]

_NEEDS: tuple[Stance, ...] = ("required", "mentioned", "preferred", "offered", "waived")
"""How a job may mean a skill; the first of several mentions counts."""
_HELD: tuple[Stance, ...] = ("held", "pending", "denied")
_FOUND: Mapping[Stance, Evidence] = {"held": "named", "pending": "pending", "denied": "denied"}


@dataclass(frozen=True)
class SkillEvidence:
    """A skill that the job names, and the evidence for it in the resume.

    Attributes:
        skill: ESCO's label.
        job_names_it: Name of the skill in the job.
        need: How the job means it: ``required``, ``mentioned``, ``preferred``, ``offered``, or ``waived`` ("not
            needed").
        found: ``named``: the resume names the skill. ``pending``: as something begun or expected. ``denied``: only to
            say that the person lacks it ("no experience with SAP"). ``near``: a sentence is closer to the label than
            the resume is to nearly all random skills. ``missing``: none of these.
        evidence: Name of the skill in the resume, or the resume's nearest sentence.
        cosine: Cosine of the label and the nearest sentence; None if the skill is named.
        sentence: Sentence of the resume that shows it; empty if it is missing.
        section: Kind of section of that sentence, by the last heading; ``other`` without a known one.
    """

    skill: str
    job_names_it: str
    need: Stance
    found: Evidence
    evidence: str
    cosine: float | None
    sentence: str
    section: str


def split_document(kind: DocumentKind, title: str | None, text: str) -> SplitDocument:
    """A document as evidence is read from it: without placeholders."""
    return SplitDocument(kind, without_placeholders(title or ""), without_placeholders(text), {})


def skill_evidence(
    finder: SkillFinder,
    named: Mapping[str, str],
    job: SplitDocument,
    resume: SplitDocument,
    *,
    in_resume: Mapping[str, str],
    sentences: Sequence[str],
    cosines: Mapping[str, Float32[np.ndarray, " sentences"]],
    threshold: float,
) -> list[SkillEvidence]:
    """Evidence for each skill that a job names, in the order of the skills.

    Args:
        finder: Finds skills by name.
        named: Skills that the job names, with the name in the job.
        job: The job.
        resume: The resume.
        in_resume: Skills that the resume names, likewise.
        sentences: Sentences of the resume that are compared.
        cosines: Cosines of the label of each other skill with these sentences.
        threshold: Cosine above which a sentence is near.
    """
    asked, held = _stances(finder, job, _NEEDS), _stances(finder, resume, _HELD)
    is_denial = np.array([denies(sentence) for sentence in sentences], np.bool_)
    found = []
    for skill, name in named.items():
        need = asked[skill][0] if skill in asked else "mentioned"
        if skill in in_resume:
            mention = held.get(skill)  # none if the name goes over the border of two sentences
            shown = ("", "other") if mention is None else (quote(mention[1], *mention[2]), mention[1].section)
            verdict = "named" if mention is None else _FOUND[mention[0]]
            found.append(SkillEvidence(skill, name, need, verdict, in_resume[skill], None, *shown))
            continue
        # A sentence such as "no experience with ERP systems" is no evidence for a skill near it.
        nearest = int(np.where(is_denial, -np.inf, cosines[skill]).argmax())
        cosine = float(cosines[skill][nearest])
        is_near = cosine > threshold and not is_denial[nearest]
        shown = (sentences[nearest], _section(resume, sentences[nearest])) if is_near else ("", "other")
        found.append(
            SkillEvidence(skill, name, need, "near" if is_near else "missing", sentences[nearest], cosine, *shown)
        )
    return found


def requirements(skills: Sequence[SkillEvidence]) -> dict[str, list[str]] | None:
    """Labels of the required or mentioned skills: met, partly met (near, or pending) and missing.

    None if the job names no such skill: then nothing can be said, which is not "nothing is met".
    """
    asked = [each for each in skills if each.need in ("required", "mentioned")]
    if not asked:
        return None
    parts = {"met": ("named",), "partly_met": ("near", "pending"), "missing": ("missing", "denied")}
    return {part: [each.skill for each in asked if each.found in found] for part, found in parts.items()}


def requirements_sentence(found: Mapping[str, list[str]] | None) -> str:
    """One sentence about :func:`requirements`."""
    if found is None:
        return (
            "No requirement was found: the job names no skill that is known, so nothing can be said about missing ones."
        )
    counts = {part: len(labels) for part, labels in found.items()}
    parts = [f"{counts['met']} of {sum(counts.values())} skills that the job asks for are named"]
    parts += [f"partly met: {', '.join(found['partly_met'])}"] if found["partly_met"] else []
    parts += [f"missing: {', '.join(found['missing'])}"] if found["missing"] else []
    return "; ".join(parts) + "."


_Mention = tuple[Stance, Passage, tuple[int, int]]


def _stances(finder: SkillFinder, document: SplitDocument, order: Sequence[Stance]) -> dict[str, _Mention]:
    """For each skill of a document the mention whose stance comes first in an order."""
    best: dict[str, _Mention] = {}
    for passage in document.sentences:
        for label, name in finder.find(passage.text).items():
            words = r"[\s-]+".join(map(re.escape, re.split(r"[\s-]+", name)))
            match = re.search(rf"(?<!\w){words}(?!\w)", passage.text, re.IGNORECASE)
            at = match.span() if match else (0, len(passage.text))
            meant = stance(document.kind, passage, *at)
            if label not in best or order.index(meant) < order.index(best[label][0]):
                best[label] = (meant, passage, at)
    return best


def _section(document: SplitDocument, sentence: str) -> str:
    """Section of a sentence that was split in another way."""
    plain = " ".join(sentence.split())
    for passage in document.sentences:
        text = " ".join(passage.text.split())
        if text and (text in plain or plain in text):
            return passage.section
    return "other"

"""Evidence for skills: denials, sections, what is required, and jobs that ask for nothing."""

import numpy as np
import pytest

from data.conditions.sentences import denies
from data.schema import encoded_text
from llm2vec_core.ranking.evidence import SkillFinder
from tasks.conditions.skills import requirements, requirements_sentence, skill_evidence, split_document

FINDER = SkillFinder({"SAP": [], "Java": [], "SQL": [], "Haskell": [], "nursing": ["patient care"], "name": []})


def evidence(job, resume, *, cosine=0.0, title=""):
    named, in_resume = FINDER.find(job), FINDER.find(encoded_text("", resume))
    sentences = [line for line in encoded_text("", resume).splitlines() if line.strip()]
    found = skill_evidence(
        FINDER,
        named,
        split_document("job", title, job),
        split_document("resume", "", resume),
        in_resume=in_resume,
        sentences=sentences,
        cosines={skill: np.full(len(sentences), cosine, np.float32) for skill in named if skill not in in_resume},
        threshold=0.5,
    )
    return {each.skill: each for each in found}


@pytest.mark.parametrize(
    ("resume", "found"),
    [
        ("I use SAP daily.", "named"),
        ("No experience with SAP.", "denied"),
        ("Keine Erfahrung mit SAP.", "denied"),
        ("No experience with SAP.\nLater I used SAP for two years.", "named"),
        ("Currently pursuing SAP.", "pending"),
        ("Not only SAP, also Java.", "named"),
        ("SAPling grower", "missing"),
        ("Contact: [NAME_1]", "missing"),
    ],
)
def test_a_denied_skill_is_no_skill_and_a_part_of_a_word_is_none(resume, found):
    assert evidence("SAP required.", resume)["SAP"].found == found


def test_placeholders_never_match():
    assert evidence("A good name required.", "[NAME_1] works")["name"].found == "missing"


def test_evidence_is_a_sentence_with_its_section():
    found = evidence("SQL and Haskell required.", "Work Experience\nBuilt reports with SQL.\nEducation\nHaskell course")
    assert (found["SQL"].sentence, found["SQL"].section) == ("Built reports with SQL", "experience")
    assert (found["Haskell"].sentence, found["Haskell"].section) == ("Haskell course", "education")
    (near,) = evidence("Java", "Skills\nObject-oriented programs.", cosine=0.9).values()
    assert (near.found, near.sentence, near.section) == ("near", "Skills", "other")


def test_a_sentence_that_denies_is_not_near():
    found = evidence("Java required.", "I have no programming experience.", cosine=0.9)["Java"]
    assert (found.found, found.sentence) == ("missing", "")
    assert denies("ohne Erfahrung") and not denies("not only this")


def test_missing_partly_met_and_no_requirement_are_three_things():
    found = evidence("SQL, SAP and Java required.", "I use SQL.\nNo experience with SAP.", cosine=0.9)
    parts = requirements(list(found.values()))
    assert parts == {"met": ["SQL"], "partly_met": ["Java"], "missing": ["SAP"]}
    assert requirements_sentence(parts) == (
        "1 of 3 skills that the job asks for are named; partly met: Java; missing: SAP."
    )
    nothing = requirements(list(evidence("We are a friendly team.", "I use SQL.").values()))
    assert nothing is None and requirements_sentence(nothing).startswith("No requirement was found")


def test_what_a_job_does_not_need_is_not_missing():
    found = evidence("SQL required. Java is not required. Haskell preferred.", "Typing.")
    assert {each.skill: each.need for each in found.values()} == {
        "SQL": "required", "Java": "waived", "Haskell": "preferred",
    }  # fmt: skip
    assert requirements(list(found.values())) == {"met": [], "partly_met": [], "missing": ["SQL"]}

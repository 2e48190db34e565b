"""Conditions on written pairs: pass, unknown, fail, or nothing asked.

The labels were written with the code in view: they hold what it promises, and are no estimate of its accuracy.
"""

import re
from datetime import date
from pathlib import Path

import pytest

from data.conditions.check import check_pair, checks_of, facts_from_json, facts_to_json, read_facts
from data.conditions.places import Coordinates, Places
from data.conditions.sentences import SplitDocument
from data.conditions.statement import CONDITION_NAMES, worst

TODAY = date(2026, 3, 15)
PAIRS = Path(__file__).with_name("pairs.psv")
PLACES = Places(
    {
        "leeds": [("GB", Coordinates(53.80, -1.55))],
        "bradford": [("GB", Coordinates(53.79, -1.75))],
        "london": [("GB", Coordinates(51.51, -0.13))],
        "berlin": [("DE", Coordinates(52.52, 13.40))],
        "hamburg": [("DE", Coordinates(53.55, 9.99))],
        "cambridge": [("GB", Coordinates(52.21, 0.12)), ("US", Coordinates(42.37, -71.11))],
    }
)
TYPES = {"remote": lambda value: value == "true", "salary_min": float, "salary_max": float}


def side(kind, text):
    """Facts of ``[title] {facet=value; facet=value} text``."""
    title, facets, body = re.fullmatch(r"(?:\[(.*?)\] )?(?:\{(.*?)\} )?(.*)", text).groups()
    given = dict(pair.split("=", 1) for pair in re.split(r"; (?=\w+=)", facets)) if facets else {}
    values = {name: TYPES.get(name, str)(value) for name, value in given.items()}
    return read_facts(kind, title or "", body.replace("\\n", "\n"), values, CONDITION_NAMES)


def rows():
    lines = [line for line in PAIRS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [tuple(line.split("|")) for line in lines]


def outcome(condition, job, resume):
    checks = checks_of([condition], day=TODAY, places=PLACES, radius_km=50)
    facts = side("job", job), side("resume", resume)
    verdicts = check_pair(*facts, checks)
    stored = [facts_from_json(facts_to_json(each)) for each in facts]
    assert list(stored) == list(facts), "facts survive being stored"
    (check,) = checks
    assert verdicts == check.of_pair(*facts), "the side that is said to ask does"
    assert all(verdict.asked for verdict in verdicts), "each verdict says what was asked"
    assert all(verdict.found for verdict in verdicts if verdict.outcome != "unknown"), "and what it was read from"
    return worst(verdict.outcome for verdict in verdicts) or "none"


@pytest.mark.parametrize("condition", CONDITION_NAMES)
def test_written_pairs_get_their_label(condition):
    wrong = [
        (expected, found, job, resume)
        for name, expected, job, resume in rows()
        if name == condition and (found := outcome(name, job, resume)) != expected
    ]
    assert wrong == []


def test_there_are_enough_pairs_of_each_label():
    found = rows()
    assert len(found) == len(set(found)) >= 470
    assert {name for name, *_ in found} == {*CONDITION_NAMES}
    counts = {label: sum(row[1] == label for row in found) for label in ("pass", "unknown", "fail", "none")}
    assert min(counts.values()) >= 50, counts


def test_a_text_without_sentences_is_read_in_parts():
    text = "German required, English preferred, RN licence, 5 years of experience " * 1000
    document = SplitDocument("job", "", text, {})
    assert max(len(passage.text) for passage in document.sentences) <= 600
    assert " ".join(passage.text for passage in document.sentences) == text.strip()
    assert side("job", text.strip()).keys() >= {"languages", "licences", "years"}


@pytest.mark.parametrize("text", ["", "\n\n", "....", "§ 34a", "(((", "\0", "5 " * 500, "no " * 500])
def test_any_text_can_be_read(text):
    for kind in ("job", "resume"):
        check_pair(read_facts(kind, text, text, {}, CONDITION_NAMES), {}, checks_of(CONDITION_NAMES, day=TODAY))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("{changed_month=2015-03} ", "(2.2 years by dates, up to 2015-03, when the resume was last changed)"),
        ("", "(13.2 years by dates, up to today)"),
    ],
)
def test_the_evidence_says_until_when_an_employment_is_counted(changed, said):
    resume = side("resume", f"{changed}Experience\\n01/2013 - present Clerk")
    job = side("job", "At least 5 years of experience required.")
    (verdict,) = check_pair(job, resume, checks_of(["years"], day=TODAY))
    assert verdict.found.endswith(said)
    ended = side("resume", f"{changed}Experience\\n01/2003 - 12/2009 Clerk")
    (verdict,) = check_pair(job, ended, checks_of(["years"], day=TODAY))
    assert verdict.found.endswith("(7.0 years by dates)")

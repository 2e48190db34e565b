"""The lists of the fairness audit: groups of equal size, and names that redaction recognises."""

import pytest

from data.config import RedactConfig
from data.redaction.fairness_lines import fairness_lines
from data.redaction.names import name_groups, name_lists
from data.redaction.redact import Redactor

RESUME = "I ran the cloud platform of a bank for six years.\nSkills: C#, Kubernetes, T-SQL"


def test_every_name_of_the_audit_is_redacted_to_the_same_text():
    redactor = Redactor(RedactConfig(), "resume")
    lines = {line for lines in fairness_lines()["name"].values() for line in lines}
    assert len(lines) > 100
    assert {redactor.redact_text(f"{line}\n{RESUME}") for line in lines} == {f"[NAME_1]\n{RESUME}"}


@pytest.mark.parametrize("attribute", fairness_lines())
def test_groups_of_an_attribute_are_of_equal_size(attribute):
    groups = fairness_lines()[attribute]
    assert len(groups) >= 3
    assert len({len(lines) for lines in groups.values()}) == 1


def test_groups_of_names_do_not_overlap():
    names = [first for group in name_groups().values() for first in (*group.female, *group.male)]
    assert len(names) == len(set(names))


def test_ambiguous_names_are_names():
    assert name_lists().ambiguous <= name_lists().first

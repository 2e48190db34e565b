"""Nightly runs still work after maintenance removed everything it may: it never removes needed data."""

import json

import pytest

from flows.cli import run
from flows.nightly import nightly

pytestmark = [pytest.mark.slow, pytest.mark.ci]


def changed_night(night, word):
    """A night after one resume changed."""
    rows = night.read(night.resumes)
    rows["r5"]["text"] = f"I was a chef and cooked {word} for many guests every single evening."
    night.write(night.resumes, rows)
    return nightly(night.request)


def command(night, *words):
    return run([*words, "--json", "--profile", "tiny", "--config", str(night.config)])


def maintained(night):
    return command(night, "maintain", "--set", "retention.keep_served=1", "--set", "retention.grace_hours=0")


def doc_ids(night, capsys):
    """Ids of the resumes by the ids of their source."""
    capsys.readouterr()
    assert command(night, "search", "I was", "--in", "resumes", "--mode", "dense") == 0
    return {hit["source_id"]: hit["doc_id"] for hit in json.loads(capsys.readouterr().out)["hits"]}


@pytest.mark.parametrize("before", ["two erasures", "training on newer snapshots"])
def test_maintenance_leaves_what_later_nights_need(served_night, capsys, before):
    if before == "two erasures":
        known = doc_ids(served_night, capsys)
        assert command(served_night, "erase", "--doc-id", known["r0"]) == 0
        capsys.readouterr()
        assert command(served_night, "erase", "--doc-id", known["r1"]) == 0
        erased = json.loads(capsys.readouterr().out)
        assert erased["trained_checkpoints"], "the second erasure also finds what was trained before the first one"
    else:
        changed_night(served_night, "soup")
        assert command(served_night, "train") == 0  # moves the recipe's pin, away from the snapshots of the served one
    for word in ("fish", "bread"):
        changed_night(served_night, word)
        assert maintained(served_night) == 0
    assert changed_night(served_night, "cake").embedded.encoded_documents == 1

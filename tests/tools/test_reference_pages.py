"""The reference pages match the code."""

import re
from pathlib import Path
from typing import get_args

import pytest

from flows.profiles import Profile
from tools.reference_pages import pages

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_reference_is_up_to_date(name):
    """When this fails: python -m tools.reference_pages docs/reference."""
    assert (FOLDER / name).read_text() == pages()[name]


def test_every_key_and_option_has_a_meaning():
    for page in pages().values():
        rows = [line for line in page.splitlines() if line.startswith("| `")]
        assert len(rows) > 30
        assert [row for row in rows if row.endswith("|  |")] == []


def test_values_are_written_as_the_command_line_takes_them():
    commands, settings = (pages()[name] for name in ("commands.md", "configuration.md"))
    assert "| `--set` | `KEY=VALUE` |" in commands
    assert "| `--wait` | `SECONDS` |" in commands
    assert "| `--onnx`, `--no-onnx` | bool |" in commands
    assert "| `--to` | Path | (required) |" in commands
    arguments = commands.split("| argument | value | default | meaning |")[1:]
    assert [each.split("`")[1] for each in arguments] == ["generation", "job", "directory", "text"]
    assert "schema.org-jobposting" in settings
    assert not [name for name in ("Optional[", "Literal[", "Union[", "typing.") if name in commands + settings]


def test_meanings_are_sentences():
    for row in (line for page in pages().values() for line in page.splitlines() if line.startswith("| `")):
        meaning = row.removesuffix(" |").rpartition(" | ")[2]
        assert re.fullmatch(r"[A-Z'`].*[.]|doc_id.*[.]", meaning), row


def test_the_order_of_the_layers_names_every_profile():
    head = pages()["configuration.md"].partition("## Top level")[0]
    assert [f"`{name}`" for name in get_args(Profile) if f"`{name}`" not in head] == []

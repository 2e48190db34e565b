"""The reference pages say what the code does."""

from pathlib import Path

import pytest

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

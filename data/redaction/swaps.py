"""What the fairness audit puts on resumes: the repository's lists, as attribute, group and lines.

Does not belong here: writing and judging the versions (``llm2vec_core.evaluation.fairness``).
"""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

from data.redaction.names import name_groups

_SWAPS_FILE = Path(__file__).parent / "swaps.toml"


@functools.cache
def swap_lists() -> dict[str, dict[str, tuple[str, ...]]]:
    """Attribute to groups to the lines of a resume's head; the last attribute is the neutral edits."""
    found = tomllib.loads(_SWAPS_FILE.read_text(encoding="utf-8"))
    names = {
        f"{label}, {gender}": tuple(
            f"{first} {group.surnames[number % len(group.surnames)]}"
            for number, first in enumerate(getattr(group, gender))
        )
        for label, group in name_groups().items()
        for gender in ("female", "male")
    }
    return {
        "name": names,
        "school": {
            label: tuple(f"Education: {school}" for school in schools) for label, schools in found["schools"].items()
        },
        "graduation year": {
            label: tuple(f"Graduated in {year}" for year in years) for label, years in found["graduation_years"].items()
        },
        "neutral edit": {label: tuple(lines) for label, lines in found["neutral_edits"].items()},
    }

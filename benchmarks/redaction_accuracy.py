"""Precision and recall of redaction by type, on 4,000 generated cases in twelve languages.

``python -m benchmarks.redaction_accuracy [--quick]``: 4,000 cases, or 800. Half are English texts in eight formats,
half are resumes in twelve languages and six layouts. Every case lists its personal data and holds text that must stay.
The cases were written for the recognisers: the figures show whether supported forms are missed, and say little about
real resumes.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.redaction_cases import Case, make_cases
from benchmarks.redaction_languages import make_language_cases, negative_texts
from data.config import RedactConfig
from data.redaction.placeholders import PII_TYPES
from data.redaction.redact import Redactor


def measure(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Precision and recall of each type, and the share of kept decoys."""
    redactor = Redactor(RedactConfig(), "resume")
    found: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    replaced: Counter[str] = Counter()
    right: Counter[str] = Counter()
    decoys = kept = 0
    for case in cases:
        redacted = redactor.redact("", case.text, {})
        for type_, value in case.personal:
            wanted[type_] += 1
            found[type_] += value not in redacted.text
        for placeholder, value in redacted.replaced.items():
            type_name = placeholder[1:].rsplit("_", 1)[0].lower()
            replaced[type_name] += 1
            right[type_name] += any(value in known or known in value for _, known in case.personal)
        decoys += len(case.decoys)
        kept += sum(decoy in redacted.text for decoy in case.decoys)
    figures = {
        name: {
            "recall": found[name] / max(wanted[name], 1),
            "precision": right[name] / max(replaced[name], 1),
            "cases": wanted[name],
        }
        for name in PII_TYPES
    }
    return {**figures, "decoys": {"kept": kept / max(decoys, 1), "cases": decoys}}


def changed_sentences() -> list[str]:
    """Sentences without personal data that redaction changes, out of all languages."""
    redactor = Redactor(RedactConfig(), "resume")
    return [text for texts in negative_texts().values() for text in texts if redactor.redact_text(text) != text]


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="800 cases instead of 4,000")
    half = 400 if parser.parse_args().quick else 2000
    cases = [*make_cases(half), *make_language_cases(half)]
    started = time.perf_counter()
    figures = measure(cases)
    seconds = time.perf_counter() - started
    for name, values in figures.items():
        print(name, {key: round(value, 4) for key, value in values.items()})
    chars = sum(len(case.text) for case in cases)
    more = {"changed_sentences": len(changed_sentences()), "chars_per_s": round(chars / seconds)}
    print(json.dumps({**figures, **more, "machine": platform.machine()}))


if __name__ == "__main__":
    main()

"""Copy the outcomes of fixed encoders on bundled tasks from a home into the sample.

Run it on the home of a demo night after a change of a bundled task, of the scoring or of mteb. Seconds are left out,
because they belong to the machine that scored.

    python -m tools.reference_outcomes HOME [--into data/sample/files/outcomes]
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from data.sample.eval_tasks import SAMPLE_TASKS
from data.sample.outcomes import OUTCOMES_DIR

FIXED = ("base, before training", "all-minilm-l6-v2", "Uni, w. mean")
"""Words in the names of systems that are the same in every demo night; fusions of them are cheap."""


def main() -> None:
    """Copy and print what was copied."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path, help="home of a demo night")
    parser.add_argument(
        "--into", type=Path, default=OUTCOMES_DIR, help="folder to write to; those of other encoders are removed"
    )
    options = parser.parse_args()
    fixed = fixed_systems(options.home)
    for folder in options.into.glob("*/"):
        if folder.name not in fixed:  # a night takes the outcomes of the others from here
            shutil.rmtree(folder)
    for fingerprint in sorted(fixed):
        for source in sorted((options.home / "evaluations" / fingerprint).glob("*.json")):
            record = json.loads(source.read_text())
            if record.get("task") in SAMPLE_TASKS:
                copy_outcome(source, record, options.into / fingerprint)
                print(f"{fingerprint[:12]} {record['task']}: {record['main_score']:.2f}")


def fixed_systems(home: Path) -> set[str]:
    """Fingerprints of the fixed systems in the reports of a home."""
    reports = (json.loads(path.read_text()) for path in home.glob("reports/*/report.json"))
    return {
        score["system_fingerprint"]
        for report in reports
        for system in report["systems"]
        if any(name in system["name"] for name in FIXED) and "hybrid" not in system["name"]
        for score in system["scores"]
    }


def copy_outcome(source: Path, record: dict[str, object], target: Path) -> None:
    """Copy the files of one outcome: its arrays and mteb's result as they are, its record without seconds."""
    target.mkdir(parents=True, exist_ok=True)
    (target / source.name).write_text(json.dumps({**record, "seconds": 0.0, "encode_seconds": 0.0}) + "\n")
    for suffix in (".npz", ".mteb.json"):
        beside = source.with_name(f"{source.stem}{suffix}")
        if beside.is_file():
            shutil.copyfile(beside, target / beside.name)


if __name__ == "__main__":
    main()

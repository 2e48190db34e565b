"""Look up known vulnerabilities of the locked packages; without a network, in the findings of the last look.

python -m tools.audit uv tool run pip-audit

Exit codes: 0 none is known; 1 some are; 2 there is no network, and the stored findings are too old or do not cover
every locked version.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
FINDINGS = ROOT / "tools" / "advisories.json"
MAX_AGE_DAYS = 90
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def main(auditor: list[str], *, today: date, findings: Path = FINDINGS, lock: Path = LOCK) -> int:
    """Audit, print what is known, and return the exit code.

    Args:
        auditor: Command that runs pip-audit.
        today: Date to store with new findings.
        findings: Stored findings: the date, and the vulnerabilities of each package version.
        lock: The locked packages.
    """
    found = look_up(auditor, lock)
    if found is not None:
        record = {"made_on": today.isoformat(), "packages": found}
        findings.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return report(found)
    stored = json.loads(findings.read_text(encoding="utf-8"))
    if stored["made_on"] is None:
        print("There is no network, and no findings were stored yet: nothing is known about the locked packages.")
        return 2
    age = (today - date.fromisoformat(stored["made_on"])).days
    locked = [f"{name.lower()}=={version}" for name, version in _LOCKED.findall(lock.read_text(encoding="utf-8"))]
    uncovered = [each for each in locked if each not in stored["packages"]]
    print(f"There is no network. These are findings of {stored['made_on']}, {age} days ago.")
    if uncovered:
        print(f"They do not cover {len(uncovered)} of {len(locked)} locked packages: {', '.join(uncovered[:10])}.")
    code = report({name: stored["packages"][name] for name in locked if name in stored["packages"]})
    return code or (2 if uncovered or age > MAX_AGE_DAYS else 0)


def look_up(auditor: list[str], lock: Path) -> dict[str, list[dict[str, Any]]] | None:
    """Known vulnerabilities of each locked package version; None if no service answers."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "audit.json"
        options = ["--requirement", str(lock), "--require-hashes", "--disable-pip", "--format", "json"]
        done = subprocess.run(
            [*auditor, *options, "--output", str(output)], capture_output=True, text=True, check=False
        )
        if not output.is_file() or not output.stat().st_size:
            print(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "The auditor printed nothing.")
            return None
        listed = json.loads(output.read_text(encoding="utf-8"))["dependencies"]
    return {
        f"{each['name'].lower()}=={each['version']}": [
            {"id": fault["id"], "fixed_in": fault["fix_versions"]} for fault in each["vulns"]
        ]
        for each in listed
        if "version" in each
    }


def report(packages: dict[str, list[dict[str, Any]]]) -> int:
    """Print vulnerabilities; return 1 if there are any."""
    faulty = {name: faults for name, faults in packages.items() if faults}
    for name, faults in sorted(faulty.items()):
        for fault in faults:
            print(f"{name}: {fault['id']}, fixed in {', '.join(fault['fixed_in']) or 'no version yet'}")
    print(f"{len(packages)} packages: {len(faulty)} with known vulnerabilities.")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], today=datetime.now(UTC).date()))

"""The audit of dependencies: what it finds is stored, and is used where there is no network."""

import json
import sys
from datetime import date

import pytest

from tools.audit import main

TODAY = date(2026, 11, 30)
FOUND = {
    "dependencies": [
        {"name": "Pillow", "version": "9.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["9.1"], "aliases": []}]},
        {"name": "numpy", "version": "2.0", "vulns": []},
        {"name": "left-out", "skip_reason": "unknown"},
    ],
    "fixes": [],
}


@pytest.fixture
def audit(tmp_path):
    """Run an audit with an auditor that writes ``found``, or fails if that is None; returns the exit code."""
    (tmp_path / "lock").write_text("pillow==9.0 \\\n    --hash=sha256:00\nnumpy==2.0 ; python_version > '3'\n")
    (tmp_path / "advisories.json").write_text('{"made_on": null, "packages": {}}')
    auditor = tmp_path / "auditor.py"

    def run(found, today=TODAY):
        wrote = "" if found is None else f"open(sys.argv[-1], 'w').write({json.dumps(found)!r})\n"
        auditor.write_text(f"import sys\n{wrote}sys.stderr.write('no route to host\\n')\nsys.exit(1)\n")
        command = [sys.executable, str(auditor)]
        return main(command, today=today, findings=tmp_path / "advisories.json", lock=tmp_path / "lock")

    run.lock = tmp_path / "lock"
    return run


def test_findings_are_stored_and_used_without_a_network(audit, capsys):
    assert audit(None) == 2
    assert "no findings were stored yet" in capsys.readouterr().out
    assert audit(FOUND) == 1
    assert "pillow==9.0: PYSEC-1, fixed in 9.1" in capsys.readouterr().out
    assert audit(None) == 1
    out = capsys.readouterr().out
    assert "There is no network. These are findings of 2026-11-30, 0 days ago." in out
    assert "PYSEC-1" in out


def test_findings_that_are_old_or_not_of_these_versions_are_no_good_news(audit, capsys):
    clean = {"dependencies": [{**each, "vulns": []} for each in FOUND["dependencies"] if "version" in each]}
    assert audit(clean) == 0
    assert audit(None) == 0
    assert audit(None, today=date(2027, 6, 1)) == 2
    audit.lock.write_text(audit.lock.read_text().replace("numpy==2.0", "numpy==2.1"))
    assert audit(None) == 2
    assert "do not cover 1 of 2 locked packages: numpy==2.1" in capsys.readouterr().out

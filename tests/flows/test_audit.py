"""The fairness audit at the end of a real nightly run."""

import json

import pytest

from flows.nightly import nightly, render_night
from flows.request import RunRequest
from tasks.stages import audit

pytestmark = pytest.mark.slow


def test_a_night_ends_with_the_audit_of_what_it_serves(served_night, monkeypatch):
    monkeypatch.setattr(audit, "JOBS", 4)
    monkeypatch.setattr(audit, "TOP_K", 1)
    overrides = {"audit.enabled": True, "audit.resumes": 3}
    request = RunRequest(profile="tiny", config=str(served_night.config), overrides=overrides)
    report = nightly(request)
    assert report.audited is not None
    assert report.audited.encoded > 0
    assert "## Fairness audit" in render_night(report)
    (path,) = served_night.home.glob("audits/*/audit.json")
    audits = json.loads(path.read_text())
    name = {way: found["attributes"][0] for way, found in audits.items()}
    assert {each["attribute"] for each in name.values()} == {"name"}
    assert name["as stored"]["displacement"] == 0.0  # redacted: exactly the same vectors
    assert name["without redaction"]["displacement"] > 0.0
    assert name["as stored"]["overlap"] == 1.0 >= name["without redaction"]["overlap"] > 0
    for ending in ("html", "md"):
        statement = path.with_name(f"statement.{ending}").read_text()
        assert "Fairness statement" in statement and "What this does not show" in statement
    assert nightly(request).audited.encoded == 0  # nothing new is served, nothing is encoded again

"""Secrets in an operator's environment do not appear in stored data, logs or output of a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.erasure.scan import Needles, scan_tree
from tests.flows.conftest import JOBS, SmallNight

ROOT = Path(__file__).parents[2]

ENVIRONMENT = {
    "OPENLINEAGE_API_KEY": "planted-lineage-key-71f3",
    "PREFECT_API_KEY": "planted-prefect-key-71f3",
    "HF_TOKEN": "planted-hub-token-71f3",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+key-71f3",
    "LLM2VEC_WEBHOOK": "https://hooks.example/planted-webhook-71f3",
}
PASSWORD = "planted-password-71f3"
PATH_TOKEN = "planted-path-token-71f3"

COMMANDS = """
import sys
from flows.cli import run
config, endpoint = sys.argv[1:]
own = ["--profile", "tiny", "--config", config]
for arguments, expected in [
    (["nightly", *own], 0),
    (["nightly", *own, "--set", "sources.jobs.path=gone.csv"], 2),
    (["nightly", *own, "--set", f"lineage.endpoint=http://me:PASSWORD@{endpoint}"], 2),
    (["ingest", "--kind", "job", "--source", "s3://key:PASSWORD@bucket/jobs.csv", *own], 2),
    (["automations", *own], 2),
    (["status", *own], 0),
    (["config", *own], 0),
    (["doctor", *own, "--report", "report.md"], 0),
]:
    assert run(arguments) == expected, arguments
""".replace("PASSWORD", PASSWORD)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_planted_secrets_are_found_nowhere(tmp_path, tiny_base, receiver):
    night = SmallNight(tmp_path, tiny_base)
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "LLM2VEC_DEBUG": "1",  # as talkative as can be
        "L2V_LINEAGE__ENDPOINT": f"{receiver.url}/{PATH_TOKEN}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    environment.pop("PREFECT_API_URL", None)
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(night.config), receiver.url.removeprefix("http://")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (night.home / "said.txt").write_text(done.stdout + done.stderr)

    secrets = [*ENVIRONMENT.values(), PASSWORD, PATH_TOKEN]
    scanned = scan_tree(night.home, Needles({secret.encode(): secret for secret in secrets}))
    assert scanned.findings == []
    assert len(receiver.received) > 10, "the run used what it was given"

    # The scan would have found them: what is no secret, it finds in the very places where they could be.
    _, description = JOBS[0]
    known = {description: "description", "embed 20": "name of a run", str(night.base_model): "setting"}
    found = scan_tree(night.home, Needles({text.encode(): what for text, what in known.items()})).findings
    places = {(finding.path.split("/")[0], finding.what) for finding in found}
    assert {("snapshots", "description"), ("prefect", "name of a run"), ("checkpoints", "setting")} <= places

"""The tutorial, followed exactly except for the base model."""

import json
import re
from pathlib import Path

import pytest

from flows.cli import run

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()


def blocks(language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [content for found, content in fenced if found == language]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_leads_to_ranked_resumes(tmp_path, monkeypatch, capsys, tiny_base, prefect_server):
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    for name, content in zip(("postings.csv", "cvs.csv"), blocks("csv"), strict=True):
        Path(name).write_text(content)
    Path("l2v.toml").write_text(blocks("toml")[0])
    tiny = ["--profile", "tiny", "--set", f"train.base_model={tiny_base}"]
    commands = [line for block in blocks("") for line in block.splitlines() if line.startswith("l2v ")]
    assert commands[0] == "l2v nightly"
    assert run(["nightly", *tiny, "--json"]) == 0
    night = json.loads(capsys.readouterr().out)
    assert night["stages"]["match"]["rows"] == 18
    assert night["training_steps"] == 0, "of six texts nothing is learned"
    assert commands[1].startswith('l2v search "keeps cloud platforms running" --in resumes')
    assert run(["search", "keeps cloud platforms running", "--in", "resumes", "--explain", *tiny]) == 0
    with duckdb.connect() as connection:
        ranked = connection.execute(blocks("sql")[0]).fetchall()
    assert {title for title, _, _ in ranked} == {"Cloud engineer", "Staff nurse", "Data analyst"}
    assert [rank for *_, rank in ranked] == [1, 2, 3] * 3

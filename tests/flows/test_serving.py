"""The page about serving: its command creates the directory, and its programs return the encoder's vectors."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from flows.cli import run

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter's own code
def test_the_programs_of_the_page_give_the_vectors_of_the_encoder(tmp_path, monkeypatch, capfd, tiny_base):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    name = f"{tiny_base}+bidirectional+mean"
    assert "l2v convert --to served " in PAGE
    assert run(["convert", "--to", "served", "--checkpoint", name, "--set", "train.max_tokens=64", "--json"]) == 0
    made = json.loads(capfd.readouterr().out)  # one object, whatever the exporter says
    proven = [proof["runtime"] for proof in made["proofs"] if proof["status"] == "proven"]
    assert proven == ["sentence-transformers", "onnxruntime"]

    from llm2vec_core.encoding.encoder import Encoder

    expected = Encoder.load(Path("served")).encode(["AWS and GCP", "cloud"])
    for program, count in zip(PROGRAMS, (1, 2), strict=True):
        names: dict = {}
        exec(program, names)
        np.testing.assert_allclose(names["vectors"], expected[:count], atol=1e-5)


def test_a_directory_that_exists_is_the_caller_s_mistake(tmp_path, monkeypatch, capsys, tiny_base):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "served").mkdir()
    arguments = ["convert", "--to", "served", "--checkpoint", str(tiny_base), "--no-onnx", "--json"]
    assert run(arguments) == 2
    assert "exists already" in json.loads(capsys.readouterr().out)["error"]

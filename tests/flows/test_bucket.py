"""A home in a bucket: nightly runs, and read-only commands, also from another machine."""

import json
from pathlib import Path

import pytest

from data.erasure.scan import Needles, scan_store
from data.store.open import open_store
from data.vectors.pointer import read_pointer
from flows.cli import run
from flows.nightly import nightly

pytestmark = pytest.mark.slow


def test_nights_in_a_bucket_and_what_another_machine_sees(small_night, bucket, tmp_path, capsys, monkeypatch):
    home, work_dir = f"s3://{bucket}/home", tmp_path / "work"
    request = small_night.request.model_copy(update={"overrides": {"home": home, "work_dir": str(work_dir)}})
    first = nightly(request).summary()
    assert (first["encoded_documents"], first["training_steps"]) == (12, 4)
    assert first["report"].startswith(home) and first["exports"].startswith(f"{home}/exports/v4/")
    store = open_store(home, work_dir=str(tmp_path / "look"))
    pointer = read_pointer(store)
    assert pointer.checkpoint == first["served_checkpoint"]
    assert {key.split("/")[0] for key in store.list("snapshots")} == {"snapshots"}
    for name in ("lance", "shards", "checkpoints", "reports", "matches", "runs", "exports/v4"):
        assert store.exists(name), name
    assert not small_night.home.exists()
    local = {path.relative_to(work_dir / bucket / "home").parts[0] for path in work_dir.rglob("*") if path.is_file()}
    assert local <= {"base_models", "copies", "prefect", ".lock"}  # nothing under construction, nothing shared

    second = nightly(request).summary()
    assert (second["encoded_documents"], second["training_steps"]) == (0, 0)
    assert read_pointer(store) == pointer

    monkeypatch.setenv("L2V_HOME", home)
    monkeypatch.setenv("L2V_WORK_DIR", str(tmp_path / "elsewhere"))
    config = Path(small_night.config)
    config.write_text("".join(f"{line}\n" for line in config.read_text().splitlines() if not line.startswith("home")))
    arguments = ["--json", "--profile", "tiny", "--config", str(config)]

    def answer(*words, code=0):
        assert run([*words, *arguments]) == code
        return json.loads(capsys.readouterr().out)

    hits = answer("search", "keeps records on a ward", "--in", "jobs")["hits"]
    assert {hit["source_id"] for hit in hits} == {f"j{number}" for number in range(6)}
    assert answer("status")["home"] == home
    (generation,) = answer("generations", "list")["generations"]
    assert generation["served"]
    gone = answer("erase", "--doc-id", hits[0]["doc_id"])
    assert gone["removed"]["snapshots"] and "on each of them" in gone["elsewhere"]
    assert scan_store(store, Needles({hits[0]["doc_id"].encode(): "id"})).findings == []
    assert answer("maintain")
    assert read_pointer(store).generation == pointer.generation
    assert answer("search", "ward", "--in", "jobs", "--mode", "lexical")["hits"]

"""Complete nightly runs on the tiny model: no work is repeated, and a failed run leaves the served state unchanged."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client

from data.errors import InputError, LeaseHeldError, StoreError
from data.store.base import LocalStore
from data.store.lease import hold_lease
from data.vectors.gate import GenerationRefusedError
from data.vectors.pointer import read_pointer
from flows.cli import run
from flows.embed import embed
from flows.nightly import nightly
from llm2vec_core.errors import CoreError
from tasks.encoders.checkpoints import encode_documents
from tasks.queries.search import search
from tasks.queries.status import status, status_rows


def test_three_nights(small_night, monkeypatch):
    """First everything is done, then nothing, then exactly what changed."""
    first = nightly(small_night.request).summary()
    assert (first["encoded_documents"], first["training_steps"]) == (12, 4)
    assert first["usage"]["train"]["flops"] > first["usage"]["embed"]["flops"] > 0
    assert first["stages"]["ingest"]["job"]["rows_in"] == 6
    assert first["run_id"] in first["exports"], "all that a night makes bears its id"
    pointer = read_pointer(LocalStore(small_night.home))
    assert pointer.checkpoint == first["served_checkpoint"]
    assert status(small_night.request.settings())["last_run"]["run_id"] == first["run_id"]

    def no_model(*_):
        raise AssertionError("a night with nothing new loaded a model")

    with monkeypatch.context() as patched:
        patched.setattr("tasks.workers.shards.load_encoder", no_model)
        patched.setattr("tasks.encoders.systems.cached_views", no_model)
        second = nightly(small_night.request).summary()
    assert (second["encoded_documents"], second["training_steps"]) == (0, 0)
    assert second["stages"]["match"]["reused"]
    assert second["report"] == first["report"]
    assert read_pointer(LocalStore(small_night.home)) == pointer, "nothing changed, so nothing was promoted"

    jobs = small_night.read(small_night.jobs)
    jobs["j0"]["description"] += " Now also Azure."
    del jobs["j5"]
    small_night.write(small_night.jobs, jobs)
    third = nightly(small_night.request).summary()
    assert (third["encoded_documents"], third["training_steps"]) == (1, 0)
    assert third["stages"]["embed"]["upserted"] == {"job": 1, "resume": 0}
    assert third["stages"]["embed"]["removed"] == {"job": 1, "resume": 0}
    settings = small_night.request.settings()
    hits = search(settings, "Azure", kind="job", mode="lexical")
    assert [hit["source_id"] for hit in hits] == ["j0"]
    assert {hit["source_id"] for hit in search(settings, "nurse", kind="job", mode="dense")} == set(jobs)


def change_a_job(night):
    jobs = night.read(night.jobs)
    jobs["j1"]["description"] += " Night shifts."
    night.write(night.jobs, jobs)


@pytest.mark.parametrize(
    ("stage", "failure"),
    [
        pytest.param(
            "tasks.stages.ingest.build_snapshot",
            StoreError("Could not write: No space left on device."),
            marks=pytest.mark.slow,
        ),
        ("tasks.workers.shards.write_shard", StoreError("Could not write: No space left on device.")),
        pytest.param("tasks.stages.embed.verify_generation", CoreError("gate"), marks=pytest.mark.slow),
        ("tasks.stages.embed.promote", RuntimeError("killed")),
    ],
)
def test_a_failed_stage_leaves_what_is_served_and_the_next_night_heals(served_night, monkeypatch, stage, failure):
    before = read_pointer(LocalStore(served_night.home))
    change_a_job(served_night)

    def fail(*_, **__):
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(stage, fail)
        for task in ("ingest_kind", "encode_shards", "promote_tables"):  # no waiting for retries in a test
            module = "tasks.stages.ingest" if task == "ingest_kind" else "tasks.stages.embed"
            patched.setattr(f"{module}.{task}.retries", 0)
        with pytest.raises(type(failure)):
            nightly(served_night.request)
    assert read_pointer(LocalStore(served_night.home)) == before
    hits = search(served_night.request.settings(), "night shifts", kind="job", mode="lexical")
    assert all("shifts" not in hit["matched_terms"] for hit in hits)
    assert "error" in status(served_night.request.settings())["last_run"]

    healed = nightly(served_night.request)
    assert read_pointer(LocalStore(served_night.home)).sequence == before.sequence + 1
    hits = search(served_night.request.settings(), "night shifts", kind="job", mode="lexical")
    assert hits[0]["source_id"] == "j1"
    assert healed.embedded.documents == {"job": 6, "resume": 6}


@pytest.mark.parametrize(
    ("chosen", "error"),
    [
        ({"tasks_dirs": []}, "no evaluation task"),
        ({"tasks_dirs": ["no/such/folder"]}, "no/such/folder does not exist"),
        ({"tasks": ["Misspelled"]}, "'Misspelled'"),
        ({"references": ["bm25+nonsense"]}, "nonsense"),
    ],
)
def test_an_evaluation_that_cannot_be_done_ends_a_night_before_it_starts(small_night, chosen, error):
    overrides = {f"evaluate.{name}": value for name, value in chosen.items()}
    with pytest.raises((CoreError, InputError), match=error):
        nightly(small_night.request.model_copy(update={"overrides": overrides}))
    assert not (small_night.home / "snapshots").exists()


class TestDocumentsWithoutVector:
    """One text whose vector is not finite does not stop a night; many do."""

    @pytest.fixture
    def overflowing(self, served_night, monkeypatch):
        """The served night with a changed job, whose text the encoder cannot encode."""

        def encode(encoder, texts, *rest, **more):
            found = encode_documents(encoder, texts, *rest, **more)
            vectors = found.vectors.copy()
            vectors[["Night shifts" in text for text in texts]] = np.nan
            return replace(found, vectors=vectors)

        change_a_job(served_night)
        with monkeypatch.context() as patched:
            patched.setattr("tasks.workers.shards.encode_documents", encode)
            patched.setattr("tasks.workers.shards.find_graph", lambda *_: None)  # few documents take the graph
            yield served_night, patched

    def test_it_is_left_out_and_named_and_tried_again_when_asked(self, overflowing):
        night, patched = overflowing
        settings = night.request.model_copy(update={"overrides": {"export.vectors": True}}).settings()
        report = nightly(night.request.model_copy(update={"overrides": {"export.vectors": True}}))
        assert report.embedded.no_vector == {"job": 1}
        assert report.embedded.no_vector_documents == ["jobs/j1"]
        assert report.embedded.documents == {"job": 5, "resume": 6}
        assert report.matched.jobs == 5
        assert "j1" not in {hit["source_id"] for hit in search(settings, "nurse", kind="job", mode="dense")}
        state = status(settings)
        assert state["no_vector"] == {"job": ["jobs/j1"]}
        assert dict(status_rows(state))["no vector"] == "1 jobs in quarantine: jobs/j1"

        again = nightly(night.request).embedded
        assert (again.encoded_documents, again.no_vector) == (0, {"job": 1})
        patched.undo()  # another machine, another precision
        healed = embed(again.checkpoint, night.request.model_copy(), full=True)
        assert (healed.no_vector, healed.documents) == ({}, {"job": 6, "resume": 6})
        assert status(settings)["no_vector"] == {}

    def test_too_many_refuse_the_night_and_are_tried_again(self, overflowing):
        night, patched = overflowing
        before = read_pointer(LocalStore(night.home))
        strict = night.request.model_copy(update={"overrides": {"gate.max_unusable_share": 0}})
        with pytest.raises(GenerationRefusedError, match=r"1 of 6 jobs have no vector.*max_unusable_share"):
            nightly(strict)
        assert read_pointer(LocalStore(night.home)) == before
        patched.undo()
        assert nightly(night.request).embedded.encoded_documents == 1


def test_a_night_leaves_while_another_one_writes(served_night):
    with (
        hold_lease(LocalStore(served_night.home), owner="other-run"),
        pytest.raises(LeaseHeldError, match="other-run"),
    ):
        nightly(served_night.request)


def test_matches_cover_every_document_both_ways(first_night):
    night, report = first_night
    match = night.home / "matches" / report.matched.match
    rows = ds.dataset(match, format="parquet", partitioning="hive", exclude_invalid_files=True).to_table()
    directions = Counter(rows["direction"].to_pylist())
    assert directions == {"resumes_for_job": 6 * 3, "jobs_for_resume": 6 * 3}
    by_job = rows.filter(ds.field("direction") == "resumes_for_job")
    assert set(Counter(by_job["job_id"].to_pylist()).values()) == {3}
    assert set(by_job["rank"].to_pylist()) == {1, 2, 3}


def test_an_export_is_whole_and_says_what_it_holds(first_night):
    night, report = first_night
    folder = night.home / "exports"
    latest = folder / json.loads((folder / "latest.json").read_text())["export"]
    assert str(latest) == report.exported.path
    assert (latest / "_SUCCESS").exists()
    dictionary = (latest / "DATA_DICTIONARY.md").read_text()
    for kind, count in report.exported.rows.items():
        (file,) = latest.glob(f"date=*/kind={kind}/*.parquet")
        table = pq.ParquetFile(file).read()
        assert len(table) == count
        assert all(f"| {name} |" in dictionary for name in table.column_names)
        assert "text" not in table.column_names
        assert ("salary_min" in table.column_names) == (kind == "jobs"), "jobs have columns for filters"


def test_the_night_is_told_in_artifacts(first_night):
    async def pages() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        async with get_client() as client:
            for artifact in await client.read_artifacts():
                found.setdefault(artifact.key, []).append(artifact.data)
        return found

    found = asyncio.run(pages())
    assert any(first_night[1].run_id in page for page in found["nightly"])
    assert any(first_night[1].report_path in page and "BM25" in page for page in found["evaluation"])
    assert any(first_night[1].report_path in page for page in found["evaluation-report"])
    assert all(page.startswith("data:image/png;base64,") for page in found["evaluation-main-scores"])
    assert {"ingest-counts", "table-counts", "evaluation-scores", "evaluation-gate", "generation-gate"} <= found.keys()


def test_the_report_is_one_page_with_every_system(first_night):
    page = Path(first_night[1].report_path).read_text()
    for system in ("BM25", "base, before training", "LLM2Vec, unsupervised", "hybrid"):
        assert system in page
    assert first_night[1].evaluated.reason in page


def test_a_refused_generation_is_exit_3_with_gates_and_leaves_what_is_served(served_night, capsys, monkeypatch):
    monkeypatch.setattr("data.vectors.gate.MIN_DOCUMENTS", 3)
    before = read_pointer(LocalStore(served_night.home))
    served_night.write(served_night.jobs, {f"j{n}": {"title": "", "description": "ж" * 60 + str(n)} for n in range(6)})
    capsys.readouterr()
    code = run(
        [
            "nightly",
            "--profile",
            "tiny",
            "--config",
            str(served_night.config),
            "--json",
        ]
    )
    result = json.loads(capsys.readouterr().out)
    assert code == 3
    assert "letter_shift" in result["refused"]
    failed = {(each["table"], each["gate"]) for each in result["gates"] if not each["passed"]}
    assert ("jobs", "letter_shift") in failed
    assert {table for table, _ in failed} == {"jobs"}
    assert read_pointer(LocalStore(served_night.home)) == before


def test_a_shrunken_source_is_refused_until_it_is_confirmed(served_night, capsys, monkeypatch):
    monkeypatch.setattr("data.snapshots.build.SHRINK_FROM", 3)
    jobs = served_night.read(served_night.jobs)
    served_night.write(served_night.jobs, {key: jobs[key] for key in ("j0", "j1")})
    command = [
        "ingest",
        "--kind",
        "job",
        "--source",
        str(served_night.jobs),
        "--profile",
        "tiny",
    ]
    command += ["--config", str(served_night.config), "--json"]
    capsys.readouterr()
    assert run(command) == 3
    assert "'jobs' had 6 documents and has 2 now" in json.loads(capsys.readouterr().out)["refused"]
    assert run([*command, "--allow-shrink", "jobs"]) == 0
    assert json.loads(capsys.readouterr().out)["rows_kept"] == 2


def test_a_backfill_that_is_killed_goes_on_and_replaces_the_vectors(served_night, monkeypatch, capsys):
    store = LocalStore(served_night.home)
    before = read_pointer(store)
    command = ["backfill", "--source", "jobs", "--profile", "tiny", "--config", str(served_night.config), "--json"]
    with monkeypatch.context() as patched:
        patched.setattr("tasks.stages.embed.promote", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("killed")))
        patched.setattr("tasks.stages.embed.promote_tables.retries", 0)
        assert run(command) == 1
    assert read_pointer(store) == before
    assert run([*command, "--since", "2020-01-01"]) == 2
    capsys.readouterr()
    assert run(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["encoded_documents"] == 0, "they were encoded before it was killed"
    assert result["upserted"] == {"job": 6, "resume": 0}
    assert read_pointer(store).jobs != before.jobs
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["encoded_documents"] == 6, "one that is done begins anew"
    assert run(["backfill", "--config", str(served_night.config)]) == 2


def test_maintenance_tells_what_each_step_did(served_night, capsys, monkeypatch):
    store = LocalStore(served_night.home)
    before = read_pointer(store)
    left = served_night.home / "tmp" / "left"
    left.parent.mkdir(exist_ok=True)
    left.write_text("by a process that was killed")
    monkeypatch.setattr(
        "data.outputs.maintenance.remove_shards", lambda *_: (_ for _ in ()).throw(StoreError("No space."))
    )
    command = ["maintain", "--profile", "tiny", "--config", str(served_night.config), "--json"]
    capsys.readouterr()
    assert run([*command, "--set", "retention.grace_hours=0"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["failed"] == ["shards"]
    steps = {step["step"]: step for step in result["steps"]}
    assert steps["leftovers"]["count"] >= 1
    assert "No space" in steps["shards"]["error"]
    assert not left.exists()
    assert read_pointer(store) == before
    assert search(served_night.request.settings(), "nurse", kind="job", mode="lexical")

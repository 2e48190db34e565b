"""Shards of one run, encoded by one process, two processes and two Ray nodes, give the same table."""

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from data.config import CleanConfig, SourceConfig
from data.errors import InputError
from data.schema import KINDS
from data.snapshots.build import build_snapshot
from data.snapshots.snapshot import open_snapshot
from data.store.lease import hold_lease
from data.vectors.generations import create_generation
from data.vectors.lance import open_table
from data.vectors.shards import list_shards
from data.vectors.tables import sync_table
from tasks.encoders.checkpoints import build_untrained, encode_documents
from tasks.run.context import Run
from tasks.run.settings import EncodeSettings, Settings
from tasks.stages.embed import latest_snapshots, plan_shards
from tasks.workers import ray as ray_engine
from tasks.workers.claims import kept_reports, offer_plans
from tasks.workers.shards import encode_planned

ROOT = Path(__file__).parents[3]


@pytest.fixture
def night(tmp_path, tiny_base, make_run):
    return make_night(str(tmp_path / "home"), tmp_path, tiny_base, make_run)


def make_night(home, tmp_path, tiny_base, make_run):
    """A home with snapshots and an encoder, and the plans of its shards."""
    encode = EncodeSettings(shard_size=4, engine="ray")
    settings = Settings(home=home, work_dir=str(tmp_path / "work"), encode=encode)
    for kind in KINDS:
        path = tmp_path / f"{kind}.jsonl"
        rows = [
            {"id": f"{kind}{number}", "text": f"the {kind} number {number} " * (number + 1)} for number in range(14)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        build_snapshot(
            settings.store(),
            kind=kind,
            sources={"board": SourceConfig(kind=kind, path=str(path))},
            clean=CleanConfig(near_duplicates=False),
            run_id="run",
            fence=lambda: None,
            now=datetime(2026, 3, 1, tzinfo=UTC),
        )
    fingerprint = build_untrained(settings.store(), settings, str(tiny_base)).fingerprint
    return settings, fingerprint, plan_shards.fn(make_run(settings), fingerprint, latest_snapshots(settings.store()))


def elsewhere(settings, folder):
    """The same home in another directory."""
    shutil.copytree(settings.home, folder)
    return settings.model_copy(update={"home": str(folder)})


def tables_of(settings, fingerprint):
    """All rows of both tables, made of the shards that there are."""
    store = settings.store()
    generation = create_generation(
        store,
        fingerprint=fingerprint,
        encode_keys={kind: settings.encode.encode_key(kind) for kind in KINDS},
        embedding_dim=32,
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )
    tables = []
    for kind, snapshot in latest_snapshots(store).items():
        version = sync_table(store, generation, open_snapshot(store, kind, snapshot)).version
        table = open_table(store, generation=generation.generation, kind=kind, version=version)
        tables.append(table.read(["doc_id", "content_sha256", "row_sha256", "vector"]).sort_by("doc_id"))
    return tables


def assert_same_tables(settings, others, fingerprint):
    for table, other in zip(tables_of(settings, fingerprint), tables_of(others, fingerprint), strict=True):
        assert len(table) == 14
        assert table.drop_columns(["vector"]) == other.drop_columns(["vector"])
        vectors, found = (np.array(each["vector"].to_pylist()) for each in (table, other))
        assert np.abs(vectors - found).max() <= 1e-6
        assert len(np.unique(vectors, axis=0)) == 14
    shards = [
        [shard.key for shard in list_shards(each.store(), fingerprint=fingerprint)] for each in (settings, others)
    ]
    assert shards[0] == shards[1] and len(shards[0]) == 8


def encode_all(settings, fingerprint, plans):
    for plan in plans:
        encode_planned(settings, fingerprint, plan)


def test_shards_in_a_bucket_make_the_table_of_a_directory(night, tmp_path, tiny_base, make_run, bucket):
    settings, fingerprint, plans = night
    others, same, remote_plans = make_night(f"s3://{bucket}/home", tmp_path, tiny_base, make_run)
    assert (same, remote_plans) == (fingerprint, plans)
    encode_all(settings, fingerprint, plans)
    encode_all(others, fingerprint, plans)
    assert_same_tables(settings, others, fingerprint)


def test_a_second_try_encodes_only_what_the_first_did_not_get_to(night, monkeypatch):
    settings, fingerprint, plans = night
    encode_all(settings, fingerprint, plans[:-1])
    encoded = []
    monkeypatch.setattr(
        "tasks.workers.shards.encode_documents",
        lambda encoder, texts, *rest, **options: (
            encoded.append(len(texts)) or encode_documents(encoder, texts, *rest, **options)
        ),
    )
    done = []
    reports = [encode_planned(settings, fingerprint, plan, on_progress=done.append) for plan in plans]
    assert encoded == [len(plans[-1].rows)]
    assert sum(report.documents for report in reports) == sum(done) == 28, "all of them are there now"
    assert [report.tokens > 0 for report in reports] == [False] * 7 + [True]


WORKER = """
import json, sys
from tasks.workers.shards import ShardPlan, encode_planned
from tasks.run.settings import Settings
settings, fingerprint, plans = sys.argv[1:]
for plan in json.loads(plans):
    encode_planned(Settings.model_validate_json(settings), fingerprint, ShardPlan.model_validate(plan))
"""

PREFECT_WORKER = """
import sys, time
from pathlib import Path
from prefect.testing.utilities import prefect_test_harness
from flows import workers as module
from flows.request import RunRequest
home, fingerprint, ready, own = sys.argv[1:]
real = module.encode_shard

def when_both_work(*arguments):
    (Path(ready) / own).touch()
    until = time.monotonic() + 600
    while len(list(Path(ready).iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    return real(*arguments)

module.encode_shard = when_both_work
overrides = {"home": home, "encode.shard_size": 4}
with prefect_test_harness(server_startup_timeout=300):
    print(module.encode(fingerprint, RunRequest(profile="tiny", overrides=overrides, parent_run="night")))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)  # several processes load torch at once
def test_two_processes_that_take_the_same_plans_make_the_table_of_one(night, tmp_path):
    settings, fingerprint, plans = night
    others = elsewhere(settings, tmp_path / "two")
    encode_all(settings, fingerprint, plans)
    orders = [json.dumps([plan.model_dump() for plan in order]) for order in (plans, plans[::-1])]
    command = [sys.executable, "-c", WORKER, others.model_dump_json(), fingerprint]
    workers = [subprocess.Popen([*command, order], cwd=ROOT) for order in orders]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert_same_tables(settings, others, fingerprint)


@pytest.mark.slow
@pytest.mark.timeout(900)  # several processes load torch at once
def test_two_prefect_workers_share_the_shards_of_a_night(night, tmp_path):
    settings, fingerprint, plans = night
    others, ready = elsewhere(settings, tmp_path / "two"), tmp_path / "ready"
    ready.mkdir()
    encode_all(settings, fingerprint, plans)
    store = others.store()
    command = [sys.executable, "-c", PREFECT_WORKER, others.home, fingerprint, str(ready)]
    with hold_lease(store, owner="night") as lease:
        run = Run("night", others, store, lease)
        offer_plans(run, plans)
        workers = [
            subprocess.Popen([*command, name], cwd=ROOT, stdout=subprocess.PIPE, text=True) for name in ("a", "b")
        ]
        encoded = [int(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    assert min(encoded) > 0 and sum(encoded) == 28, "each document once, by either"
    assert set(kept_reports(run)) == set(range(len(plans)))
    assert_same_tables(settings, others, fingerprint)


@pytest.mark.slow
@pytest.mark.timeout(900)  # several processes load torch at once
@pytest.mark.usefixtures("two_ray_nodes")
def test_two_nodes_of_a_ray_cluster_make_the_table_of_one_process_though_a_worker_dies(night, tmp_path, monkeypatch):
    settings, fingerprint, plans = night
    others, nodes, dead = elsewhere(settings, tmp_path / "ray"), tmp_path / "nodes", tmp_path / "dead"
    nodes.mkdir()
    encode_all(settings, fingerprint, plans)
    victim = plans[-1]

    def dying_once(settings, fingerprint, plan):
        import os
        import signal

        import ray

        (nodes / ray.get_runtime_context().get_node_id()).touch()
        time.sleep(0.5)  # long enough that one node alone would not take all
        if plan == victim and not dead.exists():
            dead.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return encode_planned(settings, fingerprint, plan)

    monkeypatch.setattr(ray_engine, "encode_planned", dying_once)
    done = []
    reports = ray_engine.encode_on_ray(others, fingerprint, plans, on_progress=done.append)
    assert dead.exists()
    assert [report.documents for report in reports] == [len(plan.rows) for plan in plans]
    assert sum(done) == 28
    assert len(list(nodes.iterdir())) == 2
    assert_same_tables(settings, others, fingerprint)


def test_without_ray_the_error_says_what_to_install(night, monkeypatch):
    settings, fingerprint, plans = night
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="Ray is not installed") as caught:
        ray_engine.encode_on_ray(settings, fingerprint, plans)
    assert "scale" in caught.value.hint and os.environ.get("RAY_ADDRESS") is None

"""Small snapshots and made-up vectors for the tests of the storage side."""

import hashlib
import importlib.util
import json
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from data.config import CleanConfig, SourceConfig
from data.snapshots.build import build_snapshot
from data.store.base import LocalStore
from data.store.digests import unpack_digests
from data.vectors.shards import encoded_contents, write_shard

DIM = 8


class Rooms:
    """What the tests of the storage side need from its neighbours: snapshots, and vectors without a model."""

    dim = DIM
    now = datetime(2026, 3, 1, 2, tzinfo=UTC)
    encode_keys = MappingProxyType({"job": "job: ", "resume": "resume: "})

    @staticmethod
    def snapshot(store, kind, documents):
        """Snapshot of ``documents``: source id to text, or to (text, further column)."""
        root = store.machine.root
        path = root.with_name(f"{root.name}-{kind}.jsonl")
        rows = []
        for source_id, value in documents.items():
            text, city = value if isinstance(value, tuple) else (value, "Oslo")
            rows.append(json.dumps({"id": source_id, "title": "T", "text": text, "city": city}))
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return build_snapshot(
            store,
            kind=kind,
            sources={"board": SourceConfig(kind=kind, path=str(path))},
            clean=CleanConfig(),
            run_id="run",
            fence=lambda: None,
            now=Rooms.now,
        )

    @staticmethod
    def vector(content, fingerprint):
        """The vector that ``fingerprint`` makes of ``content``."""
        seed = int.from_bytes(hashlib.sha256(f"{content} {fingerprint}".encode()).digest()[:8])
        vector = np.random.default_rng(seed).normal(size=DIM)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    @staticmethod
    def encode(store, snapshot, fingerprint, *, shard_size=3):
        """Write shards for what has no vector yet."""
        key = Rooms.encode_keys[snapshot.manifest.kind]
        done = set(unpack_digests(encoded_contents(store, fingerprint=fingerprint, encode_key=key)))
        contents = list(dict.fromkeys(snapshot.table(["content_sha256"])["content_sha256"].to_pylist()))
        stale = [content for content in contents if content[:32] not in done]
        for start in range(0, len(stale), shard_size):
            part = stale[start : start + shard_size]
            vectors = np.stack([Rooms.vector(content, fingerprint) for content in part])
            write_shard(store, part, vectors, fingerprint=fingerprint, encode_key=key)
        return len(stale)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "var")


@pytest.fixture(scope="session")
def rooms():
    return Rooms


class Crash(BaseException):
    """A process that is killed: no handler may swallow it."""


@pytest.fixture
def killed_at(monkeypatch):
    """``with killed_at(store, step)``: the process dies in place of the step-th put or swap."""

    @contextmanager
    def killed(store, step):
        steps = iter(range(100))

        def crashing(method):
            def call(*args, **kwargs):
                if next(steps) == step:
                    raise Crash
                return method(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in ("put_if_absent", "compare_and_swap"):
                patch.setattr(store, name, crashing(getattr(store, name)))
            with pytest.raises(Crash):
                yield

    return killed


@pytest.fixture(scope="session")
def simulated():
    """The module of a night without a model; the tests that kill it run the same file as a script."""
    path = Path(__file__).with_name("simulated_night.py")
    spec = importlib.util.spec_from_file_location("simulated_night", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def faults(simulated):
    """Faults of the operating system, injected into this process."""
    return simulated.Faults()

"""A change from cut to parts encodes long texts again, and no short one."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from data.config import CleanConfig, SourceConfig
from data.schema import KINDS
from data.snapshots.build import build_snapshot
from data.snapshots.snapshot import contents_of, open_snapshot
from data.vectors.generations import create_generation
from data.vectors.shards import ShardVectors, TokenCount
from data.vectors.token_counts import known_tokens, tokens_of
from llm2vec_core.training.settings import Recipe
from tasks.encoders.checkpoints import build_untrained
from tasks.run.settings import EncodeSettings, Settings
from tasks.stages.embed import latest_snapshots, plan_shards
from tasks.workers.carry import settle_long_texts
from tasks.workers.shards import encode_planned

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SHORT, LONG = 5, 3


@pytest.fixture
def home(tmp_path, tiny_base):
    """A home with short and long documents, and settings that cut long ones."""
    return make_home(tmp_path, tiny_base, num_long=LONG)


def make_home(tmp_path, tiny_base, *, num_long):
    settings = Settings(
        home=str(tmp_path / "home"),
        train=Recipe(base_model=str(tiny_base), max_tokens=64),
        encode=EncodeSettings(long_texts="cut", shard_size=3),
    )
    ingest(settings, tmp_path, num_long=num_long)
    return settings, build_untrained(settings.store(), settings, str(tiny_base)).fingerprint


def ingest(settings, tmp_path, *, num_long):
    for kind in KINDS:
        path = tmp_path / f"{kind}.jsonl"
        texts = [f"{kind} {number}" for number in range(SHORT)]
        texts += [f"{kind} {number} " + "and much more of it " * 9 for number in range(num_long)]
        path.write_text("".join(json.dumps({"id": str(row), "text": text}) + "\n" for row, text in enumerate(texts)))
        build_snapshot(
            settings.store(),
            kind=kind,
            sources={"board": SourceConfig(kind=kind, path=str(path))},
            clean=CleanConfig(near_duplicates=False),
            run_id="run",
            fence=lambda: None,
            now=NOW,
        )


def in_parts(settings):
    return settings.model_copy(update={"encode": settings.encode.model_copy(update={"long_texts": "parts"})})


def settled(settings, fingerprint, make_run):
    return settle_long_texts(make_run(settings), fingerprint, latest_snapshots(settings.store())).settings


def encode(settings, fingerprint, make_run):
    """Encode what is stale; returns the number of encoded documents."""
    plans = plan_shards.fn(make_run(settings), fingerprint, latest_snapshots(settings.store()))
    return sum(encode_planned(settings, fingerprint, plan).documents for plan in plans)


def vectors_of(settings, fingerprint, kind):
    store = settings.store()
    made_by = {"fingerprint": fingerprint, "encode_key": settings.encode.encode_key(kind)}
    contents = np.sort(contents_of(open_snapshot(store, kind, latest_snapshots(store)[kind])))
    return ShardVectors(store, **made_by).of(contents)


def tokens(settings, fingerprint):
    store, snapshots = settings.store(), latest_snapshots(settings.store())
    generation = create_generation(
        store,
        fingerprint=fingerprint,
        encode_keys={kind: settings.encode.encode_key(kind) for kind in KINDS},
        embedding_dim=32,
        now=NOW,
    )
    found = {kind: tokens_of(store, generation, open_snapshot(store, kind, snapshots[kind])) for kind in KINDS}
    assert known_tokens(store, generation.generation, snapshots) == found
    return found


def test_short_texts_keep_their_vectors_and_long_ones_are_read_whole(home, make_run):
    cut, fingerprint = home
    assert encode(cut, fingerprint, make_run) == 2 * (SHORT + LONG)
    lost = tokens(cut, fingerprint)
    assert all(count.cut > 0 for count in lost.values())

    whole = in_parts(cut)
    assert encode(whole, fingerprint, make_run) == 2 * LONG, "short texts are not encoded again"
    assert encode(whole, fingerprint, make_run) == 0
    for kind in KINDS:
        before, after = (vectors_of(each, fingerprint, kind) for each in (cut, whole))
        assert (before == after).all(axis=1).sum() == SHORT
    found = tokens(whole, fingerprint)
    for kind, count in found.items():
        assert (count.cut, count.uncounted) == (0, 0)
        assert count.read > 0.8 * (lost[kind].read + lost[kind].cut)  # the tiny tokenizer counts blanks around parts


def test_a_home_of_short_texts_keeps_its_keys_until_the_first_long_text(tmp_path, tiny_base, make_run):
    cut, fingerprint = make_home(tmp_path, tiny_base, num_long=0)
    parts = in_parts(cut)
    encode(cut, fingerprint, make_run)
    assert settled(parts, fingerprint, make_run).encode == cut.encode
    ingest(cut, tmp_path, num_long=1)
    assert settled(parts, fingerprint, make_run).encode == parts.encode
    assert encode(parts, fingerprint, make_run) == 2, "the two new ones"
    ingest(cut, tmp_path, num_long=0)
    assert settled(parts, fingerprint, make_run).encode == parts.encode, "the keys do not go back and forth"


@pytest.mark.parametrize("long_texts", ["cut", "sections"])
def test_other_readings_stay_as_they_are_set(home, make_run, long_texts):
    cut, fingerprint = home
    settings = cut.model_copy(update={"encode": cut.encode.model_copy(update={"long_texts": long_texts})})
    assert settled(settings, fingerprint, make_run) == settings
    assert encode(settings, fingerprint, make_run) == 2 * (SHORT + LONG)


def test_shards_of_earlier_versions_are_named_as_not_counted(home, make_run, monkeypatch):
    cut, fingerprint = home
    monkeypatch.setattr("tasks.workers.shards.write_shard", without_counts)
    encode(cut, fingerprint, make_run)
    assert tokens(cut, fingerprint) == dict.fromkeys(KINDS, TokenCount(uncounted=SHORT + LONG))


def without_counts(*arguments, tokens, **options):
    """Write a shard as versions did that counted no tokens."""
    from data.vectors.shards import write_shard

    return write_shard(*arguments, **options)

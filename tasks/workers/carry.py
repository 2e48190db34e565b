"""Texts that fit the encoder whole have one vector, whether long texts are cut or read in parts.

So a home of short texts keeps the encode key of cut, and has nothing to do. With the first long text, the key becomes
that of parts. The vectors of short texts are then written again under it, with the tokenizer and without the model.
Never imports prefect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data.schema import DocumentKind
from data.snapshots.snapshot import Snapshot, contents_of, open_snapshot
from data.store.base import Store
from data.store.digests import DigestIndex, first_of_each
from data.vectors.shards import ShardVectors, encoded_contents, whole_contents, write_shard
from tasks.encoders.checkpoints import checkpoint_dir
from tasks.run.context import Run
from tasks.run.settings import EncodeSettings
from tasks.workers.shards import texts_of

logger = logging.getLogger(__name__)


def settle_long_texts(run: Run, fingerprint: str, snapshots: Mapping[DocumentKind, str]) -> Run:
    """The run, with ``encode.long_texts = "cut"`` instead of parts if all documents fit the encoder whole.

    Once a vector of a long text was made, parts stay.

    Args:
        run: The run.
        fingerprint: Checkpoint to encode with.
        snapshots: Snapshot of each kind.

    Raises:
        StoreError: A shard cannot be read.
    """
    encode, store = run.settings.encode, run.store
    if encode.long_texts != "parts":
        return run
    for kind in snapshots:
        if len(encoded_contents(store, fingerprint=fingerprint, encode_key=encode.encode_key(kind))):
            return run
    cut = encode.model_copy(update={"long_texts": "cut"})
    for kind, snapshot_id in snapshots.items():
        if _has_long_text(open_snapshot(store, kind, snapshot_id), store, cut, fingerprint=fingerprint):
            return run
    return replace(run, settings=run.settings.model_copy(update={"encode": cut}))


def _has_long_text(snapshot: Snapshot, store: Store, encode: EncodeSettings, *, fingerprint: str) -> bool:
    from llm2vec_core.encoding.loading import load_tokenizer

    kind, contents = snapshot.manifest.kind, contents_of(snapshot)
    whole = whole_contents(store, fingerprint=fingerprint, encode_key=encode.encode_key(kind))
    unknown = np.flatnonzero(first_of_each(contents) & ~DigestIndex(np.unique(whole)).contains(contents))
    if not len(unknown):
        return False
    tokenizer, prompt = load_tokenizer(checkpoint_dir(store, fingerprint)), encode.prompts.get(kind, "")
    for start in range(0, len(unknown), encode.shard_size):
        texts = texts_of(snapshot, unknown[start : start + encode.shard_size])
        if max(tokenizer.count(list(texts.values()), prompt=prompt)) > tokenizer.limit:
            return True
    return False


def carry_short_texts(
    store: Store,
    encode: EncodeSettings,
    kind: DocumentKind,
    snapshot: Snapshot,
    stale: NDArray[np.int64],
    *,
    fingerprint: str,
) -> NDArray[np.int64]:
    """Take over the vectors of texts that were read whole before texts were read in parts.

    Args:
        store: Where the shards are.
        encode: Settings to encode with.
        kind: Kind of the documents.
        snapshot: Snapshot that they are in.
        stale: Row numbers of the documents without a vector under these settings, ascending.
        fingerprint: Checkpoint to encode with.

    Returns:
        The rows that are still to be encoded.

    Raises:
        StoreError: A shard cannot be read or written.
    """
    if encode.long_texts != "parts" or not len(stale):
        return stale
    former = encode.model_copy(update={"long_texts": "cut"}).encode_key(kind)
    vectors = ShardVectors(store, fingerprint=fingerprint, encode_key=former)
    contents = contents_of(snapshot)
    known = stale[vectors.contains(contents[stale])]
    if not len(known):
        return stale
    from llm2vec_core.encoding.loading import load_tokenizer

    tokenizer, prompt = load_tokenizer(checkpoint_dir(store, fingerprint)), encode.prompts.get(kind, "")
    carried: list[NDArray[np.int64]] = []
    for start in range(0, len(known), encode.shard_size):
        rows = known[start : start + encode.shard_size]
        texts = texts_of(snapshot, rows)
        lengths = np.array(tokenizer.count(list(texts.values()), prompt=prompt), dtype=np.int32)
        fits = lengths <= tokenizer.limit
        if not fits.any():
            continue
        names = [name for name, is_short in zip(texts, fits, strict=True) if is_short]
        counts = lengths[fits], np.zeros(len(names), dtype=np.int32)
        write_shard(
            store,
            names,
            vectors.of(contents[rows[fits]]),
            fingerprint=fingerprint,
            encode_key=encode.encode_key(kind),
            tokens=counts,
        )
        carried.append(rows[fits])
    if not carried:
        return stale
    done = np.concatenate(carried)
    logger.info(
        "%s: %d short texts keep their vectors, %d long ones are read whole.", kind, len(done), len(stale) - len(done)
    )
    return np.setdiff1d(stale, done)

"""Encode the documents of one plan into a shard of the store, on any machine.

Plans are small, and encoding one twice changes nothing. So any number of processes, on any machine that reaches the
store, may work on the plans of a night. Never imports prefect, because Ray's workers do not need it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from data.schema import DocumentKind, encoded_text
from data.snapshots.snapshot import Snapshot, open_snapshot
from data.vectors.shards import is_usable, keep_unusable, shard_key, write_shard
from llm2vec_core.encoding.result import Encoding
from tasks.encoders.checkpoints import checkpoint_dir, encode_documents, load_encoder
from tasks.encoders.query_encoder import FEW_TEXTS, find_graph
from tasks.run.settings import Settings
from tasks.workers.embedding_server import proven_server


class ShardPlan(BaseModel):
    """Documents whose contents go into one shard.

    Attributes:
        kind: Kind of the documents.
        snapshot: Snapshot that they are in.
        runs: Their row numbers there, as ranges (start, end), end exclusive.
    """

    model_config = ConfigDict(frozen=True)

    kind: DocumentKind
    snapshot: str
    runs: list[tuple[int, int]]

    @classmethod
    def of_rows(cls, kind: DocumentKind, snapshot: str, rows: NDArray[np.int64]) -> ShardPlan:
        """The plan of some documents, by their row numbers in the snapshot, ascending."""
        breaks = np.flatnonzero(np.diff(rows) > 1) + 1
        runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(rows, breaks)]
        return cls(kind=kind, snapshot=snapshot, runs=runs)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row numbers of the documents in the snapshot, ascending."""
        return np.concatenate([np.arange(first, stop) for first, stop in self.runs])


class ShardReport(BaseModel):
    """Work of encoding one shard; zero for a shard that already existed.

    Attributes:
        no_vector: Contents whose vector is not finite, or zero; they are recorded, and are in no shard.
        without_torch: Whether the query encoder of the checkpoint, or a server, encoded them.
    """

    model_config = ConfigDict(frozen=True)

    documents: int
    no_vector: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    without_torch: bool = False


def encode_planned(
    settings: Settings, fingerprint: str, plan: ShardPlan, *, on_progress: Callable[[int], None] | None = None
) -> ShardReport:
    """Encode the documents of one planned shard and write it, unless it exists.

    Args:
        settings: Settings of the run.
        fingerprint: Checkpoint to encode with.
        plan: Documents of the shard.
        on_progress: Called with the number of texts just finished.

    Raises:
        ServerError: The embedding server does not answer, or gives other vectors than proven.
        StoreError: The shard cannot be written; nothing else is lost.
    """
    store = settings.store()
    texts = texts_of(open_snapshot(store, plan.kind, plan.snapshot), plan.rows)
    encode_key = settings.encode.encode_key(plan.kind)
    if store.exists(shard_key(texts, fingerprint=fingerprint, encode_key=encode_key)):
        if on_progress is not None:
            on_progress(len(texts))
        return ShardReport(documents=len(texts))
    is_remote = settings.encode.backend == "http"
    graph = None
    if len(texts) <= FEW_TEXTS and not is_remote:
        graph = find_graph(store, fingerprint, settings.encode, plan.kind)
    encode = (
        _encoder_of(settings, checkpoint_dir(store, fingerprint), plan.kind, on_progress)
        if graph is None
        else partial(graph.encode_with_counts, long_texts=settings.encode.long_texts, on_progress=on_progress)
    )
    started = time.monotonic()
    encoding = encode(list(texts.values()))
    duration_s = time.monotonic() - started
    usable = is_usable(encoding.vectors)
    contents, bad = list(texts), [content for content, is_good in zip(texts, usable, strict=True) if not is_good]
    if bad:  # recorded first: a shard of the others alone would look as if these had never been tried
        keep_unusable(store, bad, fingerprint=fingerprint, encode_key=encode_key)
        contents = [content for content, is_good in zip(texts, usable, strict=True) if is_good]
    if contents:
        read, cut = encoding.read_tokens, encoding.cut_tokens
        write_shard(
            store,
            contents,
            encoding.vectors[usable],
            fingerprint=fingerprint,
            encode_key=encode_key,
            tokens=None if read is None or cut is None else (read[usable], cut[usable]),
        )
    return ShardReport(
        documents=len(texts),
        no_vector=len(bad),
        tokens=encoding.num_tokens,
        padded_tokens=encoding.num_padded_tokens,
        truncated=encoding.num_truncated,
        seconds=duration_s,
        without_torch=is_remote or graph is not None,
    )


def _encoder_of(
    settings: Settings, directory: Path, kind: DocumentKind, on_progress: Callable[[int], None] | None
) -> Callable[[list[str]], Encoding]:
    """Encode documents of a kind with a checkpoint, on this machine or by a server that was proven."""
    if settings.encode.backend == "http":
        server = proven_server(directory, settings.encode)
        return partial(server.encode, on_progress=on_progress)
    encoder = load_encoder(directory, settings.encode)
    return lambda texts: encode_documents(encoder, texts, kind, settings.encode, on_progress=on_progress)


def texts_of(snapshot: Snapshot, rows: NDArray[np.int64]) -> dict[str, str]:
    """Text of each content at some rows of a snapshot, in their order."""
    return {
        row["content_sha256"]: encoded_text(row["title"], row["text"])
        for batch in snapshot.rows(rows, ["content_sha256", "title", "text"])
        for row in batch.to_pylist()
    }

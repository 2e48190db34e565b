"""Nights for the benchmarks: a corpus of random words, a two-layer random encoder, and the steps of the embed flow."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from data.config import CleanConfig, SourceConfig
from data.schema import KINDS, DocumentKind, encoded_text
from data.snapshots.build import build_snapshot
from data.snapshots.snapshot import contents_of
from data.store.base import LocalStore
from data.store.digests import DigestIndex, first_of_each
from data.store.lease import hold_lease
from data.vectors.generations import create_generation
from data.vectors.pointer import promote
from data.vectors.shards import encoded_contents, write_shard
from data.vectors.tables import sync_table, verify_generation

if TYPE_CHECKING:
    from llm2vec_core import Encoder

WORDS = [a + b + c for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "ar", "en", "or") for c in "bdfgklmnprst"]
WORDS_PER_DOCUMENT = (150, 250)
_NEAR_COPIES = 0.03
_SHARD_SIZE = 2000
_ENCODE_KEYS: dict[DocumentKind, str] = {"job": "job", "resume": "resume"}

Encode = Callable[[list[str]], Float32[np.ndarray, "texts dim"]]


def write_corpus(path: Path, num_documents: int, *, changed: float = 0.0) -> None:
    """Write documents of 150 to 250 words as JSONL; ``changed`` is the share of them with a changed text.

    Three in a hundred repost the previous document with one more word, as near duplicates on job boards do.
    """
    before: list[str] = []
    with path.open("w", encoding="utf-8") as stream:
        for number in range(num_documents):
            is_changed = random.Random(f"which {number}").random() < changed
            rng = random.Random(f"{number} {is_changed}")
            words = rng.choices(WORDS, k=rng.randint(*WORDS_PER_DOCUMENT))
            if before and rng.random() < _NEAR_COPIES:
                words = [*before, words[0]]
            stream.write(json.dumps({"id": f"{number}", "title": "Posting", "text": " ".join(words)}) + "\n")
            before = words


@dataclass
class NightFigures:
    """Cost of a night.

    Attributes:
        encoded: Documents that were encoded.
        encoder_calls: Calls of the encoder.
        ingest_seconds: From files to snapshots.
        embed_seconds: From snapshots to what is served.
        cpu_seconds: CPU time of the whole night, which does not depend on other work on the machine.
    """

    encoded: int = 0
    encoder_calls: int = 0
    ingest_seconds: float = 0.0
    embed_seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Total seconds."""
        return self.ingest_seconds + self.embed_seconds


def run_night(home: Path, corpus: Path, encode: Encode, *, embedding_dim: int) -> NightFigures:
    """Ingest, plan, encode, update the tables, run the gate, move the pointer; no training, matching or export."""
    store, figures = LocalStore(home), NightFigures()
    few = corpus.with_name("few.jsonl")
    write_corpus(few, 2)
    paths = {"job": corpus, "resume": few}
    with hold_lease(store, owner="benchmark") as lease:
        started, cpu_started = time.perf_counter(), time.process_time()
        snapshots = {
            kind: build_snapshot(
                store,
                kind=kind,
                sources={"board": SourceConfig(kind=kind, path=str(paths[kind]))},
                clean=CleanConfig(),
                run_id="benchmark",
                fence=lease.check,
                now=datetime.now(UTC),
            )
            for kind in KINDS
        }
        figures.ingest_seconds = time.perf_counter() - started
        started = time.perf_counter()
        generation = create_generation(
            store,
            fingerprint="0" * 64,
            encode_keys=_ENCODE_KEYS,
            embedding_dim=embedding_dim,
            now=datetime.now(UTC),
        )
        for kind, snapshot in snapshots.items():
            done = DigestIndex(encoded_contents(store, fingerprint=generation.checkpoint, encode_key=kind))
            contents = contents_of(snapshot)
            stale = np.flatnonzero(first_of_each(contents) & ~done.contains(contents))
            for start in range(0, len(stale), _SHARD_SIZE):
                rows = [
                    row
                    for batch in snapshot.rows(stale[start : start + _SHARD_SIZE], ["content_sha256", "title", "text"])
                    for row in batch.to_pylist()
                ]
                vectors = encode([encoded_text(row["title"], row["text"]) for row in rows])
                names = [row["content_sha256"] for row in rows]
                write_shard(store, names, vectors, fingerprint=generation.checkpoint, encode_key=kind)
                figures.encoder_calls += 1
                figures.encoded += len(rows)
        versions = {kind: sync_table(store, generation, snapshot).version for kind, snapshot in snapshots.items()}
        verify_generation(store, generation, snapshots, versions)
        ids = {kind: snapshot.manifest.id for kind, snapshot in snapshots.items()}
        promote(
            store, generation, versions=versions, snapshots=ids, lease=lease, run_id="benchmark", now=datetime.now(UTC)
        )
        figures.embed_seconds = time.perf_counter() - started
        figures.cpu_seconds = time.process_time() - cpu_started
    return figures


def hashed_vectors(embedding_dim: int) -> Encode:
    """An encoder without cost: vectors from a hash of the text."""

    def encode(texts: list[str]) -> Float32[np.ndarray, "texts dim"]:
        vectors = np.stack(
            [np.random.default_rng(list(text.encode())[-64:]).normal(size=embedding_dim) for text in texts]
        )
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return encode


def two_layer_encoder(directory: Path, *, hidden_size: int) -> Encoder:
    """A two-layer random Llama with a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    from llm2vec_core import Encoder

    vocabulary = {token: number for number, token in enumerate(["<pad>", "<eos>", "<unk>", "Posting", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=512
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=hidden_size // 32,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaModel(config).save_pretrained(directory / "base")
    tokenizer.save_pretrained(directory / "base")
    return Encoder.from_base(directory / "base")


def encoded_by(encoder: Encoder) -> Encode:
    """The encoder as a function that keeps no state between calls."""

    def encode(texts: list[str]) -> Float32[np.ndarray, "texts dim"]:
        return encoder.encode(texts, normalize=True)

    return encode

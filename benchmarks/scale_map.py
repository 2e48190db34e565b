"""What 100 thousand to 100 million documents cost, from unit costs measured here: the table of ``docs/scale.md``.

``--measure`` measures the unit costs of tables and matching on this machine (about a minute of processor time).
Without it the costs of :data:`MEASURED` give the table. The last line of stdout is one JSON object.

    python -m benchmarks.scale_map [--measure]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.bulk_match import build_table, publish_matches, unit_vectors
from data.schema import DocumentKind
from data.store.base import LocalStore
from data.vectors.lance import LanceTable
from llm2vec_core.ranking.lexical import LexicalIndex
from llm2vec_core.ranking.words import tokenize

SIZES = (100_000, 1_000_000, 10_000_000, 100_000_000)
"""Documents of a home, half of them jobs and half resumes."""

NIGHT_S = 8 * 3600
"""Seconds of a night."""

DIM = 576
"""Dimensions of a vector (SmolLM2-135M)."""

TOKENS = 500
"""Tokens of a document."""

WORDS = 250
"""Words of a document, each with a number of 4 bytes in a scratch file."""


@dataclass(frozen=True)
class UnitCosts:
    """Costs of one unit; the comment says where a figure comes from.

    Attributes:
        store_s: Processor seconds of a new document in all stages but encoding and matching.
        kept_s: The same of a document that did not change.
        cpu_tokens_per_s: Tokens that two cores encode in a second (SmolLM2-135M, bf16).
        gpu_tokens_per_s: Tokens that one H200 encodes in a second: planned at 0.4 of its peak, not measured.
        cpu_flops_per_s: FLOP/s of exact products on two cores, both top-100s included.
        gpu_flops_per_s: The same on one H200 in fp32: planned at half of its peak, not measured.
        rank_s: Processor seconds of ranking for one document, however many are ranked: fusion, shared words, Parquet.
        rank_each_s: Processor seconds of its BM25 for each document that is ranked.
        text_bytes: Bytes of a document in a snapshot, compressed.
        table_bytes: Bytes of a document in its LanceDB table, without its vector.
        match_bytes: Bytes of the matches of a document.
        weight_bytes: Bytes of a document's BM25 weights, which are scratch files.
        matched_bytes: Memory of a document in matching, beside mapped files.
        known_bytes: Memory of a document in the stages before matching.
    """

    store_s: float
    kept_s: float
    cpu_tokens_per_s: float
    gpu_tokens_per_s: float
    cpu_flops_per_s: float
    gpu_flops_per_s: float
    rank_s: float
    rank_each_s: float
    text_bytes: float
    table_bytes: float
    match_bytes: float
    weight_bytes: float
    matched_bytes: float
    known_bytes: float


MEASURED = UnitCosts(
    store_s=4816e-6,  # nightly_delta: 1,000,000 new documents
    kept_s=161e-6,  # nightly_delta: a night in which 1 % of them changed
    cpu_tokens_per_s=1300,  # encode_throughput: 430 in fp32, bf16_ratio 3.1
    gpu_tokens_per_s=989e12 * 0.4 / 250e6,  # l2v plan: 250 MFLOP a token
    cpu_flops_per_s=0.55 * 177e9,  # bulk_match: gemm_share of the peak
    gpu_flops_per_s=0.5 * 67e12,  # gpus.toml
    rank_s=0.0,
    rank_each_s=0.957e-3 / 4000,  # measure_tables(4000), all of it as if it grew: an upper bound
    text_bytes=1500,  # assumed: 4 kB of text, compressed
    table_bytes=661,  # measure(); this and the next two from synthetic documents of 250 words
    match_bytes=607,
    weight_bytes=1416,
    matched_bytes=2100,  # match_memory: 400,000 documents, without the 0.35 GB that do not grow
    known_bytes=300,  # memory_bound
)


def cost_of(documents: int, unit: UnitCosts = MEASURED) -> dict[str, float]:
    """Costs of a home with some documents: seconds, gigabytes and files."""
    half = documents / 2
    flops = 2 * half * half * DIM
    ranks_s = documents * (unit.rank_s + half * unit.rank_each_s)
    return {
        "first_store_h": documents * unit.store_s / 3600,
        "night_1_percent_h": (0.99 * documents * unit.kept_s + 0.01 * documents * unit.store_s) / 3600,
        "encode_cpu_h": documents * TOKENS / unit.cpu_tokens_per_s / 3600,
        "encode_gpu_h": documents * TOKENS / unit.gpu_tokens_per_s / 3600,
        "products_cpu_h": flops / unit.cpu_flops_per_s / 3600,
        "products_gpu_h": flops / unit.gpu_flops_per_s / 3600,
        "rankings_cpu_h": ranks_s / 3600,
        "disk_gb": documents * (unit.text_bytes + unit.table_bytes + 2 * 4 * DIM + unit.match_bytes) / 1e9,
        "night_memory_gb": 0.5 + documents * unit.known_bytes / 1e9,
        "match_memory_gb": 0.35 + documents * unit.matched_bytes / 1e9,
        "match_scratch_gb": documents * (4 * DIM + 4 * WORDS + unit.weight_bytes) / 1e9,
        "shards": documents / 2000,
    }


def table(unit: UnitCosts = MEASURED) -> str:
    """The map as a Markdown table."""
    names = {
        "first_store_h": "first ingest and tables, core hours",
        "night_1_percent_h": "the same of a night with 1 % new, core hours",
        "encode_cpu_h": "first encoding, hours on two cores",
        "encode_gpu_h": "first encoding, hours on one H200 (planned)",
        "products_cpu_h": "exact products, hours on two cores",
        "products_gpu_h": "exact products, hours on one H200 (planned)",
        "rankings_cpu_h": "rankings, core hours",
        "disk_gb": "disk, GB",
        "night_memory_gb": "memory of a night without matching, GB",
        "match_memory_gb": "memory of matching in one process, GB",
        "match_scratch_gb": "scratch files of matching in one process, GB",
        "shards": "shards of 2,000",
    }
    costs = [cost_of(size, unit) for size in SIZES]
    lines = ["| documents | " + " | ".join(f"{size:,}" for size in SIZES) + " |", "| --- |" + " ---: |" * len(SIZES)]
    lines += [
        f"| {title} | " + " | ".join(_shown(cost[name]) for cost in costs) + " |" for name, title in names.items()
    ]
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def measure(*, few: int = 1000, many: int = 4000) -> UnitCosts:
    """Unit costs of tables and matching: the line through two sizes, and bytes of the larger one."""
    of_few, of_many = measure_tables(few), measure_tables(many)
    each_s = (of_many["rank_s"] - of_few["rank_s"]) / (many - few)
    return replace(
        MEASURED,
        rank_s=of_few["rank_s"] - few * each_s,
        rank_each_s=each_s,
        table_bytes=of_many["table_bytes"],
        match_bytes=of_many["match_bytes"],
        weight_bytes=of_many["weight_bytes"],
    )


def measure_tables(rows: int) -> dict[str, float]:
    """Costs of a document in two tables of synthetic documents of 250 words."""
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{number}" for number in range(50_000)])
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        tables: dict[DocumentKind, LanceTable] = {}
        words: list[str] = []
        kinds: tuple[DocumentKind, ...] = ("job", "resume")
        for seed, kind in enumerate(kinds):
            ranks = np.minimum(rng.zipf(1.3, size=(rows, 250)) - 1, len(vocabulary) - 1)
            words = [" ".join(vocabulary[row]) for row in ranks]
            tables[kind] = build_table(store, kind, words, unit_vectors(rows, seed=seed))
        size = sum(path.stat().st_size for path in Path(folder, "lance").rglob("*") if path.is_file())
        started = time.process_time()
        publish_matches(store, tables, "whole")
        seconds = time.process_time() - started
        matched = sum(path.stat().st_size for path in Path(folder, "matches").rglob("*.parquet"))
        index = LexicalIndex.of_texts([" ".join(tokenize(text)) for text in words])
        held = sum(block.by_word.data.nbytes + block.by_word.indices.nbytes for block in index._blocks)
    return {
        "rank_s": seconds / (2 * rows),
        "table_bytes": size / (2 * rows) - 4 * unit_vectors(1, seed=0).shape[1],
        "match_bytes": matched / (2 * rows),
        "weight_bytes": 2 * held / rows,  # one matrix by words, one by texts
    }


def main() -> None:
    """Print the table, with unit costs of this machine if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure tables and matching here")
    unit = measure() if parser.parse_args().measure else MEASURED
    print(table(unit))
    print(json.dumps({"unit": asdict(unit), "costs": {size: cost_of(size, unit) for size in SIZES}}))


if __name__ == "__main__":
    main()

"""Encoding resumes of mixed length: ours against ``SentenceTransformer.encode`` of the same checkpoint, same threads.

The texts are the example resumes of the development data if they are beside the checkout, otherwise those of the
sample. They are truncated to 2,048 tokens; at 512 nearly all of them would have the same length. The sides take turns.
``ratio`` is tokens/s over sentence-transformers with its defaults, ``best_ratio`` over its best batch size; vectors
must agree to 1e-5. ``bf16_ratio`` is the speed-up by ``encode.precision = "bf16"``, and ``bf16_cosine`` the lowest
cosine of its vectors with those in fp32. ``shard_padding_waste`` is the share of padding in a shard of 2,000 texts.
``gemm_share`` is the share of the measured fp32 matrix-product peak that our side uses in fp32 (FLOPs of a forward pass
by ``llm2vec_core.planning.formulas``). The last line of stdout is one JSON object.

    python -m benchmarks.encode_throughput [--quick]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig

from benchmarks.common.machine import base_model_dir, describe, sample_texts
from llm2vec_core import Encoder
from llm2vec_core.device.memory import CPU_TOKENS
from llm2vec_core.encoding.batching import padded_length, plan_batches
from llm2vec_core.planning.architecture import count_architecture
from llm2vec_core.planning.formulas import Execution, flops_per_token
from llm2vec_core.planning.peak import measure_peak_flops

RESUMES = Path(__file__).parents[2] / "shared" / "data" / "corpora" / "resumes_livecareer.jsonl"
MAX_TOKENS = 2048


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer texts and rounds")
    quick = parser.parse_args().quick
    texts = mixed_texts(20 if quick else 64)
    base = base_model_dir()
    with tempfile.TemporaryDirectory() as folder:
        ours = Encoder.from_base(base, max_tokens=MAX_TOKENS, device="cpu")
        ours.save(folder)
        ours_bf16 = Encoder.load(folder, device="cpu", precision="bf16")
        theirs = SentenceTransformer(folder, device="cpu", local_files_only=True)
    sides: dict[str, Callable[[list[str]], np.ndarray]] = {"ours": ours.encode, "ours, bf16": ours_bf16.encode}
    for batch_size in (32, 8) if quick else (32, 8, 16, 64):
        sides[f"sentence-transformers, batch {batch_size}"] = partial(theirs.encode, batch_size=batch_size)
    for encode in sides.values():
        encode(texts[:2])  # warm, on all sides
    counted = ours.encode_with_counts(texts)
    peak = measure_peak_flops()
    vectors: dict[str, np.ndarray] = {}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(2 if quick else 3):
        for name, encode in sides.items():
            start = time.perf_counter()
            vectors[name] = encode(texts)
            seconds[name].append(time.perf_counter() - start)
    peak = max(peak, measure_peak_flops())
    rates = {name: counted.num_tokens / statistics.median(times) for name, times in seconds.items()}
    peers = {name: rate for name, rate in rates.items() if name.startswith("sentence-transformers")}
    architecture = count_architecture(AutoConfig.from_pretrained(base))
    execution = Execution(attention="sdpa", device="cpu")
    flops = flops_per_token(
        architecture, None, sequence_tokens=round(counted.num_tokens / len(texts)), execution=execution, scored_share=0
    ).forward
    result = {
        "ratio": rates["ours"] / peers["sentence-transformers, batch 32"],
        "best_ratio": rates["ours"] / max(peers.values()),
        "bf16_ratio": rates["ours, bf16"] / rates["ours"],
        "bf16_cosine": lowest_cosine(vectors["ours"], vectors["ours, bf16"]),
        "padding_waste": 1 - counted.num_tokens / counted.num_padded_tokens,
        "shard_padding_waste": padding_waste(ours, mixed_texts(2000)),
        "gemm_share": rates["ours"] * flops / peak,
        "max_abs_diff": max(float(np.abs(vectors["ours"] - vectors[name]).max()) for name in peers),
        "tokens_per_s": rates,
        "gemm_peak_gflops": peak / 1e9,
        "texts": len(texts),
        "tokens": counted.num_tokens,
        **describe(),
    }
    print(json.dumps(result))


def lowest_cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Lowest cosine between two vectors of the same text."""
    products = (left * right).sum(axis=1)
    return float((products / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)).min())


def padding_waste(encoder: Encoder, texts: list[str]) -> float:
    """Share of padding in the batches in which these texts would be encoded."""
    lengths = [min(MAX_TOKENS, len(token_ids)) for token_ids in encoder.model.tokenizer(texts)["input_ids"]]
    batches = plan_batches(lengths, batch_tokens=CPU_TOKENS)
    num_padded = sum(len(batch) * padded_length(lengths[batch[0]]) for batch in batches)
    return 1 - sum(lengths) / num_padded


def mixed_texts(count: int) -> list[str]:
    """A seeded sample of resumes, or all of them if there are fewer."""
    if RESUMES.is_file():
        with RESUMES.open(encoding="utf-8") as stream:
            texts = [json.loads(line)["text"] for line in stream]
    else:
        texts = sample_texts()
    return random.Random(0).sample(texts, min(count, len(texts)))


if __name__ == "__main__":
    main()

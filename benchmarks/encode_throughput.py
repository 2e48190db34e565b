"""Encoding resumes of mixed length: ours against ``SentenceTransformer.encode`` of the same checkpoint, same threads.

The texts are the example resumes of the development data if they are beside the checkout, otherwise those of the
sample. They are truncated to 2,048 tokens; at 512 nearly all of them would have the same length. With ``--short``, the
texts are names of skills of 5 to 20 tokens. The sides take turns, and their processor seconds count: other work on the
machine changes them less than the clock. ``ratio`` is tokens/s over sentence-transformers with its defaults,
``best_ratio`` over its best batch size; vectors must agree to 1e-5. ``graph_ratio`` is the speed of the query encoder,
which ONNX Runtime runs, over ours by torch. ``bf16_ratio`` is the speed-up by ``encode.precision = "bf16"``, and
``bf16_cosine`` the lowest cosine of its vectors with those in fp32. ``shard_padding_waste`` is the share of padding in
a shard of 2,000 resumes. ``gemm_share`` is the share of the measured fp32 matrix-product peak that each side uses in
fp32 (FLOPs of a forward pass by ``llm2vec_core.planning.formulas``). The last line of stdout is one JSON object.

    OMP_NUM_THREADS=1 python -m benchmarks.encode_throughput [--quick] [--short] [--encoder NAME]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig

from benchmarks.common.machine import BASE_MODEL, describe, sample_texts
from data.sample.esco import read_skill_names
from llm2vec_core import Encoder
from llm2vec_core.device.memory import CPU_TOKENS
from llm2vec_core.encoding.batching import padded_length, plan_batches
from llm2vec_core.planning.architecture import count_architecture
from llm2vec_core.planning.formulas import Execution, flops_per_token
from llm2vec_core.planning.peak import measure_peak_flops
from llm2vec_core.serving.query_encoder import OnnxEncoder
from llm2vec_core.serving.query_graph import write_query_graph

RESUMES = Path(__file__).parents[2] / "shared" / "data" / "corpora" / "resumes_livecareer.jsonl"
MAX_TOKENS = 2048
SHORT_TOKENS = range(5, 21)
GRAPH_WARM = 24
"""Texts after which ONNX Runtime has arranged the weights."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer texts and rounds")
    parser.add_argument("--short", action="store_true", help="names of skills instead of resumes")
    parser.add_argument("--encoder", default=BASE_MODEL, help="base model to encode with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "encoder"
        Encoder.from_base(arguments.encoder, max_tokens=MAX_TOKENS, device="cpu").save(directory)
        ours = Encoder.load(directory, device="cpu")
        ours_bf16 = Encoder.load(directory, device="cpu", precision="bf16")
        theirs = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
        write_query_graph(lambda: ours, directory, directory)
        graph = OnnxEncoder.load(directory)
        architecture = count_architecture(AutoConfig.from_pretrained(directory))
        if arguments.short:
            texts = short_texts(ours, 200 if arguments.quick else 1000)
            batch_sizes: tuple[int, ...] = (32, 64, 128) if arguments.quick else (32, 64, 128, 512)
        else:
            texts = mixed_texts(20 if arguments.quick else 64)
            batch_sizes = (32, 8) if arguments.quick else (32, 8, 16, 64)
        graph.encode([f"text {number}" for number in range(GRAPH_WARM)])
    sides: dict[str, Callable[[list[str]], np.ndarray]] = {
        "ours": ours.encode,
        "ours, bf16": ours_bf16.encode,
        "ours, graph": graph.encode,
    }
    for batch_size in batch_sizes:
        sides[f"sentence-transformers, batch {batch_size}"] = partial(theirs.encode, batch_size=batch_size)
    for encode in sides.values():
        encode(texts[:2])  # warm, on all sides
    counted = ours.encode_with_counts(texts)
    peak = measure_peak_flops()
    vectors: dict[str, np.ndarray] = {}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(2 if arguments.quick else 3):
        for name, encode in sides.items():
            start = time.process_time()
            vectors[name] = unit(encode(texts))
            seconds[name].append(time.process_time() - start)
    peak = max(peak, measure_peak_flops())
    rates = {name: counted.num_tokens / min(times) for name, times in seconds.items()}
    peers = {name: rate for name, rate in rates.items() if name.startswith("sentence-transformers")}
    execution = Execution(attention="sdpa", device="cpu")
    flops = flops_per_token(
        architecture, None, sequence_tokens=round(counted.num_tokens / len(texts)), execution=execution, scored_share=0
    ).forward
    shares = {"ours": rates["ours"], "graph": rates["ours, graph"], "sentence-transformers": max(peers.values())}
    result = {
        "ratio": rates["ours"] / peers["sentence-transformers, batch 32"],
        "best_ratio": rates["ours"] / max(peers.values()),
        "graph_ratio": rates["ours, graph"] / rates["ours"],
        "bf16_ratio": rates["ours, bf16"] / rates["ours"],
        "bf16_cosine": float((vectors["ours"] * vectors["ours, bf16"]).sum(axis=1).min()),
        "padding_waste": 1 - counted.num_tokens / counted.num_padded_tokens,
        "shard_padding_waste": padding_waste(ours, mixed_texts(2000)),
        "gemm_share": {name: rate * flops / peak / describe()["threads"] for name, rate in shares.items()},
        "max_abs_diff": {name: float(np.abs(vectors["ours"] - vectors[name]).max()) for name in vectors},
        "tokens_per_cpu_s": rates,
        "gemm_peak_gflops": peak / 1e9,
        "texts": len(texts),
        "tokens": counted.num_tokens,
        **describe(),
    }
    print(json.dumps(result))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one, as they are stored."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def padding_waste(encoder: Encoder, texts: list[str]) -> float:
    """Share of padding in the batches in which these texts would be encoded."""
    lengths = [min(MAX_TOKENS, len(token_ids)) for token_ids in encoder.model.tokenizer(texts)["input_ids"]]
    batches = plan_batches(lengths, batch_tokens=CPU_TOKENS)
    num_padded = sum(len(batch) * padded_length(lengths[batch[0]]) for batch in batches)
    return 1 - sum(lengths) / num_padded


def short_texts(encoder: Encoder, count: int) -> list[str]:
    """A seeded sample of names of skills, of 5 to 20 tokens."""
    names = sorted({name for listed in read_skill_names().values() for name in listed})
    lengths = [len(token_ids) for token_ids in encoder.model.tokenizer(names)["input_ids"]]
    fitting = [name for name, length in zip(names, lengths, strict=True) if length in SHORT_TOKENS]
    return random.Random(0).sample(fitting, min(count, len(fitting)))


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

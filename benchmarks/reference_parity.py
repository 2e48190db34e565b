"""Compare vectors of the authors' own package with ours, for the same weights.

``llm2vec`` 0.2.3 needs an old transformers, so it gets its own environment, which a separate step builds:

    python -m benchmarks.reference_parity --build ENV    # once; needs a package index
    python -m benchmarks.reference_parity --env ENV [--write-golden]

Both load a tiny Llama with random weights and a tokenizer that adds BOS: bidirectional, mean pooling, with and without
an instruction. The last line of stdout is one JSON object. ``--write-golden`` keeps model and vectors for
the tests.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llm2vec_core import Encoder

GOLDEN_DIR = Path(__file__).parents[1] / "tests" / "golden" / "llm2vec_reference"
REFERENCE = "llm2vec==0.2.3"
MAX_TOKENS = 200
"""Longer than any text here, because the reference truncates at words, and we at tokens."""

INSTRUCTION = "Given a job title, retrieve similar job titles:"
TEXTS = [
    "AWS and GCP",
    "cloud-based systems",
    "a",
    "Staff nurse on a surgical ward, day and night shifts.",
    "C++ und Türöffner ✓",
    "tabs\tand\nlines",
    "the same words over and over " * 4,
]

_REFERENCE_SCRIPT = """
import json, sys
import torch
from llm2vec import LLM2Vec

asked = json.load(sys.stdin)
model = LLM2Vec.from_pretrained(
    asked["directory"], enable_bidirectional=True, pooling_mode="mean", max_length=asked["max_tokens"],
    doc_max_length=asked["max_tokens"], torch_dtype=torch.float32, attn_implementation=asked["attention"],
)
found = {}
for name, instruction in asked["instructions"].items():
    inputs = [[instruction, text] for text in asked["texts"]]
    found[name] = model.encode(inputs, batch_size=4, show_progress_bar=False, device="cpu").float().tolist()
print(json.dumps(found))
"""


def main() -> None:
    """Build the reference's environment, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, metavar="ENV", help="make the environment of the reference there")
    parser.add_argument("--env", type=Path, metavar="ENV", help="environment of the reference")
    parser.add_argument("--write-golden", action="store_true", help="keep model and vectors for the tests")
    arguments = parser.parse_args()
    if arguments.build:
        build_environment(arguments.build)
        return
    if not arguments.env:
        parser.error("--env ENV is needed; make it with --build ENV")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        write_model(base)
        reference = encode_by_reference(arguments.env, base)
        ours = encode_by_ours(base)
        if arguments.write_golden:
            write_golden(base, reference)
    differences = {name: float(np.abs(ours[name] - reference[name]).max()) for name in reference}
    print(json.dumps({"max_abs_diff": max(differences.values()), **differences, "reference": REFERENCE}))


def build_environment(directory: Path) -> None:
    """Make a virtual environment with the reference in it."""
    venv.create(directory, with_pip=True)
    subprocess.run([directory / "bin" / "pip", "install", "--quiet", REFERENCE], check=True)


def write_model(directory: Path) -> None:
    """Write a two-layer Llama of width 16 with random weights, and a byte tokenizer that adds BOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.save_pretrained(directory)
    # The class has another name in the old transformers that the reference needs.
    settings_path = directory / "tokenizer_config.json"
    settings = json.loads(settings_path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings_path.write_text(json.dumps(settings))


def instructions() -> dict[str, str]:
    """The two variants: without and with an instruction."""
    return {"plain": "", "instructed": INSTRUCTION}


def encode_by_reference(environment: Path, base: Path) -> dict[str, np.ndarray]:
    """Vectors of the reference, in its own environment."""
    asked = {
        "directory": str(base),
        "max_tokens": MAX_TOKENS,
        "attention": "eager",
        "instructions": instructions(),
        "texts": TEXTS,
    }
    done = subprocess.run(
        [environment / "bin" / "python", "-c", _REFERENCE_SCRIPT],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {name: np.array(rows, dtype=np.float32) for name, rows in json.loads(done.stdout.splitlines()[-1]).items()}


def encode_by_ours(base: Path) -> dict[str, np.ndarray]:
    """Our vectors of the same weights; the reference puts one space between instruction and text."""
    encoder = Encoder.from_base(base, max_tokens=MAX_TOKENS, device="cpu")
    return {
        name: encoder.encode(TEXTS, prompt=f"{instruction} " if instruction else None, pool_prompt=False)
        for name, instruction in instructions().items()
    }


def write_golden(base: Path, reference: dict[str, np.ndarray]) -> None:
    """Save the model and the reference's vectors of the texts, by instruction."""
    shutil.rmtree(GOLDEN_DIR, ignore_errors=True)
    shutil.copytree(base, GOLDEN_DIR)
    vectors = {
        instruction: [[round(float(value), 7) for value in row] for row in reference[name]]
        for name, instruction in instructions().items()
    }
    golden = {"reference": REFERENCE, "max_tokens": MAX_TOKENS, "texts": TEXTS, "vectors": vectors}
    (GOLDEN_DIR / "vectors.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

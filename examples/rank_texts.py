"""From a base model to ranked texts: make an encoder, train it on your texts, rank them for a query.

Run it with any decoder: a hub name, a directory, or a bundled name::

    python examples/rank_texts.py --base HuggingFaceTB/SmolLM2-135M "keeps cloud platforms running"
"""

from __future__ import annotations

import argparse

from llm2vec_core import Encoder, Recipe, train

TEXTS = [
    "Site reliability engineer: AWS and GCP, on call for the platform, Terraform.",
    "Registered nurse on an intensive care ward, night shifts, ACLS required.",
    "Pastry chef for a hotel kitchen; croissants at four in the morning.",
    "Data engineer who moves data between warehouses with SQL and Python.",
    "Welder for pipelines in the north; certificates for TIG and MAG.",
    "Teacher of mathematics at a secondary school, two classes of thirty.",
]


def main() -> None:
    """Rank the texts for a query, before and after training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("query")
    parser.add_argument("--base", default="HuggingFaceTB/SmolLM2-135M", help="base model")
    parser.add_argument("--steps", type=int, default=0, help="updates of each training stage; 0: no training")
    parser.add_argument("--save-to", default="my-encoder", help="directory of the trained encoder")
    chosen = parser.parse_args()
    encoder = Encoder.from_base(chosen.base, attention="bidirectional", pooling="mean")  # step 1 of LLM2Vec
    if chosen.steps:
        small = {"steps": chosen.steps, "batch_size": 4, "micro_batch_size": 4}
        recipe = Recipe(
            base_model=chosen.base, mntp=small | {"chunk_tokens": 16}, simcse=small | {"max_tokens": 64, "min_words": 2}
        )
        encoder = train(recipe, TEXTS, save_to=chosen.save_to, show_progress=True)  # steps 2 and 3
    query, *texts = encoder.encode([chosen.query, *TEXTS], long_texts="sections", normalize=True)
    scores = [float(query @ text) for text in texts]
    for score, text in sorted(zip(scores, TEXTS, strict=True), reverse=True):
        print(f"{score:.3f}  {text}")


if __name__ == "__main__":
    main()

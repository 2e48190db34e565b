"""Cost of a night with 1 % or no changed documents, against a night that encodes everything.

    python -m benchmarks.nightly_delta [--quick] [--documents N]

Both sides use the same two-layer random encoder on documents of 150 to 250 words, in one process, one after the other.
A night here is ingest, plan, encode, tables, gate and pointer. ``time_share`` is the changed night's seconds over the
full night's; ``ingest_share`` and ``embed_share`` are those of its two halves, ``cpu_share`` that of its CPU time,
which is more reliable on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

from benchmarks.common.nights import NightFigures, encoded_by, run_night, two_layer_encoder, write_corpus

_HIDDEN_SIZE = 64
_CHANGED = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="100,000 documents instead of 1,000,000")
    parser.add_argument("--documents", type=int, help="another number of documents")
    arguments = parser.parse_args()
    num_documents = arguments.documents or (100_000 if arguments.quick else 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        home, corpus = Path(folder) / "home", Path(folder) / "corpus.jsonl"
        encode = encoded_by(two_layer_encoder(Path(folder), hidden_size=_HIDDEN_SIZE))
        nights: dict[str, NightFigures] = {}
        for name, changed in (("full", 0.0), ("unchanged", 0.0), ("changed", _CHANGED)):
            write_corpus(corpus, num_documents, changed=changed)
            nights[name] = run_night(home, corpus, encode, embedding_dim=_HIDDEN_SIZE)
            print(name, nights[name], flush=True)
    full, unchanged, changed_night = nights["full"], nights["unchanged"], nights["changed"]
    result = {
        "documents": num_documents,
        "encoded_share": changed_night.encoded / full.encoded,
        "time_share": changed_night.seconds / full.seconds,
        "cpu_share": changed_night.cpu_seconds / full.cpu_seconds,
        "ingest_share": changed_night.ingest_seconds / full.ingest_seconds,
        "embed_share": changed_night.embed_seconds / full.embed_seconds,
        "full_seconds": round(full.seconds, 1),
        "changed_seconds": round(changed_night.seconds, 1),
        "unchanged_seconds": round(unchanged.seconds, 2),
        "unchanged_encoder_calls": unchanged.encoder_calls,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

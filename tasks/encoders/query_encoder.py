"""The encoder of queries: a graph that a checkpoint gets when it is promoted, and torch where there is none.

A night with a few new documents encodes them with the graph, too. Never imports prefect.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Float32

from data.documents.headings import SECTION_HEADINGS
from data.schema import DocumentKind
from data.store.base import Store
from llm2vec_core.device.precision import has_gpu_driver
from llm2vec_core.errors import CheckpointError, InputError, MissingPackageError, ParityError
from llm2vec_core.model.modes import LongTexts
from llm2vec_core.serving.query_encoder import QUERY_GRAPH_NAME, QUERY_GRAPH_VERSION, OnnxEncoder
from tasks.encoders.checkpoints import checkpoint_dir, load_encoder
from tasks.run.settings import EncodeSettings

if TYPE_CHECKING:
    from llm2vec_core.encoding.encoder import Encoder

logger = logging.getLogger(__name__)

_REASON_NAME = f"query_encoder.reason-{QUERY_GRAPH_VERSION}"
"""Beside the weights of a checkpoint that has no query encoder: the reason, so that no night tries again."""

_MAX_LOADED = 2

FEW_TEXTS = 32
"""Documents of a shard that the graph encodes. Importing torch takes as long as encoding about so many."""


class QueryEncoder(Protocol):
    """Turns texts into vectors of length one. Threads may share it."""

    def encode(
        self, texts: str | Sequence[str], *, long_texts: LongTexts = "cut"
    ) -> Float32[np.ndarray, "num_texts dim"]:
        """Encode texts; one string is one text."""
        ...

    def __hash__(self) -> int:
        """An encoder is equal to itself only, so that its vectors can be kept."""
        ...


_loading = threading.Lock()
_loaded: dict[str, QueryEncoder] = {}


def load_query_encoder(store: Store, fingerprint: str, settings: EncodeSettings) -> QueryEncoder:
    """Load the encoder of a checkpoint for queries, once per process. If it is torch, the log says why."""
    directory = checkpoint_dir(store, fingerprint)
    with _loading:  # two requests after a promotion load it once
        if str(directory) not in _loaded:
            while len(_loaded) >= _MAX_LOADED:
                _loaded.pop(next(iter(_loaded)))
            reason = store.read(f"checkpoints/{fingerprint}/{_REASON_NAME}")
            try:
                if not (directory / QUERY_GRAPH_NAME).is_file():
                    raise CheckpointError(reason.decode() if reason else "It was promoted by an earlier version.")
                _loaded[str(directory)] = OnnxEncoder.load(directory, headings=SECTION_HEADINGS)
            except (CheckpointError, ImportError) as error:
                logger.info("Torch encodes the query, which takes longer: no query encoder for it. %s", error)
                _loaded[str(directory)] = _OneAtATime(load_encoder(directory, settings))
        return _loaded[str(directory)]


def find_graph(store: Store, fingerprint: str, settings: EncodeSettings, kind: DocumentKind) -> OnnxEncoder | None:
    """The graph of a checkpoint, if it reads documents of a kind as torch would on this machine; otherwise None.

    Its vectors were compared with those of torch in float32 when it was written. They differ as those of two batch
    sizes do, so both may stand in one table, under the same key.
    """
    if settings.settled_precision != "fp32" or settings.prompts.get(kind) or has_gpu_driver():
        return None
    if not (checkpoint_dir(store, fingerprint) / QUERY_GRAPH_NAME).is_file():
        return None
    found = load_query_encoder(store, fingerprint, settings)
    return found if isinstance(found, OnnxEncoder) else None


def keep_query_encoder(store: Store, fingerprint: str, settings: EncodeSettings) -> None:
    """Write the query encoder of a checkpoint that will be served, unless it has one, or can have none.

    A checkpoint without one is served all the same. The vectors are compared on the CPU in float32, as queries are
    encoded.
    """
    directory = f"checkpoints/{fingerprint}"
    if store.exists(f"{directory}/{QUERY_GRAPH_NAME}") or store.exists(f"{directory}/{_REASON_NAME}"):
        return
    from llm2vec_core.serving.query_graph import write_query_graph

    try:
        with store.scratch() as scratch:
            found = write_query_graph(
                lambda: _exact_encoder(store, fingerprint, settings), checkpoint_dir(store, fingerprint), scratch
            )
            store.put_if_absent(f"{directory}/{QUERY_GRAPH_NAME}", scratch / QUERY_GRAPH_NAME)
    except MissingPackageError as error:
        logger.info("Torch will encode queries: %s", error)
    except (InputError, ParityError) as error:
        logger.info("Torch will encode queries: %s", error)
        store.put_if_absent(f"{directory}/{_REASON_NAME}", str(error).encode())
    else:
        logger.info("Wrote the query encoder of %s; largest difference %.0e.", fingerprint[:12], found.max_abs_diff)


def _exact_encoder(store: Store, fingerprint: str, settings: EncodeSettings) -> Encoder:
    """The encoder on the CPU in float32; the one that is loaded, if it is that."""
    directory = checkpoint_dir(store, fingerprint)
    if settings.settled_precision == "fp32":
        loaded = load_encoder(directory, settings)
        if loaded.model.device.type == "cpu":
            return loaded
    from llm2vec_core.encoding.encoder import Encoder

    return Encoder.load(directory, precision="fp32", device="cpu", headings=SECTION_HEADINGS)


class _OneAtATime:
    """An encoder that one thread uses at a time: its tokenizer keeps the truncation of the call as a state."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._encoding = encoder, threading.Lock()

    def encode(
        self, texts: str | Sequence[str], *, long_texts: LongTexts = "cut"
    ) -> Float32[np.ndarray, "num_texts dim"]:
        with self._encoding:
            return self._encoder.encode(texts, long_texts=long_texts, normalize=True)

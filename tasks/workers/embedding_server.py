"""Vectors from an embedding server: vLLM or text-embeddings-inference that serves the converted checkpoint.

A server is proven before it is used: it must give the vectors of this machine's encoder for fixed texts. Each request
repeats one of these texts, so that a server that was replaced meanwhile is found. Tokens are counted, and long texts
are cut, on this machine. Never imports prefect.
"""

from __future__ import annotations

import functools
import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float32

from data.documents.headings import SECTION_HEADINGS
from data.errors import InputError
from data.store.credentials import mask_credentials
from llm2vec_core.encoding.result import Encoding, scaled
from llm2vec_core.serving.parity import LIMITS, PROBE_TEXTS, ParityProbe, compare
from tasks.encoders.checkpoints import load_encoder
from tasks.errors import ServerError
from tasks.run.settings import EncodeSettings

if TYPE_CHECKING:
    from llm2vec_core.encoding.tokenizing import TextTokenizer

logger = logging.getLogger(__name__)

TIMEOUT_S = 600.0
"""Timeout of a request; a server may load its model on the first one."""

TOKEN_VARIABLE = "LLM2VEC_ENCODE_TOKEN"
"""Environment variable with the bearer token of the server, if it asks for one."""

WAITS_S: Sequence[float] = (1.0, 4.0, 15.0, 60.0)
"""Seconds to wait before each further try of a request."""

_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that a later try may not meet."""

_TEXTS_AT_ONCE = 31
"""Texts of a request, beside the text that is proven again. text-embeddings-inference takes 32 by default."""

_REQUESTS_AT_ONCE = 8

_LONG_PROBE = "\n".join(PROBE_TEXTS)
"""A text beyond the length of most encoders, whose parts differ."""


class EmbeddingServer:
    """An encoder that runs behind HTTP, proven against the checkpoint on this machine.

    Vectors of long texts are means of parts of length one, because servers return normalised vectors. So stored
    vectors have a key of their own.
    """

    def __init__(self, directory: Path, encode: EncodeSettings) -> None:
        """Prove the server.

        Args:
            directory: Checkpoint that it serves, converted.
            encode: Settings of encoding, with the URL of the server.

        Raises:
            ServerError: It does not answer, or gives other vectors.
        """
        from llm2vec_core.encoding.chunking import heading_pattern
        from llm2vec_core.encoding.loading import load_tokenizer

        self._url, self._long_texts = str(encode.url), encode.long_texts
        self._tokenizer: TextTokenizer = load_tokenizer(directory)
        self._headings = heading_pattern(SECTION_HEADINGS)
        encoder = load_encoder(directory, encode)
        empty = encoder.empty_token_id
        self._empty_text = "" if empty is None else str(encoder.model.tokenizer.convert_ids_to_tokens(empty))
        self._dim = encoder.embedding_dim
        texts = (*PROBE_TEXTS, _LONG_PROBE)
        expected = encoder.encode(texts, long_texts=encode.long_texts, normalize=True)
        self._canary = self._probe((PROBE_TEXTS[0],), expected[:1])
        self._require_equal(self._probe(texts, expected), self.encode(texts).vectors)
        logger.info("%s gives the vectors of checkpoint %s", mask_credentials(self._url), directory.name[:12])

    def encode(self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None) -> Encoding:
        """Encode texts, long ones in pieces; vectors have length one.

        Args:
            texts: Any number of texts, in any order; equal texts are encoded once.
            on_progress: Called with the number of distinct texts, as soon as all are done.

        Raises:
            ServerError: The server does not answer after several tries, or with other vectors than it was proven with.
        """
        from llm2vec_core.encoding.chunking import read_long_texts

        encoding = read_long_texts(
            texts, self._long_texts, cut=self._pieces, split=self._tokenizer.split, headings=self._headings
        )
        if on_progress is not None:
            on_progress(len(set(texts)))
        return scaled(encoding)

    def _pieces(self, pieces: Sequence[str]) -> Encoding:
        """Vectors of texts that fit the encoder."""
        distinct = list(dict.fromkeys(pieces))
        counts = dict(zip(distinct, self._tokenizer.count(distinct), strict=True))
        sent = [text if counts[text] else self._empty_text for text in distinct]
        groups = [sent[start : start + _TEXTS_AT_ONCE] for start in range(0, len(sent), _TEXTS_AT_ONCE)]
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            rows = [row for vectors in threads.map(self._ask, groups) for row in vectors]
        vector_of = dict(zip(distinct, rows, strict=True))
        read = np.array([max(counts[piece], 1) for piece in pieces], np.int32)
        num_tokens = sum(max(count, 1) for count in counts.values())
        return Encoding(
            vectors=np.array([vector_of[piece] for piece in pieces], np.float32).reshape(len(pieces), self._dim),
            num_tokens=num_tokens,
            num_padded_tokens=num_tokens,
            num_truncated=0,
            read_tokens=read,
            cut_tokens=np.zeros_like(read),
        )

    def _ask(self, texts: Sequence[str]) -> Float32[np.ndarray, "num_texts dim"]:
        """Vectors of length one, after the server has proven one text again."""
        vectors = ask_embeddings(self._url, [self._canary.texts[0], *texts], waits_s=WAITS_S)
        expected = (len(texts) + 1, self._dim)
        if vectors.shape != expected:
            raise ServerError(
                f"{mask_credentials(self._url)} returned vectors of shape {list(vectors.shape)}; expected "
                f"{list(expected)}.",
                hint=_HINT,
            )
        self._require_equal(self._canary, vectors[:1])
        lengths = np.linalg.norm(vectors[1:], axis=1, keepdims=True)
        unit: Float32[np.ndarray, "num_texts dim"] = vectors[1:] / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit

    @staticmethod
    def _probe(texts: tuple[str, ...], vectors: Float32[np.ndarray, "num_texts dim"]) -> ParityProbe:
        return ParityProbe(texts=texts, vectors=tuple(map(tuple, vectors.tolist())), empty_text=None)

    def _require_equal(self, probe: ParityProbe, vectors: Float32[np.ndarray, "num_texts dim"]) -> None:
        agreement = compare(probe, vectors)
        if not agreement.within(LIMITS["float16"]):  # servers compute or cache in half precision
            raise ServerError(
                f"{mask_credentials(self._url)} gives other vectors than the checkpoint: cosine "
                f"{agreement.min_cosine:.4f} for '{agreement.worst_text[:40]}'; expected at least "
                f"{LIMITS['float16'].min_cosine}. Nothing of it is stored.",
                hint=_HINT,
            )


_HINT = 'Serve the directory that `l2v convert` wrote of this checkpoint, or set encode.backend = "local".'


def proven_server(directory: Path, encode: EncodeSettings) -> EmbeddingServer:
    """The server of ``encode.url``, proven once per process and checkpoint; see :class:`EmbeddingServer`."""
    return _proven_server(directory, encode.model_dump_json())


@functools.lru_cache(maxsize=2)
def _proven_server(directory: Path, encode: str) -> EmbeddingServer:
    return EmbeddingServer(directory, EncodeSettings.model_validate_json(encode))


def ask_embeddings(
    url: str, texts: Sequence[str], *, waits_s: Sequence[float] = ()
) -> Float32[np.ndarray, "num_texts dim"]:
    """Ask a server for the vectors of texts.

    Args:
        url: Endpoint of text-embeddings-inference if its path ends with ``/embed``, otherwise of OpenAI's interface.
        texts: Texts that fit the server's limits.
        waits_s: Seconds to wait before each further try of a request that failed for a passing reason.

    Raises:
        InputError: The URL is not one of HTTP.
        ServerError: The server does not answer with embeddings.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(
            f"'{url}' is not an HTTP address.", hint="Pass one such as http://localhost:8000/v1/embeddings."
        )
    is_tei = urlsplit(url).path.rstrip("/").endswith("/embed")
    body: dict[str, Any] = (
        {"inputs": list(texts), "normalize": True, "truncate": False}
        if is_tei
        else {"model": "encoder", "input": list(texts), "encoding_format": "float"}
    )
    for wait_s in (*waits_s, None):
        try:
            answer = _post(url, body)
            rows = answer if is_tei else _in_order(answer["data"])
            return np.array(rows, dtype=np.float32)
        except (OSError, ValueError, http.client.HTTPException, KeyError, TypeError) as error:
            failure = _described(error)
            if wait_s is None or not _may_pass(error):
                raise ServerError(
                    f"{mask_credentials(url)} did not answer with embeddings: {failure}",
                    hint="Start the server (see README.md in the converted directory), and give the URL of its "
                    "/v1/embeddings or /embed.",
                ) from error
            logger.warning("%s failed (%s); next try in %g s", mask_credentials(url), failure, wait_s)
        time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def _post(url: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def _in_order(rows: list[dict[str, Any]]) -> list[list[float]]:
    return [row["embedding"] for row in sorted(rows, key=lambda row: row["index"])]


def _may_pass(error: BaseException) -> bool:
    """Whether a later try may succeed: the server was not reached, is busy, or ended its answer early."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING
    return isinstance(error, OSError | http.client.HTTPException)


def _described(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        with error:
            said = error.read(300).decode(errors="replace").strip()
        return f"HTTP {error.code}: {said}" if said else f"HTTP {error.code}"
    return f"{type(error).__name__}: {error}"

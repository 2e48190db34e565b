"""Encode queries without torch: a checkpoint's ONNX graph, run by ONNX Runtime, with its own tokenizer.

Importing torch and transformers takes most of an interactive command. This module imports neither. The graph returns
what the encoder's pooling returns, so that long texts are read as there. ``query_graph`` writes it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict

from llm2vec_core.encoding.batching import plan_batches
from llm2vec_core.encoding.chunking import heading_pattern, read_long_texts
from llm2vec_core.encoding.result import Encoding, scaled
from llm2vec_core.encoding.tokenizing import TextTokenizer
from llm2vec_core.errors import CheckpointError
from llm2vec_core.model.modes import LongTexts

QUERY_GRAPH_NAME = "query_encoder.onnx"
"""File in the directory of a checkpoint, beside the weights that it names."""

_BATCH_TOKENS = 2048
_TEXTS_WORTH_PACKING = 20
QUERY_GRAPH_VERSION = 1
"""Version of the graph; readers refuse another one."""


class QueryGraph(BaseModel):
    """Record of a query encoder, stored in its graph.

    Attributes:
        fingerprint: Fingerprint of the checkpoint.
        embedding_dim: Length of a vector.
        max_tokens: Longer texts are truncated to this, or read in parts.
        special_tokens: Ids of the tokens ``bos``, ``eos``, ``sep`` and ``pad`` that the tokenizer defines.
        max_abs_diff: Largest difference from the encoder's own vectors, which was found when the graph was written.
        version: :data:`QUERY_GRAPH_VERSION` of the writer.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    embedding_dim: int
    max_tokens: int
    special_tokens: dict[str, int]
    max_abs_diff: float
    version: int = QUERY_GRAPH_VERSION


class OnnxEncoder:
    """Turns texts into vectors of length one, as the encoder of the checkpoint does. Threads may share it.

    Attributes:
        described: Record of the graph.
        texts: Tokenizes texts.
    """

    def __init__(
        self,
        open_session: Callable[[bool], Any],
        tokenizer: Any,  # noqa: ANN401 - ships no types
        *,
        headings: Mapping[str, str] | None = None,
    ) -> None:
        """Use :meth:`load`."""
        self._open_session, self._session = open_session, open_session(False)
        self._num_encoded, self._is_packed, self._packing = 0, False, threading.Lock()
        described = QueryGraph.model_validate_json(self._session.get_modelmeta().custom_metadata_map[QUERY_GRAPH_NAME])
        self.described = described
        self.texts = TextTokenizer(
            _PlainTokenizer(tokenizer, described.special_tokens),
            max_tokens=described.max_tokens,
            pooling_mode=None,
            echo=False,
        )
        self._headings = heading_pattern(headings)

    @classmethod
    def load(
        cls, directory: Path, *, graph: Path | None = None, headings: Mapping[str, str] | None = None
    ) -> OnnxEncoder:
        """Load the query encoder of a checkpoint.

        Args:
            directory: Directory of the checkpoint.
            graph: The graph, if it lies elsewhere.
            headings: Headings of sections, as for :meth:`llm2vec_core.encoding.encoder.Encoder.load`.

        Raises:
            ImportError: ONNX Runtime is not installed.
            CheckpointError: The graph cannot be used.
        """
        import onnxruntime
        from tokenizers import Tokenizer

        path = graph or directory / QUERY_GRAPH_NAME

        def open_session(is_packed: bool) -> Any:  # noqa: ANN401
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.log_severity_level = 3
            # Files of weights are found beside the model's path; given as bytes, the folder is an option.
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(directory))
            options.add_session_config_entry("session.disable_prepacking", "0" if is_packed else "1")
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads wait without a core
            return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

        try:
            tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            found = cls(open_session, tokenizer, headings=headings)
        except Exception as error:  # the runtime's and the tokenizer's own errors have no common base
            raise CheckpointError(
                f"{path} cannot be used: {error}", hint="Remove it; the next night writes it."
            ) from error
        if found.described.version != QUERY_GRAPH_VERSION:
            raise CheckpointError(
                f"{path} has version {found.described.version}; expected {QUERY_GRAPH_VERSION}.",
                hint="Remove it; the next night writes it.",
            )
        return found

    def encode(
        self, texts: str | Sequence[str], *, long_texts: LongTexts = "cut"
    ) -> Float32[np.ndarray, "num_texts dim"]:
        """Encode texts; one string is one text.

        Args:
            texts: Any number of texts.
            long_texts: Treatment of long texts, as in :meth:`llm2vec_core.encoding.encoder.Encoder.encode`.
        """
        return self.encode_with_counts([texts] if isinstance(texts, str) else texts, long_texts=long_texts).vectors

    def encode_with_counts(
        self, texts: Sequence[str], *, long_texts: LongTexts = "cut", on_progress: Callable[[int], None] | None = None
    ) -> Encoding:
        """Encode texts like :meth:`encode`; also return the numbers of tokens and of truncated texts.

        Args:
            texts: Any number of texts.
            long_texts: As for :meth:`encode`.
            on_progress: Called with the number of texts, at the end.
        """
        found = read_long_texts(texts, long_texts, cut=self._cut, split=self.texts.split, headings=self._headings)
        if on_progress is not None:
            on_progress(len(texts))
        return scaled(found)

    def _pack_if_worthwhile(self, num_texts: int) -> None:
        """Arrange the weights for faster products once many texts were encoded.

        It takes a second for 135M parameters and saves 0.02 s of each short text, so a single query does without.
        """
        with self._packing:
            self._num_encoded += num_texts
            if self._num_encoded > _TEXTS_WORTH_PACKING and not self._is_packed:
                self._session, self._is_packed = self._open_session(True), True

    def _cut(self, texts: Sequence[str]) -> Encoding:
        """Pooled vectors of texts, each truncated to the limit."""
        distinct = list(dict.fromkeys(texts))
        tokenized = self.texts.texts(distinct)
        lengths = [len(ids) for ids in tokenized.token_ids]
        vectors = np.empty((len(distinct), self.described.embedding_dim), np.float32)
        self._pack_if_worthwhile(len(distinct))
        num_padded = 0
        for batch in plan_batches(lengths, batch_tokens=_BATCH_TOKENS):
            num_padded += len(batch) * lengths[batch[0]]
            ids = np.full((len(batch), lengths[batch[0]]), self.described.special_tokens.get("pad", 0))
            mask = np.zeros_like(ids)
            for row, at in enumerate(batch):
                ids[row, : lengths[at]] = tokenized.token_ids[at]
                mask[row, : lengths[at]] = 1
            (vectors[batch],) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        place = {text: number for number, text in enumerate(distinct)}
        order = [place[text] for text in texts]
        return Encoding(
            vectors[order],
            sum(lengths),
            num_padded,
            tokenized.num_truncated,
            read_tokens=np.array(lengths, np.int32)[order],
            cut_tokens=np.array(tokenized.num_cut, np.int32)[order],
        )


class _PlainTokenizer:
    """A tokenizer of the package ``tokenizers`` with the calls of transformers' that ``TextTokenizer`` makes.

    Truncation is a state of a tokenizer, which threads must not change. So each limit has a copy of its own.
    """

    is_fast = True

    def __init__(self, tokenizer: Any, special_tokens: Mapping[str, int]) -> None:  # noqa: ANN401
        self._tokenizer, self._special_tokens = tokenizer, special_tokens
        self._limited: dict[int, Any] = {}
        self._copying = threading.Lock()

    @property
    def eos_token_id(self) -> int | None:
        return self._special_tokens.get("eos")

    @property
    def pad_token_id(self) -> int | None:
        return self._special_tokens.get("pad")

    def __call__(
        self, texts: str | list[str], *, truncation: bool = False, max_length: int | None = None, **_: object
    ) -> dict[str, Any]:
        """Token ids, marks of special tokens, and characters of one or several texts."""
        tokenizer = self._limited_to(max_length) if truncation and max_length is not None else self._tokenizer
        found = tokenizer.encode_batch([texts] if isinstance(texts, str) else texts)
        columns = {
            "input_ids": [each.ids for each in found],
            "special_tokens_mask": [each.special_tokens_mask for each in found],
            "offset_mapping": [each.offsets for each in found],
        }
        return {name: column[0] for name, column in columns.items()} if isinstance(texts, str) else columns

    def _limited_to(self, max_tokens: int) -> Any:  # noqa: ANN401
        with self._copying:
            if max_tokens not in self._limited:
                from tokenizers import Tokenizer

                copied = Tokenizer.from_str(self._tokenizer.to_str())
                copied.enable_truncation(max_tokens)
                self._limited[max_tokens] = copied
            return self._limited[max_tokens]

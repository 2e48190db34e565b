"""The encoder: texts in, vectors out.

One path for every model that sentence-transformers can load: our checkpoints, MiniLM, any other directory. As saved,
vectors equal those of ``SentenceTransformer.encode``; what is ours is the batching (token budget, sorted by length,
equal texts encoded once), that nothing happens silently (truncation is counted, the attention is probed), and that one
directory can be read in several ways (``modes.EncoderView``) without a copy of its weights.

Does not belong here: tokens and which of them are pooled (``tokenizing``), the pooling itself (``pooling``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32

from llm2vec_core.architectures import apply_attention
from llm2vec_core.batching import LENGTH_MULTIPLE, padded_length, plan_batches
from llm2vec_core.bidirectional import saved_attention
from llm2vec_core.checkpoint import RECORD_NAME, fingerprint, read_record, require_encoder_directory
from llm2vec_core.encoding import Encoding
from llm2vec_core.errors import CheckpointError
from llm2vec_core.modes import Attention, EncoderView, PoolingMode, view_fingerprint
from llm2vec_core.pooling import pooled_mask, pooling_position, replace_pooling, require_pooling, saved_pooling_mode
from llm2vec_core.tokenizing import TextTokenizer, TokenizedWords

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

DEFAULT_TOKEN_BUDGET = 4096
"""Padded tokens per forward pass: enough to keep two cores busy at under 1 GB for a model of 135M parameters."""


class Encoder:
    """Encodes texts with a sentence-transformers model.

    Args:
        model: Loaded model: a transformer, a pooling module, and whatever follows.
        fingerprint: Identity of weights, tokenizer and view; vectors of different fingerprints must never be compared.
        attention: What the transformer does.
        pooling_mode: What the pooling module does, and ``eos`` that an EOS token is put behind every text; None for a
            pooling that has no name here, such as CLS.
        echo: Whether every text is read twice and only the second copy pooled.
        token_budget: Padded tokens of one forward pass, at most.

    Raises:
        CheckpointError: Echo, and the model has no pooling module.
        InputError: EOS pooling, and the tokenizer has no token that ends a text.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        fingerprint: str,
        attention: Attention,
        pooling_mode: PoolingMode | None,
        echo: bool = False,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
    ) -> None:
        """Take a loaded model; :meth:`load` is the usual way."""
        self._model = model.eval()
        self._tokenizer = model.tokenizer
        position = require_pooling(model, name=fingerprint) if echo else pooling_position(model)
        modules = list(model)
        self._before_pooling, self._from_pooling = modules[:position], [] if position is None else modules[position:]
        self.fingerprint = fingerprint
        self.attention = attention
        self.pooling_mode = pooling_mode
        self.echo = echo
        self.token_budget = token_budget
        self.embedding_dim: int = model.get_embedding_dimension()
        self.max_tokens: int = min(model.max_seq_length or 512, 100_000)
        # A directory can say that prompts are never pooled, as those of INSTRUCTOR do.
        self._pools_prompts: bool = position is None or model[position].include_prompt
        self._texts = TextTokenizer(self._tokenizer, max_tokens=self.max_tokens, pooling_mode=pooling_mode, echo=echo)

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        device: str | None = None,
        view: EncoderView | None = None,
    ) -> Encoder:
        """Load a checkpoint or any other sentence-transformers directory.

        Args:
            directory: The encoder as it was saved.
            token_budget: Padded tokens of one forward pass, at most.
            device: Where the model runs; the best there is by default.
            view: How the encoder is read where that differs from how it was saved.

        Raises:
            CheckpointError: The directory is incomplete, or has no pooling that the view could replace.
            BaseModelError: Its configuration states an attention that the loaded model does not show, or the model
                does not follow the attention of the view.
            InputError: EOS pooling, and the tokenizer has no token that ends a text.
        """
        require_encoder_directory(directory)
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(str(directory), local_files_only=True, device=device)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{directory} could not be loaded as an encoder: {str(error).splitlines()[0]}",
                hint="Restore the directory, or build the checkpoint again.",
            ) from error
        identity = read_record(directory).fingerprint if (directory / RECORD_NAME).is_file() else fingerprint(directory)
        attention = saved_attention(model[0].model, name=directory.name)
        pooling_mode = saved_pooling_mode(model)
        changes = (view or EncoderView()).changes(attention=attention, pooling_mode=pooling_mode)
        if changes.attention is not None:
            apply_attention(model[0].model, changes.attention, name=directory.name)
        if changes.pooling_mode is not None:
            replace_pooling(model, changes.pooling_mode, name=directory.name)
        return cls(
            model,
            fingerprint=view_fingerprint(identity, changes, attention=attention, pooling_mode=pooling_mode),
            attention=changes.attention or attention,
            pooling_mode=changes.pooling_mode or pooling_mode,
            echo=changes.echo,
            token_budget=token_budget,
        )

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        pool_prompt: bool = True,
        normalize: bool = False,
    ) -> Float32[np.ndarray, "num_texts embedding_dim"]:
        """Encode texts; one string is one text.

        Args:
            texts: Any number of texts, in any order.
            prompt: Put before every text, as it is.
            pool_prompt: Whether the prompt's tokens are pooled, too (see :meth:`encode_counted`).
            normalize: Scale every vector to length one.
        """
        return self.encode_counted(
            [texts] if isinstance(texts, str) else texts, prompt=prompt, pool_prompt=pool_prompt, normalize=normalize
        ).vectors

    @torch.inference_mode()
    def encode_counted(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        pool_prompt: bool = True,
        normalize: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoding:
        """Encode texts and count what it took.

        Args:
            texts: Any number of texts, in any order; equal texts are encoded once.
            prompt: Put before every text, as it is. An echo has it once, in front, and never pools it.
            pool_prompt: Whether the prompt's tokens, and those that the tokenizer adds in front of it (BOS), are
                pooled, too. Otherwise they are only attended to; a token that covers the border belongs to the text.
                Off in any case where the directory says so.
            normalize: Scale every vector to length one.
            on_progress: Called with the number of distinct texts just finished.

        Raises:
            InputError: Echo, and the encoder's ``max_tokens`` leaves no room for two copies.
        """
        distinct = list(dict.fromkeys(texts))
        tokenized = self._texts.texts(distinct, prompt=prompt or "", pool_prompt=pool_prompt and self._pools_prompts)
        lengths = [len(ids) for ids in tokenized.token_ids]
        vectors = np.empty((len(distinct), self.embedding_dim), dtype=np.float32)
        num_padded_tokens = 0
        for batch in plan_batches(lengths, token_budget=self.token_budget):
            vectors[batch] = self._pool(
                [tokenized.token_ids[index] for index in batch], [tokenized.pooled[index] for index in batch]
            )
            num_padded_tokens += len(batch) * padded_length(lengths[batch[0]])
            if on_progress is not None:
                on_progress(len(batch))
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        row_of = {text: row for row, text in enumerate(distinct)}
        return Encoding(
            vectors[[row_of[text] for text in texts]], sum(lengths), num_padded_tokens, tokenized.num_truncated
        )

    @torch.inference_mode()
    def encode_words(
        self,
        sentences: Sequence[Sequence[str]],
        *,
        label_shift: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Float32[np.ndarray, "num_words hidden_size"]:
        """Hidden states of words in their sentences: of the last layer, the mean over each word's tokens.

        The view's attention counts; pooling and echo have no part in it. In front of every sentence stands a BOS token
        (an EOS token where there is no BOS; what the tokenizer itself adds, where it does), with and without shift.

        Args:
            sentences: Words of each sentence; they are joined by single spaces.
            label_shift: Read every token of a word from the state of the token before it: a model that was trained by
                MNTP predicts a token there.
            on_progress: Called with the number of sentences just finished.

        Returns:
            One row per word, all words of all sentences in order. A word that is cut off, or has no token, gets the
            last state of its sentence; how many there are is logged.

        Raises:
            InputError: The tokenizer has no token to put in front, or does not know which characters a token covers.

        Source: LLM2Vec section 3.1 and appendix on word-level tasks (mean over sub-words, states one token earlier).
        """
        tokenized = self._texts.sentences(sentences, label_shift=label_shift)
        num_unread = sum(sentence.num_unread for sentence in tokenized)
        ends = np.cumsum([len(words) for words in sentences], dtype=int)
        num_words = int(ends[-1]) if len(ends) else 0
        if num_unread:
            logger.warning(
                "%d of %d words lie beyond %d tokens or have no token; they get the last state of their sentence",
                num_unread,
                num_words,
                self.max_tokens,
            )
        states = np.empty((num_words, self._model[0].get_embedding_dimension()), dtype=np.float32)
        lengths = [len(sentence.token_ids) for sentence in tokenized]
        for batch in plan_batches(lengths, token_budget=self.token_budget):
            rows = [np.arange(ends[index] - len(sentences[index]), ends[index]) for index in batch]
            states[np.concatenate(rows)] = self._read_words(
                [tokenized[index] for index in batch], [len(sentences[index]) for index in batch]
            )
            if on_progress is not None:
                on_progress(len(batch))
        return states

    def _pool(self, token_ids: list[list[int]], pooled: list[range]) -> Float32[np.ndarray, "batch embedding_dim"]:
        features = self._token_states(token_ids)
        if self._from_pooling:
            features["attention_mask"] = pooled_mask(features["attention_mask"], pooled)
        for module in self._from_pooling:
            features = module(features)
        return _to_numpy(features["sentence_embedding"])

    def _read_words(
        self, sentences: list[TokenizedWords], num_words: list[int]
    ) -> Float32[np.ndarray, "num_words hidden_size"]:
        """Mean state of each word of a batch, its sentences one after the other."""
        features = self._token_states([sentence.token_ids for sentence in sentences])
        states = features["token_embeddings"].float()
        first_token = features["attention_mask"].argmax(dim=1).tolist()  # behind the padding, if that is on the left
        first_word = np.cumsum([0, *num_words])
        reads = [
            (row, first_token[row] + position, int(first_word[row]) + word)
            for row, sentence in enumerate(sentences)
            for position, word in zip(sentence.positions, sentence.words, strict=True)
        ]
        rows, columns, words = torch.tensor(reads, dtype=torch.long, device=states.device).reshape(-1, 3).unbind(1)
        sums = states.new_zeros((int(first_word[-1]), states.shape[-1])).index_add_(0, words, states[rows, columns])
        return _to_numpy(sums / torch.bincount(words, minlength=len(sums)).unsqueeze(1))

    def _token_states(self, token_ids: list[list[int]]) -> dict[str, Any]:
        """Features of a batch after the modules in front of the pooling: hidden states and attention mask."""
        padded = self._tokenizer.pad(
            {"input_ids": token_ids}, padding=True, pad_to_multiple_of=LENGTH_MULTIPLE, return_tensors="pt"
        )
        features: dict[str, Any] = {name: tensor.to(self._model.device) for name, tensor in padded.items()}
        for module in self._before_pooling:
            features = module(features)
        return features


def _to_numpy(tensor: torch.Tensor) -> Float32[np.ndarray, "batch dim"]:
    return np.asarray(tensor.float().cpu().numpy(), dtype=np.float32)

"""The encoder: texts in, vectors out.

One path for every model that sentence-transformers can load: our checkpoints, MiniLM, any other directory. As saved,
vectors equal those of ``SentenceTransformer.encode``; what is ours is the batching (token budget, sorted by length,
equal texts encoded once), that nothing happens silently (truncation is counted, the attention is probed), and that one
directory can be read in several ways (``modes.EncoderView``) without a copy of its weights, several of them in one
forward pass.

Does not belong here: tokens and which of them are pooled (``tokenizing``), the pooling itself (``pooling``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32

from llm2vec_core.encoding.batching import LENGTH_MULTIPLE, padded_length, plan_batches
from llm2vec_core.encoding.chunking import split_sections
from llm2vec_core.encoding.result import Encoding
from llm2vec_core.encoding.tokenizing import TextTokenizer, TokenizedWords
from llm2vec_core.errors import CheckpointError, InputError
from llm2vec_core.model.architectures import apply_attention, state_width
from llm2vec_core.model.bidirectional import saved_attention
from llm2vec_core.model.checkpoint import RECORD_NAME, fingerprint, read_record, require_encoder_directory
from llm2vec_core.model.modes import Attention, EncoderView, LongTexts, PoolingMode, Precision, view_fingerprint
from llm2vec_core.model.pooling import pooled_mask, pooling_position, require_pooling, saved_pooling_mode, with_pooling
from llm2vec_core.model.standardisation import is_standardisation, standardisation_module

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
        self.standardised = is_standardisation(modules[-1])
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
        precision: Precision = "fp32",
        device: str | None = None,
        view: EncoderView | None = None,
        calibration: Sequence[str] = (),
    ) -> Encoder:
        """Load a checkpoint or any other sentence-transformers directory.

        Args:
            directory: The encoder as it was saved.
            token_budget: Padded tokens of one forward pass, at most.
            precision: Of the transformer; what it hands on is pooled in fp32 either way.
            device: Where the model runs; the best there is by default.
            view: How the encoder is read where that differs from how it was saved.
            calibration: Texts that a standardised view is measured on.

        Raises:
            CheckpointError: The directory is incomplete, wraps its texts in a chat template, or has no pooling that the
                view could replace.
            BaseModelError: Its configuration states an attention that the loaded model does not show, or the model
                does not follow the attention of the view.
            InputError: EOS pooling, and the tokenizer has no token that ends a text; or a standardised view, and too
                few calibration texts.
        """
        (encoder,) = cls.load_views(
            directory,
            [view or EncoderView()],
            token_budget=token_budget,
            precision=precision,
            device=device,
            calibration=calibration,
        )
        return encoder

    @classmethod
    def load_views(
        cls,
        directory: Path,
        views: Sequence[EncoderView],
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        precision: Precision = "fp32",
        device: str | None = None,
        calibration: Sequence[str] = (),
    ) -> list[Encoder]:
        """Load a directory once and read it in several ways, over one copy of its weights.

        Args:
            directory: The encoder as it was saved.
            views: Ways to read it, all with the same attention, since that is the transformer's own.
            token_budget: Padded tokens of one forward pass, at most.
            precision: Of the transformer; what it hands on is pooled in fp32 either way.
            device: Where the model runs; the best there is by default.
            calibration: Texts that standardised views are measured on.

        Raises:
            CheckpointError: As :meth:`load`.
            BaseModelError: As :meth:`load`.
            InputError: As :meth:`load`; or the views have different attentions.
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
        if "message" in getattr(model[0], "modality_config", {}):
            raise CheckpointError(
                f"{directory.name} was saved to read every text within the chat template of its tokenizer; an encoder "
                "that reads texts as they are was expected.",
                hint="Train it again, or remove `message` from modality_config in its sentence_bert_config.json.",
            )
        identity = read_record(directory).fingerprint if (directory / RECORD_NAME).is_file() else fingerprint(directory)
        attention = saved_attention(model[0].model, name=directory.name)
        pooling_mode = saved_pooling_mode(model)
        standardised = is_standardisation(list(model)[-1])
        changes = [
            view.changes(attention=attention, pooling_mode=pooling_mode, standardised=standardised) for view in views
        ]
        if len({change.attention for change in changes}) > 1:
            raise InputError(
                f"{directory.name} cannot be read causally and bidirectionally over one copy of its weights.",
                hint="Load it once for each attention.",
            )
        if changes[0].attention is not None:
            apply_attention(model[0].model, changes[0].attention, name=directory.name)
        if precision == "bf16":
            model[0].to(torch.bfloat16)

        def read_as(change: EncoderView) -> Encoder:
            modules = list(model)
            if change and standardised:
                modules.pop()
            if change.pooling_mode is not None:
                modules = with_pooling(modules, change.pooling_mode, name=directory.name)
            if change.standardised:
                plain = read_as(replace(change, standardised=False))
                modules.append(standardisation_module(plain.encode(list(dict.fromkeys(calibration)))))
            viewed = SentenceTransformer(modules=modules, device=str(model.device)) if change else model
            for module in list(viewed)[1:]:
                module.float()  # it has been given the type of the first one
            return cls(
                viewed,
                fingerprint=view_fingerprint(identity, change, calibration=calibration),
                attention=change.attention or attention,
                pooling_mode=change.pooling_mode or pooling_mode,
                echo=change.echo,
                token_budget=token_budget,
            )

        return [read_as(change) for change in changes]

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        pool_prompt: bool = True,
        normalize: bool = False,
        dim: int | None = None,
    ) -> Float32[np.ndarray, "num_texts dim"]:
        """Encode texts; one string is one text.

        Args:
            texts: Any number of texts, in any order.
            prompt: Put before every text, as it is.
            pool_prompt: Whether the prompt's tokens are pooled, too (see :meth:`encode_counted`).
            normalize: Scale every vector to length one.
            dim: Keep so many leading dimensions, for an encoder with Matryoshka training; all when not given.

        Raises:
            InputError: As :meth:`encode_counted`; or ``dim`` is more than there is.
        """
        if dim is not None and not 1 <= dim <= self.embedding_dim:
            raise InputError(
                f"{dim} dimensions were asked for; the vectors of this encoder have {self.embedding_dim}.",
                hint=f"Ask for 1 to {self.embedding_dim}.",
            )
        listed = [texts] if isinstance(texts, str) else texts
        vectors = self.encode_counted(listed, prompt=prompt, pool_prompt=pool_prompt).vectors[:, :dim]
        return _normalized(vectors) if normalize else vectors

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
                pooled, too. Otherwise they are only attended to, as the authors of LLM2Vec do it; a token that covers
                the border belongs to the text. A prompt is never pooled where the directory says so.
            normalize: Scale every vector to length one.
            on_progress: Called with the number of distinct texts just finished.

        Raises:
            InputError: Echo, and the encoder's ``max_tokens`` leaves no room for two copies.
        """
        (encoding,) = encode_together([self], texts, prompt=prompt, pool_prompt=pool_prompt, on_progress=on_progress)
        return replace(encoding, vectors=_normalized(encoding.vectors)) if normalize else encoding

    def encode_in_parts(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        pool_prompt: bool = True,
        normalize: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoding:
        """Encode texts without cutting any off: a long one in parts, its vector the mean of theirs.

        Parts count by their characters, so that a short rest does not weigh as much as a full part. A text that fits
        gets the vector that :meth:`encode_counted` gives it.

        Args:
            texts: Any number of texts, in any order.
            prompt: Put before every part, as it is.
            pool_prompt: As for :meth:`encode_counted`.
            normalize: Scale every vector to length one.
            on_progress: Called with the number of distinct parts just finished.

        Raises:
            InputError: The prompt leaves no room for a text, or the tokenizer does not know which characters a token
                covers.
        """
        parts = {text: self._texts.split(text, prompt=prompt or "") for text in dict.fromkeys(texts)}
        encoding = self.encode_counted(
            [part for listed in parts.values() for part in listed],
            prompt=prompt,
            pool_prompt=pool_prompt,
            on_progress=on_progress,
        )
        weights = {text: [max(len(part), 1) for part in listed] for text, listed in parts.items()}
        vectors = _mean_of_pieces(encoding.vectors, texts, weights=weights)
        return replace(encoding, vectors=_normalized(vectors) if normalize else vectors)

    @property
    def model(self) -> SentenceTransformer:
        """The modules as this encoder reads them; what happens to the tokens (echo, EOS) is not among them."""
        return self._model

    @property
    def end_token_id(self) -> int | None:
        """Token that EOS pooling puts behind every text; None where nothing is put there."""
        return self._texts.end_token_id

    @property
    def empty_token_id(self) -> int | None:
        """Token that an empty text is read as; None where the tokenizer gives it tokens of its own."""
        return self._texts.empty_token_id

    def split(self, text: str) -> list[str]:
        """A text in parts that the encoder reads whole; the text itself where it fits.

        Raises:
            InputError: The tokenizer does not know which characters a token covers.
        """
        return self._texts.split(text)

    def encode_in_sections(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        pool_prompt: bool = True,
        normalize: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoding:
        """Encode resumes and postings by sections: the vector of a text is the mean of those of its sections.

        Each section counts the same, however long: the skills that a resume lists as much as all of its positions.
        A text without headings is one section; a long section is encoded in parts.

        Args:
            texts: Any number of texts, in any order.
            prompt: Put before every section, as it is.
            pool_prompt: As for :meth:`encode_counted`.
            normalize: Scale every vector to length one.
            on_progress: Called with the number of distinct parts just finished.

        Raises:
            InputError: As :meth:`encode_in_parts`.
        """
        sections = {text: split_sections(text) for text in dict.fromkeys(texts)}
        encoding = self.encode_in_parts(
            [section for listed in sections.values() for section in listed],
            prompt=prompt,
            pool_prompt=pool_prompt,
            normalize=True,
            on_progress=on_progress,
        )
        weights = {text: [1] * len(listed) for text, listed in sections.items()}
        vectors = _mean_of_pieces(encoding.vectors, texts, weights=weights)
        return replace(encoding, vectors=_normalized(vectors) if normalize else vectors)

    def reader_of(self, long_texts: LongTexts) -> Callable[..., Encoding]:
        """How texts are encoded where long ones are cut, read in parts, or by sections."""
        readers: dict[LongTexts, Callable[..., Encoding]] = {
            "cut": self.encode_counted,
            "parts": self.encode_in_parts,
            "sections": self.encode_in_sections,
        }
        return readers[long_texts]

    def shares_pass_with(self, other: Encoder) -> bool:
        """Whether one forward pass serves both: equal transformer, equal tokens, equal tokens pooled.

        EOS pooling has a pass of its own: the token that it adds is seen by all others.
        """
        return (
            self._before_pooling == other._before_pooling
            and bool(self._before_pooling)
            and (self.echo, self.pooling_mode == "eos", self._pools_prompts, self.token_budget)
            == (other.echo, other.pooling_mode == "eos", other._pools_prompts, other.token_budget)
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
        states = np.empty((num_words, state_width(self._model[0].model.config)), dtype=np.float32)
        lengths = [len(sentence.token_ids) for sentence in tokenized]
        for batch in plan_batches(lengths, token_budget=self.token_budget):
            rows = [np.arange(ends[index] - len(sentences[index]), ends[index]) for index in batch]
            states[np.concatenate(rows)] = self._read_words(
                [tokenized[index] for index in batch], [len(sentences[index]) for index in batch]
            )
            if on_progress is not None:
                on_progress(len(batch))
        return states

    def _pool(self, states: dict[str, Any], pooled: list[range]) -> Float32[np.ndarray, "batch embedding_dim"]:
        """Vectors of a batch from the states of its tokens, which stay as they are."""
        features = dict(states)
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
        states = features["token_embeddings"]
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
        features["token_embeddings"] = features["token_embeddings"].float()
        return features


@torch.inference_mode()
def encode_together(
    encoders: Sequence[Encoder],
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    pool_prompt: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> list[Encoding]:
    """Encode texts by several encoders in one forward pass.

    Args:
        encoders: One, or several that share their pass (:meth:`Encoder.shares_pass_with`).
        texts: Any number of texts, in any order; equal texts are encoded once.
        prompt: As for :meth:`Encoder.encode_counted`.
        pool_prompt: As for :meth:`Encoder.encode_counted`.
        on_progress: Called with the number of distinct texts just finished.

    Returns:
        What each encoder makes of the texts; the counts are those of the one pass.

    Raises:
        InputError: Echo, and ``max_tokens`` leaves no room for two copies.
    """
    first = encoders[0]
    assert all(first.shares_pass_with(other) for other in encoders[1:]), "these encoders need passes of their own"
    distinct = list(dict.fromkeys(texts))
    # A directory that leaves prompts out says nothing of what stands in front of a text without one.
    pools_prompt = pool_prompt and (first._pools_prompts or not prompt)
    tokenized = first._texts.texts(distinct, prompt=prompt or "", pool_prompt=pools_prompt)
    lengths = [len(ids) for ids in tokenized.token_ids]
    vectors = [np.empty((len(distinct), encoder.embedding_dim), dtype=np.float32) for encoder in encoders]
    num_padded_tokens = 0
    for batch in plan_batches(lengths, token_budget=first.token_budget):
        states = first._token_states([tokenized.token_ids[index] for index in batch])
        pooled = [tokenized.pooled[index] for index in batch]
        for encoder, rows in zip(encoders, vectors, strict=True):
            rows[batch] = encoder._pool(states, pooled)
        num_padded_tokens += len(batch) * padded_length(lengths[batch[0]])
        if on_progress is not None:
            on_progress(len(batch))
    row_of = {text: row for row, text in enumerate(distinct)}
    order = [row_of[text] for text in texts]
    return [Encoding(rows[order], sum(lengths), num_padded_tokens, tokenized.num_truncated) for rows in vectors]


def _mean_of_pieces(
    pieces: Float32[np.ndarray, "num_pieces dim"], texts: Sequence[str], *, weights: Mapping[str, Sequence[int]]
) -> Float32[np.ndarray, "num_texts dim"]:
    """Vector of each text from those of its pieces.

    Args:
        pieces: Vectors of the pieces of all distinct texts, one text after the other.
        texts: Any of them, in any order.
        weights: Of the pieces of each distinct text, in the order of ``pieces``.
    """
    borders = pairwise(np.cumsum([0, *map(len, weights.values())]))
    means = {
        text: np.average(pieces[start:end], axis=0, weights=of_text)
        for (text, of_text), (start, end) in zip(weights.items(), borders, strict=True)
    }
    return np.array([means[text] for text in texts], dtype=np.float32).reshape(len(texts), pieces.shape[1])


def _normalized(vectors: Float32[np.ndarray, "num_texts dim"]) -> Float32[np.ndarray, "num_texts dim"]:
    """Vectors of length one; one of length zero stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float32[np.ndarray, "num_texts dim"] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def _to_numpy(tensor: torch.Tensor) -> Float32[np.ndarray, "batch dim"]:
    return np.asarray(tensor.float().cpu().numpy(), dtype=np.float32)

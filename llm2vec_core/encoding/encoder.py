"""The encoder: texts in, vectors out.

One path for every model that sentence-transformers can load: our checkpoints, MiniLM, any other directory. The vectors
equal those of ``SentenceTransformer.encode``. We add three things: batches under a token budget with equal texts
encoded once; nothing happens silently (truncation is counted, the attention is proved); and one directory can be read
in several ways (:class:`~llm2vec_core.model.modes.EncoderView`) without a copy of its weights.

Does not belong here: tokens (``tokenizing``), the pass through the model (``forward``), and reading weights
(``loading``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32
from tqdm.auto import tqdm

from llm2vec_core.encoding.chunking import encode_pieces, heading_pattern, split_sections
from llm2vec_core.encoding.forward import ForwardPass, run_together
from llm2vec_core.encoding.loading import LoadedModel, assemble_model, load_model
from llm2vec_core.encoding.result import Encoding
from llm2vec_core.encoding.words import read_words
from llm2vec_core.errors import InputError
from llm2vec_core.model.architectures import apply_attention, base_attention, transformer_directory
from llm2vec_core.model.base_models import fetch_base_model, holds_base_model, short_name, user_cache_dir
from llm2vec_core.model.checkpoint import CheckpointRecord, EncoderSpec, write_encoder
from llm2vec_core.model.modes import (
    INSTRUCTED,
    Attention,
    EncoderName,
    EncoderView,
    LongTexts,
    PoolingMode,
    Precision,
    parse_encoder_name,
    view_fingerprint,
)
from llm2vec_core.model.standardisation import is_standardisation, standardisation_module

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_BATCH_TOKENS = 4096
"""Padded tokens per forward pass: enough to keep two cores busy at under 1 GB for a model of 135M parameters."""

DEFAULT_MAX_TOKENS = 512
"""Tokens that an encoder made of a base model reads of a text."""


class Encoder:
    """Turns texts into vectors. Make one with :meth:`from_base`, :meth:`load`, or :func:`llm2vec_core.train`.

    Attributes:
        name: Where it is from, for messages and reports.
        spec: What it is made of; None for a pooling that has no name here.
        fingerprint: Identity of weights, tokenizer and view. Never compare vectors of different fingerprints.
        attention: Attention of the transformer.
        pooling_mode: How hidden states become one vector; None for a pooling that has no name here, such as CLS.
        echo: Whether every text is read twice and only the second copy pooled.
        standardised: Whether the mean and deviation of each dimension are taken out of the vectors.
        embedding_dim: Length of a vector.
        max_tokens: Longer texts are cut here, or encoded in pieces (``long_texts``).
        batch_tokens: Padded tokens of one forward pass, at most.
        long_texts: What :meth:`encode` does with long texts if the call does not say.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        name: str,
        fingerprint: str,
        attention: Attention,
        pooling_mode: PoolingMode | None,
        echo: bool = False,
        spec: EncoderSpec | None = None,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        headings: Mapping[str, str] | None = None,
    ) -> None:
        """Take a model in memory; :meth:`from_base` and :meth:`load` are the usual ways.

        Raises:
            CheckpointError: Echo, and the model has no pooling module.
            InputError: EOS pooling, and the tokenizer has no token that ends a text.
        """
        self.forward = ForwardPass(model, name=name, pooling_mode=pooling_mode, echo=echo)
        self.fingerprint = fingerprint
        self.attention = attention
        self.pooling_mode = pooling_mode
        self.echo = echo
        self.standardised = is_standardisation(list(model)[-1])
        self.embedding_dim: int = model.get_embedding_dimension()
        self.max_tokens = self.forward.max_tokens
        self.batch_tokens = batch_tokens
        self.long_texts: LongTexts = "cut"
        self.name, self.spec = name, spec
        self._headings = heading_pattern(headings)

    @classmethod
    def from_base(
        cls,
        name_or_path: str | Path,
        *,
        attention: Attention = "bidirectional",
        pooling: PoolingMode = "mean",
        max_tokens: int = DEFAULT_MAX_TOKENS,
        precision: Precision = "fp32",
        device: str | None = None,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        headings: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
    ) -> Encoder:
        """Make an encoder of a language model: step 1 of LLM2Vec, without training.

        The model is switched to the attention, and a probe proves that it follows.

        Args:
            name_or_path: Hub name, directory of a model or of a LoRA adapter, or bundled name.
            attention: ``bidirectional`` lets every token see the whole text; ``causal`` leaves a decoder as it is.
            pooling: How hidden states become one vector.
            max_tokens: Longer texts are cut here.
            precision: Precision of the transformer; everything after it computes in fp32.
            device: Where the model runs. Default: the best device there is.
            batch_tokens: Padded tokens of one forward pass, at most.
            headings: Headings of sections, as for :meth:`load`.
            cache_dir: Where converted weights are kept. Default: ``LLM2VEC_CACHE``, else ``~/.cache/llm2vec``.

        Raises:
            BaseModelError: There is no such model, it does not follow the attention, or it has fewer positions than
                ``max_tokens``.
            InputError: EOS pooling, and the tokenizer has no token that ends a text.

        Source: BehnamGhader et al. 2024, LLM2Vec, section 2.1.
        """
        source = str(name_or_path)
        backbone = transformer_directory(fetch_base_model(source, cache_dir=_cache(cache_dir)))
        spec = EncoderSpec(
            base_model=source,
            attention=attention,
            pooling_mode="last" if pooling == "eos" else pooling,  # the EOS token is no part of a pooling module
            max_tokens=max_tokens,
        )
        loaded = assemble_model(backbone, spec, precision=precision, device=device)
        view = EncoderView(pooling_mode=pooling)
        (encoder,) = read_views(loaded, [view], batch_tokens=batch_tokens, headings=headings)
        return encoder

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        view: EncoderView | None = None,
        precision: Precision = "fp32",
        device: str | None = None,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        calibration: Sequence[str] = (),
        headings: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
    ) -> Encoder:
        """Load an encoder: a checkpoint, any sentence-transformers directory, a hub name, or a bundled name.

        Modes behind plus signs say how it is read: ``NAME+causal+weighted_mean``, ``NAME+echo``, ``NAME+sections``.
        A base model that is no encoder yet is read with its own attention; a causal one pools the weighted mean.

        Args:
            name_or_path: The encoder, with or without modes.
            view: How it is read, instead of modes in its name.
            precision: Precision of the transformer; everything after it computes in fp32.
            device: Where the model runs. Default: the best device there is.
            batch_tokens: Padded tokens of one forward pass, at most.
            calibration: Texts that a standardised view is measured on.
            headings: Patterns of the headings that split a text into sections, by kind of section (see
                :func:`~llm2vec_core.encoding.chunking.heading_pattern`). Default: Markdown and upper-case headings.
            cache_dir: Where converted weights are kept. Default: ``LLM2VEC_CACHE``, else ``~/.cache/llm2vec``.

        Raises:
            CheckpointError: The directory is incomplete, wraps its texts in a chat template, or has no pooling that the
                view could replace.
            BaseModelError: There is no such model, its configuration states an attention that it does not show, or it
                does not follow the attention of the view.
            InputError: A mode that does not belong to an encoder, EOS pooling with a tokenizer that has no token that
                ends a text, or a standardised view with too few calibration texts.
        """
        name = parse_encoder_name(str(name_or_path))
        _refuse_modes_of_evaluations(name)
        view = view or name.view
        directory = Path(name.source).expanduser()
        if not directory.is_dir() or holds_base_model(directory):
            directory = fetch_base_model(name.source, cache_dir=_cache(cache_dir))
        if not holds_base_model(directory):
            loaded = load_model(directory, name=short_name(name.source), precision=precision, device=device)
        else:
            attention = view.attention or base_attention(directory)
            pooling: PoolingMode = "mean" if attention == "bidirectional" else "weighted_mean"
            spec = EncoderSpec(
                base_model=name.source, attention=attention, pooling_mode=pooling, max_tokens=DEFAULT_MAX_TOKENS
            )
            loaded = assemble_model(directory, spec, precision=precision, device=device)
        _require_stages(name, loaded)
        (encoder,) = read_views(loaded, [view], calibration=calibration, batch_tokens=batch_tokens, headings=headings)
        return encoder.with_long_texts(name.long_texts)

    def save(self, directory: str | Path) -> CheckpointRecord:
        """Save the encoder as a directory that sentence-transformers and :meth:`load` read.

        Weights are written in the precision in which they were loaded.

        Args:
            directory: Target; must not exist yet, or be empty.

        Returns:
            What is recorded about the encoder.

        Raises:
            InputError: The directory is not empty; or the encoder reads texts in a way that a directory cannot state
                (echo, EOS pooling, or a pooling that has no name here).
        """
        target = Path(directory).expanduser()
        if target.is_dir() and any(target.iterdir()):
            raise InputError(f"{target} is not empty.", hint="Name a directory that does not exist yet.")
        if self.spec is None or self.pooling_mode is None or self.pooling_mode == "eos" or self.echo:
            mode = "echo" if self.echo else f"the pooling '{self.pooling_mode or 'other'}'"
            raise InputError(
                f"An encoder with {mode} cannot be saved: a sentence-transformers directory cannot state it.",
                hint="Save the encoder without it, and load the directory as NAME+eos or NAME+echo.",
            )
        _forget_use(self.model.tokenizer)
        return write_encoder(self.model, target, self.spec, standardised=self.standardised)

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        pool_prompt: bool = True,
        long_texts: LongTexts | None = None,
        normalize: bool = False,
        dim: int | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Float32[np.ndarray, "num_texts dim"]:
        """Encode texts; one string is one text. :meth:`encode_with_counts` does the same and counts tokens.

        Args:
            texts: Any number of texts, in any order; equal texts are encoded once.
            prompt: Put before every text (every piece of a long one). An echo has it once, in front, and never pools
                it.
            pool_prompt: Whether the prompt's tokens, and those that the tokenizer adds in front of it (BOS), are
                pooled. If not, they are only attended to, as the authors of LLM2Vec do it; a token that covers the
                border belongs to the text. A prompt is never pooled where the directory says so.
            long_texts: What happens to texts beyond ``max_tokens``. ``cut``: their end is lost. ``parts``: the vector
                is the mean of parts that fit, weighted by their characters. ``sections``: the mean of sections, each
                counting the same, long ones in parts. Default: as the encoder was loaded, which is ``cut`` if its name
                does not say.
            normalize: Scale every vector to length one.
            dim: Number of leading dimensions to keep, for an encoder with Matryoshka training. Default: all.
            batch_tokens: Padded tokens of one forward pass, at most. Default: as the encoder was loaded.
            show_progress: Show a progress bar.
            on_progress: Called with the number of distinct texts (or pieces) just finished.

        Raises:
            InputError: ``dim`` is more than there is; echo, and ``max_tokens`` leaves no room for two copies; a prompt
                that leaves no room for a piece of a text; or a slow tokenizer, which cannot cut texts into pieces.
        """
        return self.encode_with_counts(
            [texts] if isinstance(texts, str) else texts,
            prompt=prompt,
            pool_prompt=pool_prompt,
            long_texts=long_texts,
            normalize=normalize,
            dim=dim,
            batch_tokens=batch_tokens,
            show_progress=show_progress,
            on_progress=on_progress,
        ).vectors

    def encode_with_counts(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        pool_prompt: bool = True,
        long_texts: LongTexts | None = None,
        normalize: bool = False,
        dim: int | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoding:
        """Encode texts as :meth:`encode` does; also return the number of tokens and of texts that were cut."""
        if dim is not None and not 1 <= dim <= self.embedding_dim:
            raise InputError(
                f"{dim} dimensions were asked for; the vectors of this encoder have {self.embedding_dim}.",
                hint=f"Ask for 1 to {self.embedding_dim}.",
            )

        def cut(listed: Sequence[str]) -> Encoding:
            with tqdm(total=len(set(listed)), unit="text", disable=not show_progress) as bar:

                def advance(count: int) -> None:
                    bar.update(count)
                    if on_progress is not None:
                        on_progress(count)

                (encoding,) = run_together(
                    [self.forward],
                    listed,
                    batch_tokens=batch_tokens or self.batch_tokens,
                    prompt=prompt,
                    pool_prompt=pool_prompt,
                    on_progress=advance,
                )
            return encoding

        def parts(listed: Sequence[str]) -> Encoding:
            return encode_pieces(
                listed,
                split=lambda text: self.forward.texts.split(text, prompt=prompt or ""),
                weigh=lambda part: max(len(part), 1),
                encode=cut,
            )

        def sections(listed: Sequence[str]) -> Encoding:
            return encode_pieces(
                listed,
                split=lambda text: split_sections(text, self._headings),
                weigh=lambda _: 1,
                encode=lambda pieces: _scaled(parts(pieces)),
            )

        readers: dict[LongTexts, Callable[[Sequence[str]], Encoding]] = {
            "cut": cut,
            "parts": parts,
            "sections": sections,
        }
        encoding = readers[long_texts or self.long_texts](texts)
        encoding = replace(encoding, vectors=encoding.vectors[:, :dim])
        return _scaled(encoding) if normalize else encoding

    def encode_words(
        self,
        sentences: Sequence[Sequence[str]],
        *,
        label_shift: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Float32[np.ndarray, "num_words hidden_size"]:
        """Hidden states of words in their sentences: states of the last layer, averaged over each word's tokens.

        The attention of the encoder counts; pooling and echo have no part in it. In front of every sentence stands a
        BOS token (an EOS token where there is no BOS; what the tokenizer itself adds, where it does), with and without
        shift.

        Args:
            sentences: Words of each sentence; they are joined by single spaces.
            label_shift: Read every token of a word from the state of the token before it: a model that was trained by
                MNTP predicts a token there.
            on_progress: Called with the number of sentences just finished.

        Returns:
            One row per word, all words of all sentences in order. A word that is cut off, or has no token, gets the
            last state of its sentence; their number is logged.

        Raises:
            InputError: The tokenizer has no token to put in front, or does not know which characters a token covers.

        Source: LLM2Vec section 3.1 and appendix on word-level tasks (mean over sub-words, states one token earlier).
        """
        return read_words(
            self.forward,
            sentences,
            label_shift=label_shift,
            batch_tokens=self.batch_tokens,
            on_progress=on_progress,
        )

    def with_long_texts(self, long_texts: LongTexts) -> Encoder:
        """The same encoder with another default for long texts."""
        other = copy.copy(self)
        other.long_texts = long_texts
        return other

    @property
    def model(self) -> SentenceTransformer:
        """The sentence-transformers model. It knows nothing of echo, nor of the EOS token of EOS pooling."""
        return self.forward.model

    @property
    def end_token_id(self) -> int | None:
        """Token that EOS pooling puts behind every text; None if it puts none."""
        return self.forward.texts.end_token_id

    @property
    def empty_token_id(self) -> int | None:
        """Token that stands for an empty text; None if the tokenizer gives it tokens."""
        return self.forward.texts.empty_token_id

    def split(self, text: str) -> list[str]:
        """Cut a text into parts that fit the encoder; a text that fits is one part.

        Raises:
            InputError: The tokenizer does not know which characters a token covers.
        """
        return self.forward.texts.split(text)


def read_views(
    loaded: LoadedModel,
    views: Sequence[EncoderView],
    *,
    calibration: Sequence[str] = (),
    batch_tokens: int = DEFAULT_BATCH_TOKENS,
    headings: Mapping[str, str] | None = None,
) -> list[Encoder]:
    """Read a model in several ways, over one copy of its weights.

    Args:
        loaded: The model; its attention is switched where the views ask for another.
        views: Ways to read it, all with the same attention.
        calibration: Texts that standardised views are measured on.
        batch_tokens: Padded tokens of one forward pass, at most.
        headings: Headings of sections, as for :meth:`Encoder.load`.

    Raises:
        BaseModelError: The model does not follow the attention of the views.
        CheckpointError: The model has no pooling module that a view could replace.
        InputError: The views have different attentions, EOS pooling and a tokenizer without a token that ends a text,
            or too few calibration texts.
    """
    changes = [loaded.changes(view) for view in views]
    if len({change.attention for change in changes}) > 1:
        raise InputError(
            f"{loaded.name} cannot be read causally and bidirectionally over one copy of its weights.",
            hint="Load it once for each attention.",
        )
    if changes[0].attention is not None:
        apply_attention(loaded.model[0].model, changes[0].attention, name=loaded.name)

    def read_as(change: EncoderView) -> Encoder:
        from sentence_transformers import SentenceTransformer

        modules = loaded.modules(change)
        if change.standardised:
            plain = read_as(replace(change, standardised=False))
            modules.append(standardisation_module(plain.encode(list(dict.fromkeys(calibration)))))
        model = SentenceTransformer(modules=modules, device=str(loaded.model.device)) if change else loaded.model
        for module in list(model)[1:]:
            module.float()  # sentence-transformers gave it the type of the first one
        attention, pooling_mode = change.attention or loaded.attention, change.pooling_mode or loaded.pooling_mode
        spec = loaded.spec
        if spec is not None:
            spec = spec.model_copy(update={"attention": attention, "pooling_mode": pooling_mode})
        return Encoder(
            model,
            name=loaded.name,
            fingerprint=view_fingerprint(loaded.fingerprint, change, calibration=calibration),
            attention=attention,
            pooling_mode=pooling_mode,
            echo=change.echo,
            spec=spec,
            batch_tokens=batch_tokens,
            headings=headings,
        )

    return [read_as(change) for change in changes]


def _cache(directory: str | Path | None) -> Path:
    return user_cache_dir() if directory is None else Path(directory).expanduser()


def _refuse_modes_of_evaluations(name: EncoderName) -> None:
    for mode in (INSTRUCTED if name.instructed else None, name.ranking):
        if mode is not None:
            raise InputError(
                f"'{mode}' in '{name}' is a way to evaluate an encoder, not to load one.", hint=f"Leave +{mode} out."
            )


def _require_stages(name: EncoderName, loaded: LoadedModel) -> None:
    trained = loaded.spec.stages if loaded.spec is not None else ()
    if name.stages and name.stages != trained:
        raise InputError(
            f"{name.source} was trained by {', '.join(trained) or 'no stage'}, not by {', '.join(name.stages)}.",
            hint="Leave the stages out, or give the directory of an encoder that was trained so.",
        )


def _forget_use(tokenizer: Any) -> None:  # noqa: ANN401 - ships no types
    """Reset what a tokenizer saves of how it was loaded and last called: it would change the fingerprint."""
    if tokenizer.init_kwargs.get("local_files_only"):
        tokenizer.init_kwargs["local_files_only"] = False
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()


def _scaled(encoding: Encoding) -> Encoding:
    """The encoding with vectors of length one; a vector of zeros stays as it is."""
    lengths = np.linalg.norm(encoding.vectors, axis=1, keepdims=True)
    return replace(encoding, vectors=encoding.vectors / np.maximum(lengths, np.finfo(np.float32).tiny))

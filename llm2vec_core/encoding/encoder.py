"""The encoder: texts in, vectors out.

One code path serves every model that sentence-transformers can load: our checkpoints, MiniLM, any other directory. The
vectors equal those of ``SentenceTransformer.encode``. We add three things. Batches have a token budget, and equal texts
are encoded once. Truncation is counted, and the attention is verified. One directory can be read in several ways
(:class:`~llm2vec_core.model.modes.EncoderView`) without a copy of its weights.

Does not belong here: tokens (``tokenizing``), the forward pass (``forward``), and reading weights
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

from llm2vec_core.encoding.chunking import heading_pattern, read_long_texts
from llm2vec_core.encoding.forward import ForwardPass, run_together
from llm2vec_core.encoding.loading import LoadedModel, assemble_model, load_model
from llm2vec_core.encoding.result import Encoding, scaled
from llm2vec_core.encoding.words import read_words
from llm2vec_core.errors import InputError
from llm2vec_core.model.architectures import apply_attention, base_attention, transformer_directory
from llm2vec_core.model.base_models import fetch_base_model, holds_base_model, short_name, user_cache_dir
from llm2vec_core.model.checkpoint import CheckpointRecord, EncoderSpec, write_encoder
from llm2vec_core.model.modes import (
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

DEFAULT_MAX_TOKENS = 512
"""Default ``max_tokens`` of an encoder made from a base model."""


class Encoder:
    """Turns texts into vectors. Make one with :meth:`from_base`, :meth:`load`, or :func:`llm2vec_core.train`.

    Attributes:
        name: Name of its source, for messages and reports.
        spec: Its specification; None for a pooling that this package does not name.
        fingerprint: Identity of weights, tokenizer and view. Never compare vectors of different fingerprints.
        attention: Attention of the transformer.
        pooling_mode: Pooling of hidden states; None for one that this package does not name, such as CLS.
        echo: Whether every text is read twice and only the second copy pooled.
        prompted: Sentence around every text, of which the last token is pooled; empty: none.
        standardised: Whether each dimension of the vectors is centred and divided by its standard deviation.
        embedding_dim: Length of a vector.
        max_tokens: Longer texts are truncated to this, or encoded in pieces (``long_texts``).
        batch_tokens: Maximum number of padded tokens in one forward pass.
        long_texts: Default treatment of long texts in :meth:`encode`.
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
        prompted: str = "",
        spec: EncoderSpec | None = None,
        batch_tokens: int | None = None,
        headings: Mapping[str, str] | None = None,
    ) -> None:
        """Wrap a model in memory; :meth:`from_base` and :meth:`load` are the usual constructors.

        Raises:
            CheckpointError: Echo, but the model has no pooling module.
            InputError: EOS pooling, but the tokenizer has no end token.
        """
        self.forward = ForwardPass(model, name=name, pooling_mode=pooling_mode, echo=echo, wording=prompted)
        self.fingerprint = fingerprint
        self.attention = attention
        self.pooling_mode = pooling_mode
        self.echo = echo
        self.prompted = prompted
        self.standardised = is_standardisation(list(model)[-1])
        self.embedding_dim: int = model.get_embedding_dimension()
        self.max_tokens = self.forward.max_tokens
        self.batch_tokens = batch_tokens or self.forward.fitting_tokens()
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
        precision: Precision | None = None,
        device: str | None = None,
        batch_tokens: int | None = None,
        headings: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
    ) -> Encoder:
        """Make an encoder of a language model: step 1 of LLM2Vec, without training.

        The model is switched to the attention, and a probe verifies the switch.

        Args:
            name_or_path: Hub name, directory of a model or of a LoRA adapter, or bundled name.
            attention: ``bidirectional`` lets every token see the whole text; ``causal`` leaves a decoder as it is.
            pooling: Pooling of hidden states.
            max_tokens: Longer texts are truncated to this.
            precision: Precision of the transformer; everything after it computes in fp32. Default: bf16 on CUDA from
                compute capability 8, fp32 elsewhere.
            device: Device of the model. Default: the best device available.
            batch_tokens: Maximum number of padded tokens in one forward pass. Default: 4,096 on a CPU, as many as fit
                into the free memory of a GPU.
            headings: Headings of sections, as for :meth:`load`.
            cache_dir: Directory of converted weights. Default: ``LLM2VEC_CACHE``, otherwise ``~/.cache/llm2vec``.

        Raises:
            BaseModelError: The model does not exist, ignores the attention, or has fewer positions than ``max_tokens``.
            DeviceError: The weights do not fit into the device, or its driver is too old.
            InputError: EOS pooling, but the tokenizer has no end token; or a model above a billion parameters would
                run in fp32 without being asked to.

        Source: BehnamGhader et al. 2024, LLM2Vec, section 2.1.
        """
        source = str(name_or_path)
        backbone = transformer_directory(fetch_base_model(source, cache_dir=_cache(cache_dir)))
        spec = EncoderSpec(
            base_model=source,
            attention=attention,
            pooling_mode="last" if pooling == "eos" else pooling,  # a pooling module does not include the EOS token
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
        precision: Precision | None = None,
        device: str | None = None,
        batch_tokens: int | None = None,
        calibration: Sequence[str] = (),
        headings: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
    ) -> Encoder:
        """Load an encoder: a checkpoint, any sentence-transformers directory, a hub name, or a bundled name.

        Modes after plus signs change how it is read: ``NAME+causal+weighted_mean``, ``NAME+echo``, ``NAME+prompted``,
        ``NAME+sections``. A plain base model keeps its own attention; if that is causal, its pooling is the weighted
        mean.

        Args:
            name_or_path: The encoder, with or without modes.
            view: Attention, pooling, echo and wording, as an alternative to modes in the name.
            precision: Precision of the transformer; everything after it computes in fp32. Default: bf16 on CUDA from
                compute capability 8, fp32 elsewhere.
            device: Device of the model. Default: the best device available.
            batch_tokens: As for :meth:`from_base`.
            calibration: Texts to measure a standardised view on.
            headings: Patterns of the headings that split a text into sections, by kind of section (see
                :func:`~llm2vec_core.encoding.chunking.heading_pattern`). Default: Markdown and upper-case headings.
            cache_dir: Directory of converted weights. Default: ``LLM2VEC_CACHE``, otherwise ``~/.cache/llm2vec``.

        Raises:
            CheckpointError: The directory is incomplete, wraps its texts in a chat template, or has no pooling module
                that the view could replace.
            BaseModelError: The model does not exist, contradicts the attention in its configuration, or ignores the
                attention of the view.
            InputError: A mode is not for encoders, EOS pooling finds no end token in the tokenizer, or a standardised
                view has too few calibration texts.
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
            Record of the encoder.

        Raises:
            InputError: The directory is not empty, or cannot record how the encoder reads texts (echo, EOS pooling, or
                a pooling that this package does not name).
        """
        target = Path(directory).expanduser()
        if target.is_dir() and any(target.iterdir()):
            raise InputError(f"{target} is not empty.", hint="Name a directory that does not exist yet.")
        reading = "echo" if self.echo else "a wording around its texts" if self.prompted else ""
        if self.spec is None or self.pooling_mode is None or self.pooling_mode == "eos" or reading:
            mode = reading or f"the pooling '{self.pooling_mode or 'other'}'"
            raise InputError(
                f"An encoder with {mode} cannot be saved: a sentence-transformers directory cannot record it.",
                hint="Save the encoder without it, and load the directory as NAME+eos, NAME+echo or NAME+prompted.",
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
            prompt: Text put before every text, or every piece of a long one. With echo, it appears once, in front, and
                is never pooled.
            pool_prompt: Whether the tokens of the prompt, and those that the tokenizer adds in front (BOS), are pooled.
                If not, they are only attended to, as in LLM2Vec's code. A token across the border belongs to the text.
                A directory can also exclude prompts from pooling.
            long_texts: Treatment of texts beyond ``max_tokens``. ``cut``: they are truncated. ``parts``: the vector is
                the mean of parts that fit, weighted by their characters. ``sections``: the mean of sections with equal
                weights, long ones in parts. Default: as the encoder was loaded; ``cut`` unless its name has such a
                mode.
            normalize: Scale every vector to length one.
            dim: Number of leading dimensions to keep, for an encoder with Matryoshka training. Default: all.
            batch_tokens: Maximum number of padded tokens in one forward pass. Default: as the encoder was loaded.
            show_progress: Show a progress bar.
            on_progress: Called with the number of distinct texts just finished; while texts are read in pieces, with
                their number in proportion to the finished pieces.

        Raises:
            InputError: ``dim`` exceeds the vector length; ``max_tokens`` leaves no room for two echo copies; the prompt
                leaves no room for a piece of a text; or the tokenizer is a slow one, which cannot cut texts into
                pieces.
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
        """Encode texts like :meth:`encode`; also return the numbers of tokens and of truncated texts."""
        if dim is not None and not 1 <= dim <= self.embedding_dim:
            raise InputError(
                f"{dim} dimensions were requested; the vectors of this encoder have {self.embedding_dim}.",
                hint=f"Request 1 to {self.embedding_dim}.",
            )

        def cut(listed: Sequence[str]) -> Encoding:
            num_texts, num_pieces, done = len(set(texts)), len(set(listed)), 0
            with tqdm(total=num_texts, unit="text", disable=not show_progress) as bar:

                def advance(count: int) -> None:
                    nonlocal done
                    before, done = done, done + count
                    finished = done * num_texts // num_pieces - before * num_texts // num_pieces
                    bar.update(finished)
                    if on_progress is not None:
                        on_progress(finished)

                (encoding,) = run_together(
                    [self.forward],
                    listed,
                    batch_tokens=batch_tokens or self.batch_tokens,
                    prompt=prompt,
                    pool_prompt=pool_prompt,
                    on_progress=advance,
                )
            return encoding

        encoding = read_long_texts(
            texts,
            long_texts or self.long_texts,
            cut=cut,
            split=lambda text: self.forward.texts.split(text, prompt=prompt or ""),
            headings=self._headings,
        )
        encoding = replace(encoding, vectors=encoding.vectors[:, :dim])
        return scaled(encoding) if normalize else encoding

    def encode_words(
        self,
        sentences: Sequence[Sequence[str]],
        *,
        label_shift: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Float32[np.ndarray, "num_words hidden_size"]:
        """Hidden states of words in their sentences: states of the last layer, averaged over each word's tokens.

        The encoder's attention applies; pooling and echo do not. Every sentence starts with the tokens that the
        tokenizer adds, otherwise with a BOS token, or EOS if there is no BOS; with and without shift.

        Args:
            sentences: Words of each sentence; they are joined by single spaces.
            label_shift: Read each token of a word from the state of the previous token, where a model trained by MNTP
                predicts it.
            on_progress: Called with the number of sentences just finished.

        Returns:
            One row per word, all words of all sentences in order. A word that is truncated, or has no token, gets the
            last state of its sentence; the number of such words is logged.

        Raises:
            InputError: The tokenizer has no start token, or does not report the characters of each token.

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
        """The sentence-transformers model. It does not apply echo or the EOS token of EOS pooling."""
        return self.forward.model

    @property
    def end_token_id(self) -> int | None:
        """Token that EOS pooling appends to every text; None without one."""
        return self.forward.texts.end_token_id

    @property
    def empty_token_id(self) -> int | None:
        """Token that replaces an empty text; None if the tokenizer adds tokens to it."""
        return self.forward.texts.empty_token_id

    def split(self, text: str) -> list[str]:
        """Cut a text into parts that fit the encoder; a text that fits is one part.

        Raises:
            InputError: The tokenizer does not report the characters of each token.
        """
        return self.forward.texts.split(text)


def read_views(
    loaded: LoadedModel,
    views: Sequence[EncoderView],
    *,
    calibration: Sequence[str] = (),
    batch_tokens: int | None = None,
    headings: Mapping[str, str] | None = None,
) -> list[Encoder]:
    """Read a model in several ways, over one copy of its weights.

    Args:
        loaded: The model; its attention is switched if the views need another.
        views: Ways to read it, all with the same attention.
        calibration: Texts to measure standardised views on.
        batch_tokens: Maximum number of padded tokens in one forward pass.
        headings: Headings of sections, as for :meth:`Encoder.load`.

    Raises:
        BaseModelError: The model ignores the attention of the views.
        CheckpointError: The model has no pooling module that a view could replace.
        InputError: The views have different attentions, EOS pooling finds no end token in the tokenizer, or there are
            too few calibration texts.
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
            module.float()  # sentence-transformers gave it the type of the first module
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
            prompted=change.prompted,
            spec=spec,
            batch_tokens=batch_tokens,
            headings=headings,
        )

    return [read_as(change) for change in changes]


def _cache(directory: str | Path | None) -> Path:
    return user_cache_dir() if directory is None else Path(directory).expanduser()


def _refuse_modes_of_evaluations(name: EncoderName) -> None:
    for mode in name.modes_of_evaluation:
        raise InputError(
            f"'{mode}' in '{name}' is a way to evaluate an encoder, not to load one.", hint=f"Leave +{mode} out."
        )


def _require_stages(name: EncoderName, loaded: LoadedModel) -> None:
    trained = loaded.spec.stages if loaded.spec is not None else ()
    if name.stages and name.stages != trained:
        raise InputError(
            f"{name.source} was trained by {', '.join(trained) or 'no stage'}, not by {', '.join(name.stages)}.",
            hint="Leave the stages out, or give the directory of an encoder that was trained with them.",
        )


def _forget_use(tokenizer: Any) -> None:  # noqa: ANN401 - ships no types
    """Reset the loading and call options that a tokenizer saves: they would change the fingerprint."""
    if tokenizer.init_kwargs.get("local_files_only"):
        tokenizer.init_kwargs["local_files_only"] = False
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()

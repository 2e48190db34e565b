"""Texts to token ids: which tokens are pooled, and which belong to which word.

Character spans of tokens decide where a prompt ends and a word begins. Tokenising the parts of a text separately would
be wrong, because a tokenizer may merge characters across the border. A token across a border belongs to the later part.

An echo puts a text twice into a prompt, and only the second copy is pooled: under causal attention, every token of the
second copy has seen the whole text. It needs no training, but twice the tokens.

A prompted text stands in a sentence that asks for its meaning, and only the last token is pooled.

Does not belong here: tensors and padding (``forward``), and pooling itself (``pooling``).

Source for echo: Springer et al. 2024, Repetition improves language model embeddings, arXiv 2402.15449, section 3. The
paper pools the mean of the second copy; here the encoder's own pooling is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm2vec_core.encoding.chunking import part_borders
from llm2vec_core.errors import InputError
from llm2vec_core.model.modes import PoolingMode

FIRST_COPY = "Rewrite the sentence: "
"""Text before the first copy of an echoed text."""

SECOND_COPY = "\nRewritten sentence: "
"""Text between the two copies."""

_SPARE_TOKENS = 4

_Offsets = list[tuple[int, int]]
"""Character span (start, end) of each token, end exclusive; two zeros for an added token."""


@dataclass(frozen=True)
class TokenizedTexts:
    """Tokenized texts.

    Attributes:
        token_ids: Token ids of each text; never empty.
        pooled: Tokens to pool of each text; never empty.
        num_cut: Tokens of each text that were cut off, with echo those of both copies; 0 for a text that fits.
    """

    token_ids: list[list[int]]
    pooled: list[range]
    num_cut: list[int]

    @property
    def num_truncated(self) -> int:
        """Number of truncated texts."""
        return sum(num_cut > 0 for num_cut in self.num_cut)


@dataclass(frozen=True)
class TokenizedWords:
    """A tokenized sentence, and the positions of its words.

    Attributes:
        token_ids: Token ids; the first one is added (BOS, or a substitute) and belongs to no word.
        positions: Tokens whose states are read. One token can be read for several words.
        words: The word that each position is read for. Every word has at least one position.
        num_unread: Words without a token; they are read from the last token of the sentence.
    """

    token_ids: list[int]
    positions: list[int]
    words: list[int]
    num_unread: int


class TextTokenizer:
    """Tokenises texts for one encoder view.

    Args:
        tokenizer: Tokenizer of the model, from transformers.
        max_tokens: Longer texts are truncated to this.
        pooling_mode: Pooling of the encoder; ``eos`` appends an EOS token to every text.
        echo: Whether the text is read twice and only the second copy pooled.
        wording: Sentence around the text, with ``{text}`` in its place, of which the last token is pooled. Empty:
            none.

    Raises:
        InputError: EOS pooling, but the tokenizer has no end token.
    """

    def __init__(
        self,
        tokenizer: Any,  # noqa: ANN401
        *,
        max_tokens: int,
        pooling_mode: PoolingMode | None,
        echo: bool,
        wording: str = "",
    ) -> None:
        """Detect which tokens the tokenizer itself adds to a text."""
        self._before, _, self._after = wording.partition("{text}")
        self._is_prompted = bool(wording)
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._echo = echo
        probe = tokenizer("a", return_special_tokens_mask=True)
        is_added = [mark == 1 for mark in probe["special_tokens_mask"]]
        self._adds_start = is_added[:1] == [True]
        self._num_added_behind = len(list(itertools.takewhile(bool, reversed(is_added))))
        self._pools_eos = pooling_mode == "eos"
        self._appended: list[int] = []
        if self._pools_eos:
            end = _special_token_id(tokenizer, "eos", "sep", purpose="EOS pooling")
            if not (self._num_added_behind and probe["input_ids"][-1] == end):
                self._appended = [end]

    @property
    def end_token_id(self) -> int | None:
        """Token to append to every text; None without one, or if the tokenizer already adds it."""
        return self._appended[0] if self._appended else None

    @property
    def empty_token_id(self) -> int | None:
        """Token that replaces an empty text; None if the tokenizer adds tokens to it."""
        return None if self._appended or self._count_tokens("") else _any_token_id(self._tokenizer)

    def texts(self, texts: Sequence[str], *, prompt: str = "", pool_prompt: bool = True) -> TokenizedTexts:
        """Token ids of each text, truncated to ``max_tokens``, and the tokens to pool.

        All tokens are pooled, including added ones, with three exceptions. Without ``pool_prompt``, pooling starts at
        the first token that ends in the text. With echo, only the second copy is pooled (with EOS pooling, also the
        EOS token after it). With a wording, only its last token is pooled. If this would leave nothing, as for an
        empty text, all tokens are pooled.

        Args:
            texts: Any number of texts.
            prompt: Put before every text unchanged; with echo, only before the first copy.
            pool_prompt: Whether the tokens of the prompt, and those added in front of it, are also pooled.

        Raises:
            InputError: ``max_tokens`` leaves no room for an echo, or the tokenizer does not report the characters of
                each token and they are needed.
        """
        if not texts:
            return TokenizedTexts([], [], [])
        needs_offsets = self._echo or not (pool_prompt or self._is_prompted)
        framed = [self._frame(text, prompt) for text in texts]
        tokens = self._tokenize([whole for whole, _ in framed], offsets=needs_offsets)
        num_whole = [len(ids) for ids, _ in tokens]
        too_long = [index for index, length in enumerate(num_whole) if length > self.limit]
        for index in too_long:
            # Tokenised again, not cut: a tokenizer may close a text with a special token.
            if self._echo or self._is_prompted:
                framed[index] = self._frame(self._shorten(texts[index], prompt), prompt)
            tokens[index] = self._tokenize([framed[index][0]], offsets=needs_offsets, max_tokens=self.limit)[0]
        num_cut = [whole - len(ids) for whole, (ids, _) in zip(num_whole, tokens, strict=True)]
        finished = [
            self._finish(ids, covered, first_character)
            for (ids, covered), (_, first_character) in zip(tokens, framed, strict=True)
        ]
        return TokenizedTexts([ids for ids, _ in finished], [pooled for _, pooled in finished], num_cut)

    def count(self, texts: Sequence[str], *, prompt: str = "") -> list[int]:
        """Tokens of each text before any is cut, with the prompt, added tokens and, with echo, both copies."""
        if not texts:
            return []
        return [len(ids) for ids, _ in self._tokenize([self._frame(text, prompt)[0] for text in texts], offsets=False)]

    def split(self, text: str, *, prompt: str = "") -> list[str]:
        """Cut a text into parts that fit ``max_tokens`` after the prompt; a text that fits is one part.

        A part tokenised alone can have a few more tokens than within the text, so a few are reserved.

        Raises:
            InputError: The prompt leaves no room, or the tokenizer does not report the characters of each token.
        """
        if self._count_tokens(self._frame(text, prompt)[0]) <= self.limit:
            return [text]
        num_around = self._count_tokens(self._frame("", prompt)[0]) + _SPARE_TOKENS
        copies = 2 if self._echo else 1
        room = (self.limit - num_around) // copies
        if room < 1:
            raise InputError(
                f"The prompt and special tokens take {num_around} tokens, but the encoder reads at most "
                f"{self._max_tokens}, so no text fits.",
                hint="Shorten the prompt, or use an encoder with a larger max_tokens.",
            )
        [(_, covered)] = self._tokenize([text], offsets=True)
        spans = [(start, end) for start, end in covered if end > start]
        parts = [text[start:end].strip() for start, end in part_borders(text, spans, max_tokens=room)]
        return [part for part in parts if part] or [text]

    def sentences(self, sentences: Sequence[Sequence[str]], *, label_shift: bool) -> list[TokenizedWords]:
        """Tokenise sentences given as words; they are joined by single spaces and truncated to ``max_tokens``.

        Args:
            sentences: Words of each sentence.
            label_shift: Read each token of a word from the state of the previous token.

        Raises:
            InputError: The tokenizer has no start token, or does not report the characters of each token.
        """
        if not sentences:
            return []
        start = [] if self._adds_start else [_special_token_id(self._tokenizer, "bos", "eos", purpose="word states")]
        tokens = self._tokenize(
            [" ".join(words) for words in sentences], offsets=True, max_tokens=self._max_tokens - len(start)
        )
        return [
            _locate_words(words, start + ids, [(0, 0)] * len(start) + covered, label_shift=label_shift)
            for words, (ids, covered) in zip(sentences, tokens, strict=True)
        ]

    @property
    def limit(self) -> int:
        """Maximum number of tokens of a text that is not cut, before an EOS token is appended."""
        return self._max_tokens - len(self._appended)

    def _frame(self, text: str, prompt: str) -> tuple[str, int]:
        """The full string to tokenise for a text, and the character where its poolable part begins."""
        whole = echo_text(text, prompt=prompt) if self._echo else f"{prompt}{self._before}{text}{self._after}"
        return whole, len(whole) - len(text)

    def _shorten(self, text: str, prompt: str) -> str:
        """The longest prefix of a text that fits into the wording, or twice into an echo."""
        num_frame_tokens = self._count_tokens(self._frame("", prompt)[0])
        room = (self.limit - num_frame_tokens) // (2 if self._echo else 1)
        if room < 1:
            raise InputError(
                f"{'An echo' if self._echo else 'The wording'} needs {num_frame_tokens} tokens beside the text, but "
                f"the encoder reads at most {self._max_tokens}, so no text fits.",
                hint="Use an encoder with a larger max_tokens, or leave echo and prompted out.",
            )
        [(_, covered)] = self._tokenize([text], offsets=True)
        # Try ever shorter ones: at the borders of the copies, tokens can differ from those of the text alone.
        for _, end in reversed(covered[:room]):
            if self._count_tokens(self._frame(text[:end], prompt)[0]) <= self.limit:
                return text[:end]
        return ""

    def _finish(self, ids: list[int], covered: _Offsets, first_character: int) -> tuple[list[int], range]:
        """Token ids with appended tokens, and the tokens to pool."""
        ids = ids + self._appended or [_any_token_id(self._tokenizer)]
        if self._is_prompted:
            end = len(ids) if self._pools_eos else len(ids) - self._num_added_behind
            return ids, range(max(0, end - 1), max(1, end))
        start = next((index for index, (_, end) in enumerate(covered) if end > first_character), None)
        if start is None:
            return ids, range(len(ids))
        # Tokens after the second copy are not part of it; an EOS token is pooled only with EOS pooling.
        num_behind = self._num_added_behind if self._echo and not self._pools_eos else 0
        return ids, range(start, len(ids) - num_behind)

    def _count_tokens(self, text: str) -> int:
        return len(self._tokenize([text], offsets=False)[0][0])

    def _tokenize(
        self, texts: list[str], *, offsets: bool, max_tokens: int | None = None
    ) -> list[tuple[list[int], _Offsets]]:
        """Token ids of each text, and optionally the character span of each token."""
        if offsets and not self._tokenizer.is_fast:
            raise InputError(
                f"{type(self._tokenizer).__name__} does not report the characters of each token. Echo, prompts "
                "that are not pooled, and word states need them.",
                hint="Use a model with a fast tokenizer (tokenizer.json).",
            )
        encoded = self._tokenizer(
            texts,
            truncation=max_tokens is not None,
            max_length=max_tokens,
            return_offsets_mapping=offsets,
            verbose=False,
        )
        covered: list[_Offsets] = encoded["offset_mapping"] if offsets else [[]] * len(texts)
        return list(zip(encoded["input_ids"], covered, strict=True))


def echo_text(text: str, *, prompt: str = "") -> str:
    """The prompt, then the text twice in the template of the paper."""
    return f"{prompt}{FIRST_COPY}{text}{SECOND_COPY}{text}"


def _locate_words(words: Sequence[str], ids: list[int], covered: _Offsets, *, label_shift: bool) -> TokenizedWords:
    """Find the tokens of each word.

    A token belongs to the last word of which it covers a character. A word without a token, because it is empty or
    truncated, is read from the last token before the cut: the state from which a model would predict it.
    """
    word_of_character = [
        word for index, text in enumerate(words) for word in ([index] * len(text) + [-1])
    ]  # the space after each word belongs to none
    word_of_token = [max(word_of_character[start:end], default=-1) for start, end in covered]
    positions = [position for position, word in enumerate(word_of_token) if word >= 0]
    found = [word_of_token[position] for position in positions]
    unread = sorted(set(range(len(words))) - set(found))
    last = positions[-1] if positions else len(ids) - 1
    read = [position - 1 for position in positions] if label_shift else positions
    return TokenizedWords(ids, read + [last] * len(unread), found + unread, len(unread))


def _special_token_id(tokenizer: Any, *names: str, purpose: str) -> int:  # noqa: ANN401 - ships no types
    """Id of the first of these special tokens that the tokenizer defines."""
    for name in names:
        token_id: int | None = getattr(tokenizer, f"{name}_token_id")
        if token_id is not None:
            return token_id
    raise InputError(
        f"{purpose} needs one of these tokens: {', '.join(names).upper()}; the tokenizer defines none.",
        hint="Use another pooling, or a model whose tokenizer_config.json defines such a token.",
    )


def _any_token_id(tokenizer: Any) -> int:  # noqa: ANN401
    """A token for a text without tokens, so that no row of a batch is empty."""
    known = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    return next((token_id for token_id in known if token_id is not None), 0)

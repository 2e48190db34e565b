"""Hidden states of words: the last layer's states, averaged over the tokens of each word."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float32

from llm2vec_core.encoding.batching import plan_batches
from llm2vec_core.encoding.forward import ForwardPass, to_numpy
from llm2vec_core.encoding.tokenizing import TokenizedWords
from llm2vec_core.model.architectures import state_width

logger = logging.getLogger(__name__)


@torch.inference_mode()
def read_words(
    forward: ForwardPass,
    sentences: Sequence[Sequence[str]],
    *,
    label_shift: bool,
    batch_tokens: int,
    on_progress: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "num_words hidden_size"]:
    """One state per word, all words of all sentences in order.

    Args:
        forward: The model.
        sentences: Words of each sentence; they are joined by single spaces.
        label_shift: Read each token of a word from the state of the previous token.
        batch_tokens: Maximum number of padded tokens in one batch.
        on_progress: Called with the number of sentences just finished.

    Raises:
        InputError: The tokenizer has no start token, or does not report the characters of each token.
    """
    tokenized = forward.texts.sentences(sentences, label_shift=label_shift)
    num_unread = sum(sentence.num_unread for sentence in tokenized)
    ends = np.cumsum([len(words) for words in sentences], dtype=int)
    num_words = int(ends[-1]) if len(ends) else 0
    if num_unread:
        logger.warning(
            "%d of %d words lie beyond %d tokens or have no token; they get the last state of their sentence",
            num_unread,
            num_words,
            forward.max_tokens,
        )
    states = np.empty((num_words, state_width(forward.model[0].model.config)), dtype=np.float32)
    lengths = [len(sentence.token_ids) for sentence in tokenized]
    for batch in plan_batches(lengths, batch_tokens=batch_tokens):
        rows = [np.arange(ends[index] - len(sentences[index]), ends[index]) for index in batch]
        states[np.concatenate(rows)] = _read_batch(
            forward, [tokenized[index] for index in batch], [len(sentences[index]) for index in batch]
        )
        if on_progress is not None:
            on_progress(len(batch))
    return states


def _read_batch(
    forward: ForwardPass, sentences: list[TokenizedWords], num_words: list[int]
) -> Float32[np.ndarray, "num_words hidden_size"]:
    """Mean state of each word of a batch, sentence by sentence."""
    features = forward.token_states([sentence.token_ids for sentence in sentences])
    states = features["token_embeddings"]
    first_token = features["attention_mask"].argmax(dim=1).tolist()  # padding may be on the left
    first_word = np.cumsum([0, *num_words])
    reads = [
        (row, first_token[row] + position, int(first_word[row]) + word)
        for row, sentence in enumerate(sentences)
        for position, word in zip(sentence.positions, sentence.words, strict=True)
    ]
    rows, columns, words = torch.tensor(reads, dtype=torch.long, device=states.device).reshape(-1, 3).unbind(1)
    sums = states.new_zeros((int(first_word[-1]), states.shape[-1])).index_add_(0, words, states[rows, columns])
    return to_numpy(sums / torch.bincount(words, minlength=len(sums)).unsqueeze(1))

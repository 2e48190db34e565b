"""Token spans, with in-memory tokenizers and without a model."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from llm2vec_core.encoding.tokenizing import TextTokenizer
from llm2vec_core.errors import InputError


def make(*merges: tuple[str, str], bos: bool = False, eos: bool = False, **special: str) -> PreTrainedTokenizerFast:
    """Byte-level tokenizer that merges as told and puts the tokens asked for around every text."""
    merged = ["".join(pair) for pair in merges]
    tokens = ["<pad>", "<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *merged]
    backend = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=list(merges)))
    # Without the expression that splits at words, merges may cross any border.
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    frame = f"{'<bos> ' if bos else ''}$A{' <eos>' if eos else ''}"
    backend.post_processor = processors.TemplateProcessing(
        single=frame, special_tokens=[("<bos>", tokens.index("<bos>")), ("<eos>", tokens.index("<eos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **(special or {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}),
    )


def read(tokenizer, text, *, max_tokens=100, pooling_mode="mean", echo=False, **how):
    """Tokens of one text, and those of them that are pooled."""
    reader = TextTokenizer(tokenizer, max_tokens=max_tokens, pooling_mode=pooling_mode, echo=echo)
    read = reader.texts([text], **how)
    tokens = tokenizer.convert_ids_to_tokens(read.token_ids[0])
    return tokens, tokens[read.pooled[0].start : read.pooled[0].stop]


def words(tokenizer, sentence, *, label_shift=False, max_tokens=100):
    """Tokens of one sentence, those read for each word, and how many words have none."""
    reader = TextTokenizer(tokenizer, max_tokens=max_tokens, pooling_mode="mean", echo=False)
    [read] = reader.sentences([sentence], label_shift=label_shift)
    tokens = tokenizer.convert_ids_to_tokens(read.token_ids)
    by_word = [
        [tokens[position] for position, word in zip(read.positions, read.words, strict=True) if word == index]
        for index in range(len(sentence))
    ]
    return tokens, by_word, read.num_unread


def test_everything_is_pooled_by_default():
    tokens, pooled = read(make(bos=True, eos=True), "ab", prompt="c")
    assert pooled == tokens == ["<bos>", "c", "a", "b", "<eos>"]


def test_without_its_prompt_a_text_is_pooled_from_its_first_token_on():
    tokens, pooled = read(make(bos=True, eos=True), "ab", prompt="cd", pool_prompt=False)
    assert tokens == ["<bos>", "c", "d", "a", "b", "<eos>"]
    assert pooled == ["a", "b", "<eos>"]


def test_a_token_over_the_border_of_prompt_and_text_belongs_to_the_text():
    """Tokenised alone, the prompt has two tokens; here it has one and a half."""
    tokens, pooled = read(make(("d", "a")), "ab", prompt="cd", pool_prompt=False)
    assert (tokens, pooled) == (["c", "da", "b"], ["da", "b"])


@pytest.mark.parametrize("text", ["", "ab"])
def test_where_the_prompt_leaves_nothing_of_a_text_everything_is_pooled(text):
    tokens, pooled = read(make(), text, prompt="cdef", pool_prompt=False, max_tokens=4)
    assert pooled == tokens == ["c", "d", "e", "f"]


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("text", ["", "ab", "a<eos>", "abcdefghij"])
def test_one_eos_token_is_put_behind_every_text(closes, text):
    tokenizer = make(eos=closes)
    tokens, pooled = read(tokenizer, text, pooling_mode="eos", max_tokens=6)
    own = tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert pooled == tokens == [*own[:5], "<eos>"]


def test_a_token_that_separates_ends_a_text_where_there_is_no_eos_token():
    tokens, _ = read(make(pad_token="<pad>", sep_token="<eos>"), "ab", pooling_mode="eos")
    assert tokens == ["a", "b", "<eos>"]


def test_eos_pooling_without_any_such_token_is_refused():
    with pytest.raises(InputError, match="EOS, SEP"):
        read(make(pad_token="<pad>"), "ab", pooling_mode="eos")


def test_a_text_without_tokens_gets_one():
    assert read(make(), "") == (["<eos>"], ["<eos>"])


def test_a_cut_text_is_still_closed_and_counted():
    tokenizer = make(bos=True, eos=True)
    reader = TextTokenizer(tokenizer, max_tokens=4, pooling_mode="mean", echo=False)
    read = reader.texts(["ab", "abc"])
    assert read.num_truncated == 1
    assert [tokenizer.convert_ids_to_tokens(ids) for ids in read.token_ids] == [["<bos>", "a", "b", "<eos>"]] * 2


def test_an_echo_pools_the_second_copy_without_the_tokens_around_it():
    tokens, pooled = read(make((":", "Ġ"), (":Ġ", "a"), bos=True, eos=True), "ab", echo=True)
    assert tokens.count(":Ġa") == 2
    assert pooled == [":Ġa", "b"], "the token over the border ends in the second copy"
    tokens, pooled = read(make(bos=True), "ab", echo=True, pooling_mode="eos")
    assert pooled == ["a", "b", "<eos>"]


def test_words_are_found_by_their_characters():
    tokens, by_word, num_unread = words(make(("b", "c")), ["a", "bcd", "ü"])
    assert tokens == ["<bos>", "a", "Ġ", "bc", "d", "Ġ", "Ã", "¼"]
    assert (by_word, num_unread) == ([["a"], ["bc", "d"], ["Ã", "¼"]], 0)


def test_a_token_over_two_words_goes_to_the_one_in_which_it_ends():
    _, by_word, num_unread = words(make(("a", "Ġ"), ("aĠ", "b")), ["xa", "bc"])
    assert (by_word, num_unread) == ([["x"], ["aĠb", "c"]], 0)
    _, by_word, _ = words(make(("a", "Ġ")), ["xa", "bc"])
    assert by_word == [["x", "aĠ"], ["b", "c"]]


def test_label_shift_reads_the_token_before():
    tokens, by_word, _ = words(make(("Ġ", "b")), ["ab", "bc"], label_shift=True)
    assert tokens == ["<bos>", "a", "b", "Ġb", "c"]
    assert by_word == [["<bos>", "a"], ["b", "Ġb"]]


def test_what_stands_in_front_of_a_sentence():
    """BOS; EOS where there is none; only one where the tokenizer adds it."""
    assert words(make(), ["a"])[0] == ["<bos>", "a"]
    assert words(make(pad_token="<pad>", eos_token="<eos>"), ["a"])[0] == ["<eos>", "a"]
    assert words(make(bos=True, eos=True), ["a"])[0] == ["<bos>", "a", "<eos>"]
    with pytest.raises(InputError, match="BOS, EOS"):
        words(make(pad_token="<pad>"), ["a"])


@pytest.mark.parametrize("label_shift", [False, True])
def test_words_without_a_token_are_read_from_the_last_token_of_their_sentence(label_shift):
    tokens, by_word, num_unread = words(make(), ["a", "", "bcd", "e"], max_tokens=5, label_shift=label_shift)
    assert tokens == ["<bos>", "a", "Ġ", "Ġ", "b"]
    assert (by_word[1], by_word[3], num_unread) == (["b"], ["b"], 2)
    _, by_word, num_unread = words(make(), ["", ""], label_shift=label_shift)
    assert num_unread == 2


def test_a_sentence_without_words_has_nothing_to_read():
    assert words(make(), []) == (["<bos>"], [], 0)


def test_a_tokenizer_that_does_not_know_its_characters_is_refused_only_where_they_are_needed():
    class Slow:
        """What a tokenizer without offsets looks like from outside."""

        is_fast = False
        eos_token_id = bos_token_id = 2

        def __init__(self):
            self._fast = make()

        def __call__(self, texts, *, return_offsets_mapping=False, **settings):
            assert not return_offsets_mapping
            return self._fast(texts, **settings)

    slow = TextTokenizer(Slow(), max_tokens=100, pooling_mode="eos", echo=False)
    assert len(slow.texts(["ab"], prompt="c").token_ids[0]) == 4
    for call in (
        lambda: slow.texts(["ab"], prompt="c", pool_prompt=False),
        lambda: slow.sentences([["a"]], label_shift=0),
    ):
        with pytest.raises(InputError, match="Slow"):
            call()

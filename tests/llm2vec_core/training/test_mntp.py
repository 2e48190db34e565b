import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm2vec_core.model.lora import LoraSettings, lora_config
from llm2vec_core.training.mntp import (
    IGNORED,
    MntpModel,
    Vocabulary,
    mask_token_id,
    mask_tokens,
    pack_chunks,
    read_vocabulary,
)

NO_SPECIAL = torch.tensor([], dtype=torch.long)


def mask(tokens, policy="bert", probability=0.3, seed=0, special=NO_SPECIAL):
    return mask_tokens(
        tokens,
        mask_probability=probability,
        mask_policy=policy,
        mask_token_id=1,
        vocabulary=Vocabulary(regular=torch.arange(100), special=special),
        generator=torch.Generator().manual_seed(seed),
    )


@given(st.integers(2, 200), st.floats(0.01, 1), st.sampled_from(["bert", "all_mask"]), st.integers(0, 2**31))
def test_masking_labels_what_it_changes(length, probability, policy, seed):
    tokens = torch.arange(2, 2 + length)
    masked, labels = mask(tokens, policy, probability, seed)
    scored = labels != IGNORED
    assert not scored[0], "nothing stands before the first token to predict it from"
    assert scored.any()
    assert torch.equal(labels[scored], tokens[scored])
    assert torch.equal(masked[~scored], tokens[~scored])
    if policy == "all_mask":
        assert (masked[scored] == 1).all()


@given(st.lists(st.sampled_from([0, 1, 7, 8, 9]), min_size=2, max_size=60), st.floats(0.01, 1), st.integers(0, 2**31))
def test_special_tokens_are_neither_masked_nor_scored(tokens, probability, seed):
    special = torch.tensor([0, 1])
    found = torch.tensor(tokens)
    masked, labels = mask(found, probability=probability, seed=seed, special=special)
    is_special = torch.isin(found, special)
    assert (labels[is_special] == IGNORED).all()
    assert torch.equal(masked[is_special], found[is_special])
    assert (labels != IGNORED).any() == bool((~is_special[1:]).any()), "something is scored if anything can be"


def test_random_tokens_come_from_the_regular_vocabulary(tiny_base):
    """The embeddings of many models have rows behind the vocabulary, which were never trained."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_base, local_files_only=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<reserved>"]})
    vocabulary = read_vocabulary(tokenizer)
    reserved = tokenizer.convert_tokens_to_ids("<reserved>")
    assert vocabulary.special.tolist() == [0, 1, reserved]
    assert len(vocabulary.regular) == 256
    tokens = torch.full((20_000,), 50)
    masked, _ = mask_tokens(
        tokens,
        mask_probability=0.9,
        mask_policy="bert",
        mask_token_id=50,
        vocabulary=vocabulary,
        generator=torch.Generator().manual_seed(0),
    )
    assert set(masked.tolist()) == set(vocabulary.regular.tolist())


def test_the_mask_token_is_the_bare_blank_of_a_tokenizer_that_marks_word_boundaries():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["<unk>", "▁", "_", "▁_", "a"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "_")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    assert tokenizer.encode("_") == [3]
    assert mask_token_id(tokenizer) == 2


def test_bert_policy_masks_80_10_10():
    tokens = torch.full((200_000,), 50)
    masked, labels = mask(tokens, probability=0.5)
    scored = masked[labels != IGNORED]
    shares = [(scored == 1).float().mean(), (scored == 50).float().mean()]
    assert shares[0] == pytest.approx(0.801, abs=0.01)  # the random tokens hit the mask token, too
    assert shares[1] == pytest.approx(0.101, abs=0.01)


def test_a_token_is_scored_from_the_position_before_it(tiny_base):
    """Four tokens by hand: the loss is the cross entropy of logits at i - 1 for the masked i, and of nothing else."""
    causal_model = AutoModelForCausalLM.from_pretrained(tiny_base, local_files_only=True)
    tokens = torch.tensor([[10, 11, 12, 13]])
    labels = torch.tensor([[IGNORED, IGNORED, 12, IGNORED]])
    with torch.no_grad():
        expected = functional.cross_entropy(causal_model(input_ids=tokens).logits[:, 1], torch.tensor([12]))
        model = MntpModel(causal_model, lora_config(LoraSettings(rank=2), causal_model)).eval()
        loss = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels)["loss"]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_lora_leaves_the_output_layer_alone(tiny_base):
    causal_model = AutoModelForCausalLM.from_pretrained(tiny_base, local_files_only=True)
    model = MntpModel(causal_model, lora_config(LoraSettings(), causal_model))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert not any("lm_head" in name for name in trained)
    assert {name.split(".")[-4] for name in trained} == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }


def test_the_blank_is_the_mask_token_where_there_is_none(tiny_base):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base, local_files_only=True)
    assert tokenizer.decode([mask_token_id(tokenizer)]) == "_"
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    assert mask_token_id(tokenizer) == tokenizer.mask_token_id


def test_chunks_are_full_and_keep_the_order(tiny_base):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base, local_files_only=True)
    chunks = pack_chunks(["abc", "defg"], tokenizer, chunk_tokens=4)
    assert [tokenizer.decode(chunk) for chunk in chunks] == ["abc<eos>", "defg"]

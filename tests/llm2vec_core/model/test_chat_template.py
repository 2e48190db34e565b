"""Texts in the chat template of their base model, as the reference frames them."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.chat_template import apply_chat_template
from llm2vec_core.model.checkpoint import EncoderSpec

LLAMA_2 = "{{ '<eos>' }}{% for message in messages %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}"


@pytest.fixture
def chat_base(tiny_base, tmp_path):
    """The tiny base with a template like that of Llama 2."""
    import shutil

    directory = tmp_path / "chat"
    shutil.copytree(tiny_base, directory)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    tokenizer.chat_template = LLAMA_2
    tokenizer.save_pretrained(directory)
    return directory


def test_a_text_is_framed_as_a_message_and_cut_inside_the_frame(chat_base):
    tokenizer = AutoTokenizer.from_pretrained(chat_base, local_files_only=True)
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "nurse"}], tokenize=False)
    expected = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    apply_chat_template(tokenizer, name="chat")
    assert tokenizer("nurse")["input_ids"] == expected
    short = tokenizer("nurse " * 50, truncation=True, max_length=30)["input_ids"]
    assert tokenizer.decode(short).startswith("<eos>[INST] nurse nur")
    assert tokenizer.decode(short).endswith(" [/INST]")
    assert len(short) == 30


def test_every_program_that_reads_the_directory_adds_the_frame(chat_base, tmp_path):
    spec = EncoderSpec(
        base_model="chat", attention="bidirectional", pooling_mode="mean", max_tokens=64, chat_template=True
    )
    framed = write_checkpoint(tmp_path / "framed", backbone=chat_base, spec=spec)
    plain = write_checkpoint(
        tmp_path / "plain", backbone=chat_base, spec=spec.model_copy(update={"chat_template": False})
    )
    assert framed.fingerprint != plain.fingerprint
    texts = ["nurse", "cares for patients"]
    ours = Encoder.load(tmp_path / "framed").encode(texts)
    theirs = SentenceTransformer(str(tmp_path / "framed"), local_files_only=True).encode(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    written_out = Encoder.load(tmp_path / "plain").encode([f"<eos>[INST] {text} [/INST]" for text in texts])
    np.testing.assert_allclose(ours, written_out, atol=1e-5)


def test_a_base_without_a_template_is_refused(tiny_base):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base, local_files_only=True)
    with pytest.raises(BaseModelError, match="tiny has no chat template"):
        apply_chat_template(tokenizer, name="tiny")

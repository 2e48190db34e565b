"""Rows that cost nothing: word overlap, keyword search with the training texts, and a prompt without training."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.encoding.result import Encoding
from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.protocols.documents import DocumentVectors
from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce
from llm2vec_core.evaluation.protocols.lexical_pairs import overlap_similarities
from llm2vec_core.evaluation.protocols.registry import can_score
from llm2vec_core.evaluation.protocols.scoring import evaluate_task
from llm2vec_core.evaluation.systems import System
from llm2vec_core.evaluation.tasks.expansion import Expansion
from llm2vec_core.evaluation.tasks.folders import load_eval_task
from llm2vec_core.model.modes import PROMPT_WORDING, EncoderView, parse_encoder_name, view_fingerprint

OVERLAP = System("Word overlap", "overlap")


def test_overlap_is_the_share_of_words():
    found = overlap_similarities([("a nurse cares", "the nurse cares"), ("one", "two"), ("", ""), ("x y", "Y x")])
    assert found.tolist() == pytest.approx([0.5, 0, 0, 1])


def test_overlap_scores_pairs_and_nothing_else(tmp_path):
    rows = [
        {"sentence1": "a b c d", "sentence2": " ".join("abcd"[: at % 4 + 1]), "score": (at * 3) % 5} for at in range(9)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "task.json").write_text(json.dumps({"name": "T", "type": "STS", "main_score": "cosine_spearman"}))
    eval_task = load_eval_task(tmp_path)
    expected = spearmanr([at % 4 for at in range(9)], [row["score"] for row in rows]).statistic
    assert evaluate_task(OVERLAP, eval_task).score.main_score == pytest.approx(100 * expected)
    assert OVERLAP.fingerprint != System("BM25", "lexical").fingerprint
    assert not OVERLAP.supports("Retrieval") and not OVERLAP.supports("Classification")


def test_training_texts_behind_a_document_are_found_by_words(tmp_path):
    corpus = [
        {"_id": "n", "title": "Registered Nurses", "text": "care"},
        {"_id": "b", "title": "Bakers", "text": "bread"},
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in corpus))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "SRN"}) + "\n")
    (tmp_path / "qrels.tsv").write_text("q\td\ts\nq\tn\t1\n")
    header = {"name": "T", "type": "Retrieval", "main_score": "ndcg_at_10"}
    (tmp_path / "task.json").write_text(json.dumps(header))
    eval_task = load_eval_task(tmp_path)
    expansion = Expansion.of_pairs([("SRN", "registered  nurses"), ("ward nurse", "Registered Nurses"), ("x", "y")])
    expanded = System("BM25 with titles", "lexical", expansion=expansion)
    plain = System("BM25", "lexical")
    assert evaluate_task(plain, eval_task).score.main_score == 0
    assert evaluate_task(expanded, eval_task).score.main_score == pytest.approx(100)
    assert expansion.count(eval_task.tables["corpus"]) == 1
    assert expanded.fingerprint != plain.fingerprint
    assert not expanded.supports("STS") and can_score(expanded, eval_task)


class _Axes:
    """An encoder whose vectors are written in the texts: numbers, separated by blanks."""

    embedding_dim = 3

    def encode_with_counts(self, texts, *, prompt=None, pool_prompt=True):
        vectors = np.array([[float(part) for part in text.split()] for text in texts], dtype=np.float32)
        return Encoding(vectors, len(texts), len(texts), 0)


def test_an_expanded_document_is_as_near_as_its_three_nearest_texts():
    anchors = {"0 1 0": ("1 0 0", "1 1 0", "0 0 1", "1 0 1"), "0 0 1": ("1 0 0",)}
    expansion = Expansion(anchors)
    documents = [("", "0 1 0"), ("", "0 0 1"), ("", "1 2 2")]
    vectors = DocumentVectors(EncodeOnce("axes", _Axes), documents, expansion=expansion)
    plain = DocumentVectors(EncodeOnce("axes", _Axes), documents)
    query = np.array([[1.0, 0.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(vectors.cosines(query), [[(1 + 2 / np.sqrt(2)) / 3, 0.5, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(plain.cosines(query), [[0, 0, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_an_encoder_finds_documents_by_their_training_texts(mode, tmp_path):
    corpus = [{"_id": f"d{axis}", "title": "", "text": text} for axis, text in enumerate(("1 0 0", "0 1 0", "0 0 1"))]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in corpus))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "3 1 2"}) + "\n")
    (tmp_path / "qrels.tsv").write_text("q\td\ts\nq\td2\t1\n")
    header = {"name": "T", "type": "Retrieval", "main_score": "mrr_at_10"}
    (tmp_path / "task.json").write_text(json.dumps(header))
    eval_task = load_eval_task(tmp_path)
    plain = System("axes", mode, EncodeOnce("axes", _Axes))
    expanded = System("axes", mode, EncodeOnce("axes", _Axes), expansion=Expansion({"0 0 1": ("3 1 2", "3 1 2")}))
    assert evaluate_task(plain, eval_task).score.main_score < 100
    assert evaluate_task(expanded, eval_task).score.main_score == pytest.approx(100)
    assert expanded.fingerprint != plain.fingerprint and not expanded.supports("Reranking")


def test_a_prompted_text_is_the_state_of_the_last_token_of_its_wording(tiny_base):
    import torch
    from transformers import AutoModel, AutoTokenizer

    encoder = Encoder.load(f"{tiny_base}+causal+prompted")
    tokenizer = AutoTokenizer.from_pretrained(tiny_base, local_files_only=True)
    model = AutoModel.from_pretrained(tiny_base, local_files_only=True).eval()
    ids = tokenizer('This sentence : "nurse" means in one word:"', return_tensors="pt")
    with torch.no_grad():
        expected = model(**ids).last_hidden_state[0, -1].numpy()
    np.testing.assert_allclose(encoder.encode(["nurse", "a longer text"])[0], expected, atol=1e-5)


def test_a_long_prompted_text_is_cut_inside_its_wording(tiny_base):
    encoder = Encoder.load(f"{tiny_base}+causal", view=EncoderView(attention="causal", prompted="<{text}> is:"))
    tokens = encoder.forward.texts
    tokens._max_tokens = 20
    found = tokens.texts(["n" * 100, ""])
    decoded = [encoder.model.tokenizer.decode(ids) for ids in found.token_ids]
    assert decoded == [f"<{'n' * 14}> is:", "<> is:"]
    assert [pooled.start for pooled in found.pooled] == [len(ids) - 1 for ids in found.token_ids]
    assert found.num_truncated == 1


def test_the_wording_is_part_of_the_identity():
    views = [EncoderView(prompted=wording) for wording in (PROMPT_WORDING, "{text}:")]
    assert len({view_fingerprint("f", view) for view in (*views, EncoderView())}) == 3
    name = parse_encoder_name("tiny+prompted+causal")
    assert (str(name), name.view.prompted) == ("tiny+causal+prompted", PROMPT_WORDING)
    assert str(parse_encoder_name("tiny+hybrid+expanded")) == "tiny+expanded+hybrid"


@pytest.mark.parametrize(("wording", "echo"), [("no place", False), ("{text} {text}", False), ("{text}", True)])
def test_a_wording_has_one_place_for_the_text(wording, echo):
    with pytest.raises(InputError, match="cannot be used"):
        EncoderView(prompted=wording, echo=echo)


def test_a_prompted_encoder_is_not_saved(tiny_base, tmp_path):
    with pytest.raises(InputError, match="a wording around its texts cannot be saved"):
        Encoder.load(f"{tiny_base}+causal+prompted").save(tmp_path / "saved")

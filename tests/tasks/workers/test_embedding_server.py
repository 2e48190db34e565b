"""Shards that an embedding server encodes: proven first, watched on the way, refused when anything differs."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from data.vectors.shards import list_shards
from flows.profiles import PROFILES_DIR
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.model.modes import EncoderView
from llm2vec_core.serving.parity import PROBE_TEXTS
from llm2vec_core.training.settings import Recipe
from tasks.encoders.checkpoints import build_untrained, checkpoint_dir
from tasks.errors import ServerError, SettingsError
from tasks.run.settings import EncodeSettings, Settings, load_settings
from tasks.workers import embedding_server
from tasks.workers.embedding_server import EmbeddingServer
from tests.tasks.workers.test_shard_engines import encode_planned, make_night

TEXTS = ["nurse, night shifts", "", "C++ and C#", "nurse, night shifts", "welder and fitter " * 40]


class FakeServer:
    """vLLM (OpenAI's interface) and text-embeddings-inference, around an encoder of this machine.

    Attributes:
        encoder: What it serves.
        faults: What goes wrong with the next requests: an HTTP status, or ``cut`` for an answer that ends early.
        change: Changes the vectors of an answer.
        sizes: Number of texts of each request that was answered.
    """

    def __init__(self, encoder):
        self.encoder, self.faults, self.sizes, self.headers = encoder, [], [], []
        self.change = lambda vectors: vectors
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.headers.append(self.headers)
                fault = outer.faults.pop(0) if outer.faults else None
                status, answer = (200, outer.answer(self.path, asked)) if fault in (None, "cut") else (fault, "busy")
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path, asked):
        texts = asked["inputs" if path == "/embed" else "input"]
        assert all(texts), "servers refuse empty texts"
        assert max(self.encoder.forward.texts.count(texts)) <= self.encoder.max_tokens, "and texts that are too long"
        self.sizes.append(len(texts))
        vectors = self.change(self.encoder.encode(texts, normalize=True)).tolist()
        if path == "/embed":
            return vectors
        return {"data": [{"index": index, "embedding": row} for index, row in enumerate(vectors)][::-1]}

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def url(self, path="/v1/embeddings"):
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(embedding_server, "WAITS_S", (0.0, 0.0))


@pytest.fixture(scope="module")
def directory(tmp_path_factory, tiny_base):
    settings = Settings(
        home=str(tmp_path_factory.mktemp("served")), train=Recipe(base_model=str(tiny_base), max_tokens=64)
    )
    store = settings.store()
    return checkpoint_dir(store, build_untrained(store, settings, str(tiny_base)).fingerprint)


@pytest.fixture
def fake(directory):
    fake = FakeServer(Encoder.load(directory))
    yield fake
    fake.close()


def encode_by(url, **settings):
    return EncodeSettings(backend="http", url=url, **settings)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed"])
@pytest.mark.parametrize("long_texts", ["parts", "sections"])
def test_a_proven_server_gives_the_vectors_and_the_counts_of_the_encoder(fake, directory, path, long_texts):
    server = EmbeddingServer(directory, encode_by(fake.url(path), long_texts=long_texts))
    done = []
    found = server.encode(TEXTS, on_progress=done.append)
    expected = fake.encoder.encode_with_counts(TEXTS, long_texts=long_texts, normalize=True)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-2)
    assert found.num_tokens == expected.num_tokens
    assert found.read_tokens.tolist() == expected.read_tokens.tolist()
    assert sum(done) == 4
    assert max(fake.sizes) <= 32, "as many as text-embeddings-inference takes"


def test_the_shards_of_a_night_are_encoded_by_the_server_and_resumed(tmp_path, tiny_base, make_run, monkeypatch):
    settings, fingerprint, plans = make_night(str(tmp_path / "home"), tmp_path, tiny_base, make_run)
    fake = FakeServer(Encoder.load(checkpoint_dir(settings.store(), fingerprint)))
    monkeypatch.setenv("LLM2VEC_ENCODE_TOKEN", "secret")
    by_server = settings.model_copy(update={"encode": encode_by(fake.url(), shard_size=4)})
    assert by_server.encode.encode_key("job") != settings.encode.encode_key("job"), "equal within a tolerance only"
    encode_planned(by_server, fingerprint, plans[0])
    fake.faults = [503, "cut"]  # both pass
    reports = [encode_planned(by_server, fingerprint, plan) for plan in plans]
    assert [report.tokens > 0 for report in reports] == [False] + [True] * 7
    assert len(list(list_shards(by_server.store(), fingerprint=fingerprint))) == 8
    assert {headers["Authorization"] for headers in fake.headers} == {"Bearer secret"}
    fake.close()


def test_a_server_that_ignores_the_attention_is_refused(fake, directory):
    fake.encoder = Encoder.load(directory, view=EncoderView("bidirectional"))
    with pytest.raises(ServerError, match="other vectors than the checkpoint") as refused:
        EmbeddingServer(directory, encode_by(fake.url()))
    assert "l2v convert" in refused.value.hint


def test_a_server_whose_parts_differ_is_refused(fake, directory):
    """It pools short texts as the encoder does, but turns the vector of a long one around."""
    long = len(fake.encoder.split(PROBE_TEXTS[-1])[0])
    encode = fake.encoder.encode

    class OfShortTexts:
        max_tokens, forward = fake.encoder.max_tokens, fake.encoder.forward

        def encode(self, texts, **options):
            signs = [-1 if len(text) > long // 2 else 1 for text in texts]
            return encode(texts, **options) * np.array(signs)[:, None]

    fake.encoder = OfShortTexts()
    with pytest.raises(ServerError, match="other vectors than the checkpoint"):
        EmbeddingServer(directory, encode_by(fake.url()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda vectors: vectors[:, ::-1], "other vectors than the checkpoint"),
        (lambda vectors: vectors * np.nan, "other vectors than the checkpoint"),
        (lambda vectors: vectors[:-1], r"shape \[4, 32\]; expected \[5, 32\]"),
        (lambda vectors: vectors[:, :-1], r"shape \[5, 31\]; expected \[5, 32\]"),
    ],
)
def test_a_server_that_is_replaced_after_its_proof_is_refused(fake, directory, change, message):
    server = EmbeddingServer(directory, encode_by(fake.url()))
    fake.change = change
    with pytest.raises(ServerError, match=message):
        server.encode(["nurse", "welder", "cook", "clerk"])


def test_a_failure_that_passes_is_tried_again_and_others_are_not(fake, directory):
    server = EmbeddingServer(directory, encode_by(fake.url()))
    fake.faults = [503, 429]
    assert server.encode(["nurse"]).vectors.shape == (1, 32)
    fake.faults = [503, "cut", 500, 200]
    with pytest.raises(ServerError, match="HTTP 500"):
        server.encode(["nurse"])
    fake.faults, fake.sizes = [413], []
    with pytest.raises(ServerError, match="HTTP 413"):
        server.encode(["nurse"])
    assert fake.sizes == [], "it was asked once"


def test_a_server_that_is_not_there_is_an_error_that_names_it(directory):
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:9/embed did not answer"):
        EmbeddingServer(directory, encode_by("http://127.0.0.1:9/embed"))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", "needs encode\\.url"),
        ('url = "http://user:secret@host/embed"', "LLM2VEC_ENCODE_TOKEN"),
        ('url = "http://host/embed"\nlong_texts = "cut"', "cut long texts in other ways"),
        ('url = "http://host/embed"\nprompts = {job = "Job: "}', "servers pool the tokens"),
    ],
)
def test_settings_that_a_server_cannot_follow_are_refused(tmp_path, said, message):
    config = tmp_path / "l2v.toml"
    config.write_text(f'[encode]\nbackend = "http"\n{said}\n')
    with pytest.raises(SettingsError, match=message) as refused:
        load_settings(PROFILES_DIR / "tiny.toml", config=config)
    assert "secret" not in str(refused.value)

"""Fixtures for all rooms: tiny random models in memory, and a blocked network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["LLM2VEC_SERVER_KEPT_S"] = "0"  # embedded servers of tests end with their commands
# Tiny models lose more to waiting for a second thread than they gain from it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # a busy neighbour is no failure
settings.load_profile("shared machine")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the development data (shared/data beside the checkout) is not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def make_pointer() -> Callable[..., Any]:
    """Pointers at generation ``g`` of checkpoint ``f``, with whatever else a test says."""
    from data.vectors.pointer import Pointer

    def make(**said: Any) -> Pointer:
        fields: dict[str, Any] = {
            "sequence": 1,
            "generation": "g",
            "checkpoint": "f",
            "jobs": 1,
            "resumes": 1,
            "snapshots": {},
            "fencing_epoch": 1,
            "run_id": "run",
            "promoted_at": datetime(2026, 3, 1, tzinfo=UTC),
        }
        return Pointer(**fields | said)

    return make


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Any]:
    """Run contexts without a lease: ``fence`` stands in for its check."""
    from tasks.run.context import Run

    def make(settings: Any, run_id: str = "run", *, fence: Callable[[], None] = lambda: None) -> Any:
        return Run(run_id, settings, settings.store(), SimpleNamespace(check=fence))

    return make


@pytest.fixture(scope="session")
def tiny_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random cross-encoder that gives a pair one score."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[SEP]", *map(chr, range(32, 127))])}
    backend = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="[PAD]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B:1 [SEP]:1", special_tokens=[("[SEP]", 1)]
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=128,
            num_labels=1,
            initializer_range=1.0,
        )
    )
    directory = tmp_path_factory.mktemp("cross-encoder")
    model.save_pretrained(directory)
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", sep_token="[SEP]").save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a two-layer random Llama of width 32 with a byte-level tokenizer, like a base model from a hub."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
            initializer_range=0.2,
        )
    )
    directory = tmp_path_factory.mktemp("tiny_base")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One ephemeral Prefect server with its own database, for all tests."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


class Receiver:
    """An HTTP endpoint on this machine that keeps what it is sent.

    Attributes:
        status: What it answers.
        received: JSON bodies, in order.
        requests: Headers and body of each request, in order.
        answers: What it says to a path, else an empty object.
    """

    def __init__(self) -> None:
        self.status = 200
        self.received: list[Any] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answers: dict[str, Any] = {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((dict(self.headers), body))
                receiver.received.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()
                self.wfile.write(json.dumps(receiver.answers.get(self.path, {})).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A service of S3's protocol on this machine, which refuses a write whose condition does not hold; its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an empty bucket of that service, which the environment names, too."""
    import logging
    import secrets

    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"test-{secrets.token_hex(6)}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of pages."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()

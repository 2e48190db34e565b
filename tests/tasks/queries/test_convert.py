"""Conversion by name, and a server that is compared with the converted encoder."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data.errors import InputError
from flows.cli import run
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.model.modes import EncoderView
from llm2vec_core.serving.record import Conversion, read_conversion
from llm2vec_core.training.settings import Recipe
from tasks.queries.convert import convert_encoder, prove_server
from tasks.run.settings import EncodeSettings, Settings

VIEW = "+bidirectional+mean"


@pytest.fixture
def settings(tmp_path: Path, tiny_base: Path) -> Settings:
    return Settings(
        home=str(tmp_path / "home"),
        train=Recipe(base_model=str(tiny_base), max_tokens=64),
        encode=EncodeSettings(prompts={"job": "Job: "}),
    )


def convert(settings: Settings, to: Path, name: str) -> Conversion:
    return convert_encoder(settings, name, to=to, formats=[], precision="float32")


@pytest.fixture
def serve() -> Iterator[Callable[[Encoder], str]]:
    """Serve an encoder as other servers do: OpenAI's interface, answers out of order."""
    servers = []

    def start(encoder: Encoder) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                vectors = encoder.encode(asked["input"]).tolist()
                rows = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"data": rows[::-1]}).encode())

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/v1/embeddings"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_encoder_is_converted_by_name_with_the_prompts_of_its_documents(
    settings: Settings, tmp_path: Path, tiny_base: Path
) -> None:
    conversion = convert(settings, tmp_path / "to", f"{tiny_base}{VIEW}")
    assert (conversion.attention, conversion.pooling, conversion.max_tokens) == ("bidirectional", "mean", 64)
    assert conversion.label.endswith(VIEW)
    assert read_conversion(tmp_path / "to") == conversion
    prompts = json.loads((tmp_path / "to" / "config_sentence_transformers.json").read_text())["prompts"]
    assert prompts["job"] == "Job: "
    assert '"Job: "' in (tmp_path / "to" / "README.md").read_text()


def test_what_is_no_part_of_an_encoder_is_refused(settings: Settings, tmp_path: Path, tiny_base: Path) -> None:
    for mode in ("instructed", "sections", "hybrid"):
        with pytest.raises(InputError, match=mode):
            convert(settings, tmp_path / "to", f"{tiny_base}+{mode}")
    with pytest.raises(InputError, match="Nothing is served"):
        convert_encoder(settings, None, to=tmp_path / "to", formats=[], precision="float32")


def test_a_server_is_proven_or_not_and_the_directory_tells(
    settings: Settings, tmp_path: Path, tiny_base: Path, serve: Callable[[Encoder], str], monkeypatch, capsys
) -> None:
    """The other server reads the same directory, but with the decoder's own attention: what a server does that does not
    know the keys."""
    to = tmp_path / "to"
    convert(settings, to, f"{tiny_base}{VIEW}")
    honest, other = Encoder.load(to), Encoder.load(to, view=EncoderView("causal"))
    assert prove_server(to, url=serve(honest), runtime="vllm").status == "proven"
    [proof] = [proof for proof in read_conversion(to).proofs if proof.runtime == "vllm"]
    assert proof.status == "proven"
    assert proof.serve is not None
    assert "| vllm |  | proven |" in (to / "README.md").read_text()

    monkeypatch.chdir(tmp_path)
    assert run(["prove", str(to), "--url", serve(other), "--runtime", "vllm", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "failed"
    assert told["agreement"]["min_cosine"] < 0.99
    assert "| vllm |  | failed |" in (to / "README.md").read_text()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1/embeddings", "file:///etc/hostname"])
def test_a_server_that_does_not_answer_is_the_caller_s_mistake(
    settings: Settings, tmp_path: Path, tiny_base: Path, url: str, monkeypatch, capsys
) -> None:
    to = tmp_path / "to"
    before = convert(settings, to, f"{tiny_base}{VIEW}")
    monkeypatch.chdir(tmp_path)
    assert run(["prove", str(to), "--url", url, "--runtime", "vllm", "--json"]) == 2
    assert url in json.loads(capsys.readouterr().out)["error"]
    assert read_conversion(to) == before

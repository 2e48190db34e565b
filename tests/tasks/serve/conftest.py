"""A small served home with a tiny encoder, and servers on free ports of this machine."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from data.schema import KINDS, encoded_text
from data.store.lease import hold_lease
from data.store.records import Record
from data.vectors.lance import create_table, table_schema
from data.vectors.pointer import POINTER, Pointer
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.ranking.words import tokenize
from tasks.encoders.checkpoints import checkpoint_dir, load_encoder, store_checkpoint
from tasks.encoders.query_encoder import keep_query_encoder
from tasks.run.context import Run
from tasks.run.settings import Settings
from tasks.serve.server import Started, serve
from tasks.stages.match import match_all

JOBS = {"j1": ("Data engineer", "Moves data with SQL. Knows Hadoop and Haskell.")}
RESUMES = {
    "r1": ("Analyst", "I wrote SQL for ten years.\nI gardened."),
    "r2": ("Cook", "I cook."),
    "r3": ("<img src=x onerror=alert(1)>", "I know Haskell & <b>SQL</b>."),
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Home(NamedTuple):
    """A home, and what is promoted in it."""

    settings: Settings
    checkpoint: str
    make_pointer: Callable[..., Pointer]

    def promote(self, generation: str, resumes: dict[str, tuple[str, str]]) -> None:
        """Write a generation with these resumes, and serve it."""
        store = self.settings.store()
        encoder = load_encoder(checkpoint_dir(store, self.checkpoint), self.settings.encode)
        versions = {}
        for number, (kind, documents) in enumerate(zip(KINDS, (JOBS, resumes), strict=True)):
            texts = [encoded_text(*document) for document in documents.values()]
            schema = table_schema(encoder.embedding_dim)
            rows: dict[str, Any] = {field.name: [None if field.nullable else "x"] * len(texts) for field in schema}
            rows |= {
                "doc_id": [str(number) * 31 + str(each) for each in range(len(texts))],
                "source_id": list(documents),
                "title": [title for title, _ in documents.values()],
                "text": [text for _, text in documents.values()],
                "metadata": ["{}"] * len(texts),
                "num_chars": [len(text) for text in texts],
                "words": [" ".join(tokenize(text)) for text in texts],
                "vector": list(encoder.encode(texts, normalize=True)),
            }
            table = create_table(store, generation=generation, kind=kind, embedding_dim=encoder.embedding_dim)
            table.upsert([pa.table(rows, schema=schema)])
            table.build_word_index()
            versions[f"{kind}s"] = table.version
        pointer = self.make_pointer(generation=generation, checkpoint=self.checkpoint, **versions)
        record: Record[Pointer] = POINTER
        record.swap(store, pointer, expected=store.read(POINTER.key))


class Server:
    """A running server; one connection for each request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = urlsplit(url).netloc

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.address, timeout=200)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, content, {"Content-Type": "application/json"} | named)
            answer = connection.getresponse()
            return Answer(
                answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read().decode()
            )
        finally:
            connection.close()

    def search(self, query: str, **fields: Any) -> Answer:
        return self.ask("POST", "/search", {"query": query, **fields})


@contextmanager
def running(
    settings: Settings, environment: dict[str, str] | None = None, *, judge: str | None = None
) -> Iterator[Server]:
    """A server in a thread of this process."""
    started: list[Started] = []
    is_open = threading.Event()

    def note(each: Started) -> None:
        started.append(each)
        is_open.set()

    thread = threading.Thread(
        target=serve,
        args=(settings,),
        kwargs={"host": "127.0.0.1", "port": 0, "environment": environment or {}, "judge": judge, "on_start": note},
    )
    thread.start()
    assert is_open.wait(200)
    try:
        yield Server(started[0].url)
    finally:
        started[0].stop()
        thread.join(200)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def served_home(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_pointer: Callable[..., Pointer]
) -> Home:
    """A home that serves the documents above; do not promote in it."""
    return make_home(tmp_path_factory.mktemp("serve"), tiny_base, make_pointer)


def make_home(folder: Path, tiny_base: Path, make_pointer: Callable[..., Pointer]) -> Home:
    settings = Settings(home=str(folder / "home"))
    spec = EncoderSpec(base_model="tiny", attention="bidirectional", pooling_mode="mean", max_tokens=64)
    write_checkpoint(folder / "made", backbone=tiny_base, spec=spec)
    home = Home(settings, store_checkpoint(settings.store(), folder / "made").fingerprint, make_pointer)
    keep_query_encoder(settings.store(), home.checkpoint, settings.encode)
    home.promote("first", RESUMES)
    return home


@pytest.fixture(scope="session")
def server(served_home: Home) -> Iterator[Server]:
    with running(served_home.settings) as found:
        yield found


@pytest.fixture
def judged_home(tmp_path: Path, tiny_base: Path, make_pointer: Callable[..., Pointer]) -> Home:
    """A home of its own with matches, so that pairs can be judged."""
    home = make_home(tmp_path, tiny_base, make_pointer)
    with hold_lease(home.settings.store(), owner="run") as lease:
        match_all.fn(Run("run", home.settings, home.settings.store(), lease))
    return home

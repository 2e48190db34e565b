"""A small nightly run: a tiny model, a dozen documents per kind, one evaluation task, real server and store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import Flow, Task

from flows.request import RunRequest

if TYPE_CHECKING:
    from flows.nightly import NightlyReport

JOBS = [
    ("Cloud engineer", "Runs AWS and GCP for the product teams and keeps cloud-based systems healthy every day."),
    ("Staff nurse", "Cares for patients on a surgical ward, gives medication and keeps careful records."),
    ("Data analyst", "Writes SQL and builds dashboards so that managers see how the business is doing."),
    ("C++ developer", "Develops low latency trading software in C++ on Linux with a small senior team."),
    ("Teacher", "Teaches mathematics to pupils aged eleven to sixteen and prepares them for exams."),
    ("Chef", "Leads the kitchen of a busy restaurant, plans the menu and trains the junior cooks."),
]


class SmallNight:
    """A home directory with two sources, one evaluation task, and a request that names them."""

    def __init__(self, folder: Path, base_model: Path) -> None:
        self.folder = folder
        self.base_model = base_model
        self.write(self.jobs, {f"j{n}": {"title": title, "description": text} for n, (title, text) in enumerate(JOBS)})
        self.write(self.resumes, {f"r{n}": {"title": "", "text": f"I was a {t}. {d}"} for n, (t, d) in enumerate(JOBS)})
        task = folder / "tasks" / "SmallRetrieval"
        task.mkdir(parents=True)
        header = {"name": "SmallRetrieval", "type": "Retrieval", "main_score": "ndcg_at_10", "language": "eng-Latn"}
        (task / "task.json").write_text(json.dumps(header))
        rows = [{"_id": f"d{n}", "title": title, "text": text} for n, (title, text) in enumerate(JOBS)]
        (task / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        queries = [{"_id": f"q{n}", "text": title} for n, (title, _) in enumerate(JOBS)]
        (task / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
        qrels = "".join(f"q{n}\td{n}\t1\n" for n in range(len(JOBS)))
        (task / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
        self.write_config()

    @classmethod
    def copied(cls, night: SmallNight, folder: Path) -> SmallNight:
        """The same night, elsewhere: what a test does to it, no other test sees."""
        shutil.copytree(night.folder, folder, dirs_exist_ok=True)
        copy = cls.__new__(cls)
        copy.folder, copy.base_model = folder, night.base_model
        copy.write_config()
        return copy

    def write_config(self) -> None:
        self.config.write_text(
            f"""
home = "{self.home}"
[sources.jobs]
kind = "job"
path = "{self.jobs}"
[sources.resumes]
kind = "resume"
path = "{self.resumes}"
[train]
base_model = "{self.base_model}"
max_tokens = 64
[train.mntp]
steps = 2
batch_size = 2
micro_batch_size = 2
chunk_tokens = 32
[train.simcse]
steps = 2
batch_size = 4
micro_batch_size = 4
max_tokens = 32
[evaluate]
sample_tasks = []
tasks_dirs = ["{self.folder / "tasks"}"]
[match]
top_k = 3
"""
        )

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs.jsonl"

    @property
    def resumes(self) -> Path:
        return self.folder / "resumes.jsonl"

    @property
    def config(self) -> Path:
        return self.folder / "l2v.toml"

    @property
    def request(self) -> RunRequest:
        return RunRequest(profile="tiny", config=str(self.config))

    @staticmethod
    def write(path: Path, documents: dict[str, dict[str, Any]]) -> None:
        path.write_text("".join(json.dumps({"id": key, **row}) + "\n" for key, row in documents.items()))

    @staticmethod
    def read(path: Path) -> dict[str, dict[str, Any]]:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return {row.pop("id"): row for row in rows}


@pytest.fixture
def small_night(tmp_path: Path, tiny_base: Path, prefect_server: None) -> SmallNight:
    return SmallNight(tmp_path, tiny_base)


@pytest.fixture(scope="session")
def first_night(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, prefect_server: None
) -> tuple[SmallNight, NightlyReport]:
    """A night that ran once, for all tests that only look at what it left."""
    from flows.nightly import nightly

    night = SmallNight(tmp_path_factory.mktemp("night"), tiny_base)
    return night, nightly(night.request)


@pytest.fixture
def served_night(first_night: tuple[SmallNight, NightlyReport], tmp_path: Path) -> SmallNight:
    """A copy of the first night's home, to be changed."""
    return SmallNight.copied(first_night[0], tmp_path)


@contextmanager
def unorchestrated() -> Iterator[None]:
    """Flows and tasks are plain functions: the same code, without a server."""
    with pytest.MonkeyPatch.context() as patched:
        for kind in (Flow, Task):
            patched.setattr(kind, "__call__", lambda self, *args, **options: self.fn(*args, **options))
        yield


@pytest.fixture
def without_orchestrator() -> Iterator[None]:
    with unorchestrated():
        yield

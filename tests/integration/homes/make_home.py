"""Make a home that tests/integration/test_old_home.py opens, with the code of a release: see README.md.

Run it in an empty folder, with that commit's checkout as PYTHONPATH: python make_home.py NAME
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

from flows.cli import run
from tests.conftest import tiny_base

JOBS = {
    "j0": ("Cloud engineer", "Runs AWS and GCP for the product teams and keeps cloud-based systems healthy every day."),
    "j1": ("Staff nurse", "Cares for patients on a surgical ward, gives medication and keeps careful records."),
    "j2": ("Teacher", "Teaches mathematics to pupils aged eleven to sixteen and prepares them for exams."),
}
RESUMES = {
    "r0": ("", "Ten years of AWS and Terraform, on call for cloud-based systems of a bank."),
    "r1": ("", "Nurse on a surgical ward of a large hospital, good with patients and with records."),
    "r2": ("", "Taught mathematics and physics at a comprehensive school, led the exam board."),
    "r3": ("", "Chef of a busy restaurant, planned the menu and trained the junior cooks."),
}
CONFIG = """\
home = "home"
[sources.jobs]
kind = "job"
path = "jobs.jsonl"
[sources.resumes]
kind = "resume"
path = "resumes.jsonl"
[train]
base_model = "base"
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
tasks_dirs = ["tasks"]
[match]
top_k = 3
"""
MACHINE_DIRS = ("prefect", "tmp", "machines", "base_models", "copies", "training")


def write_sources(jobs: dict[str, tuple[str, str]]) -> None:
    """The two sources, and an evaluation task."""
    for path, documents in (("jobs.jsonl", jobs), ("resumes.jsonl", RESUMES)):
        rows = [{"id": key, "title": title, "description": text} for key, (title, text) in documents.items()]
        Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = Path("tasks/SmallRetrieval")
    task.mkdir(parents=True, exist_ok=True)
    header = {"name": task.name, "type": "Retrieval", "main_score": "ndcg_at_10", "language": "eng-Latn"}
    (task / "task.json").write_text(json.dumps(header))
    corpus = [{"_id": key, "title": title, "text": text} for key, (title, text) in RESUMES.items()]
    (task / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    queries = [{"_id": key, "text": title} for key, (title, _) in JOBS.items()]
    (task / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    qrels = "".join(f"j{number}\tr{number}\t1\n" for number in range(len(JOBS)))
    (task / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)


def main(name: str) -> None:
    """Make ``NAME.tar.xz``. Two nights: the second brings a further job, so that there is a state to roll back to."""
    Path("l2v.toml").write_text(CONFIG)
    inspect.unwrap(tiny_base)(SimpleNamespace(mktemp=lambda _: Path("base").absolute()))
    for jobs in (dict(list(JOBS.items())[:2]), JOBS):
        write_sources(jobs)
        assert run(["nightly", "--profile", "tiny"]) == 0
    for folder in MACHINE_DIRS:
        shutil.rmtree(Path("home") / folder, ignore_errors=True)
    with tarfile.open(f"{name}.tar.xz", "w:xz") as archive:
        for entry in ("l2v.toml", "jobs.jsonl", "resumes.jsonl", "tasks", "base", "home"):
            archive.add(entry, filter=lambda found: None if found.name.endswith((".png", ".svg")) else found)


if __name__ == "__main__":
    main(sys.argv[1])

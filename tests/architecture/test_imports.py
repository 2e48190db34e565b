"""Import rules: rooms stay separate, and commands load only the packages they need."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tasks.encoders.query_encoder import keep_query_encoder
from tasks.queries.served import served
from tasks.run.settings import Settings

ROOT = Path(__file__).parents[2]
INTERACTIVE = (
    "flows.cli",
    "tasks.queries.search",
    "tasks.queries.explain",
    "tasks.queries.served",
    "tasks.queries.status",
    "tasks.queries.promotion",
    "tasks.queries.erase",
)
MODELS = {"torch", "transformers", "sentence_transformers", "peft"}
SERVICES = {"prefect", "ray", "boto3"}
EVALUATION = {"mteb", "matplotlib", "scipy", "sklearn", "statsmodels"}
DOCUMENTS = {"ftfy", "phonenumbers", "docx", "pypdf", "datasketch"}
TABLES = {"lancedb", "pandas"}
ARRAYS = {"numpy", "pyarrow"}


def modules_of(package: str) -> list[str]:
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / package).rglob("*.py")
        if path.stem != "__init__"
    )


def loaded_after(script: str, *arguments: str, cwd: Path = ROOT) -> set[str]:
    """Top-level packages that a fresh interpreter holds after ``script``; the last line of its output names them."""
    script = (
        f"import json, sys; sys.path.insert(0, {str(ROOT)!r})\n{script}\nprint()\nprint(json.dumps([*sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, cwd=cwd
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def loaded_by(*modules: str) -> set[str]:
    return loaded_after(f"import {', '.join(modules)}")


def loaded_by_command(tmp_path: Path, *arguments: str) -> set[str]:
    loaded = loaded_after("from flows.cli import run\nassert run(sys.argv[1:]) == 0", *arguments, cwd=tmp_path)
    assert "typer" in loaded
    return loaded


def test_the_core_loads_neither_orchestrator_nor_storage():
    assert loaded_by(*modules_of("llm2vec_core")) & {"prefect", "lancedb", "data", "tasks", "flows"} == set()


def test_the_data_room_loads_no_model_library():
    assert loaded_by(*modules_of("data")) & {"prefect", "torch", "transformers", "llm2vec_core"} == set()


def test_an_ingest_of_tables_loads_no_scientific_library():
    assert loaded_by("data.snapshots.build", "data.documents.near_duplicates") & {"scipy", "datasketch"} == set()


def test_interactive_commands_load_neither_prefect_nor_torch():
    assert loaded_by(*INTERACTIVE) & {"prefect", "torch", "transformers", "mteb", "matplotlib"} == set()


def test_help_loads_the_command_line_only(tmp_path):
    loaded = loaded_by_command(tmp_path, "--help")
    assert loaded & (MODELS | SERVICES | EVALUATION | DOCUMENTS | TABLES | ARRAYS | {"pydantic"}) == set()


@pytest.mark.parametrize("command", [["status"], ["generations", "list"]], ids=" ".join)
@pytest.mark.parametrize("home", ["empty", "served"])
def test_a_look_at_the_home_opens_no_table_and_loads_no_model(tmp_path, command, home):
    """Arrays are loaded: the schemas of documents are pyarrow's."""
    if home == "served":
        with tarfile.open(ROOT / "tests" / "integration" / "homes" / "before_house.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
    loaded = loaded_by_command(tmp_path, *command, "--set", f"home={tmp_path / 'home'}")
    assert loaded & (MODELS | SERVICES | EVALUATION | DOCUMENTS | TABLES) == set()


def test_a_search_loads_neither_torch_nor_pandas(tmp_path):
    """The checkpoint carries an encoder of queries, and LanceDB needs pandas for data frames only."""
    pytest.importorskip("onnx", reason="the extra `serving` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `serving` is not installed")
    with tarfile.open(ROOT / "tests" / "integration" / "homes" / "before_house.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    settings = Settings(home=str(tmp_path / "home"))
    store = settings.store()
    keep_query_encoder(store, served(store).checkpoint, settings.encode)
    loaded = loaded_by_command(tmp_path, "search", "nurse", "--set", f"home={tmp_path / 'home'}")
    assert {"lancedb", "onnxruntime"} <= loaded
    assert loaded & (MODELS | SERVICES | EVALUATION | DOCUMENTS | {"pandas"}) == set()


def test_nothing_names_an_index_host():
    """The lock holds names, versions and hashes, so that it installs from whatever index a company uses."""
    assert "://" not in (ROOT / "requirements.lock").read_text()

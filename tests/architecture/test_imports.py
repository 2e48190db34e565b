"""What loads what: the rooms stay apart, and interactive commands start fast."""

import subprocess
import sys
from pathlib import Path

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


def modules_of(package: str) -> list[str]:
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / package).rglob("*.py")
        if path.stem != "__init__"
    )


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after importing ``modules``."""
    script = f"import sys, {', '.join(modules)}; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_the_core_loads_neither_orchestrator_nor_storage():
    assert not loaded_by(*modules_of("llm2vec_core")) & {"prefect", "lancedb", "data", "tasks", "flows"}


def test_the_data_room_loads_no_model_library():
    assert not loaded_by(*modules_of("data")) & {"prefect", "torch", "transformers", "llm2vec_core"}


def test_interactive_commands_load_neither_prefect_nor_torch():
    assert not loaded_by(*INTERACTIVE) & {"prefect", "torch", "transformers", "mteb", "matplotlib"}


def test_every_package_says_what_belongs_in_it():
    for package in ("flows", "tasks", "llm2vec_core", "data"):
        text = (ROOT / package / "__init__.py").read_text()
        assert "Belongs here" in text
        assert "not belong here" in text


def test_nothing_names_an_index_host():
    """The lock holds names, versions and hashes, so that it installs from whatever index a company uses."""
    assert "://" not in (ROOT / "requirements.lock").read_text()

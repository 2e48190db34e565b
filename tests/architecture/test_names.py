"""Modules that are named in module docstrings exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("llm2vec_core", "data", "tasks", "flows")
SOURCES = sorted(
    path.relative_to(ROOT).as_posix() for room in (*ROOMS, "tools") for path in (ROOT / room).rglob("*.py")
)
MODULES = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in SOURCES}
DATA_FILES = (".json", ".jsonl", ".j2", ".md", ".toml", ".tsv")
FIRST_NAMES = {name.split(".")[0] for name in MODULES} | {
    part for name, file in MODULES.items() if file.endswith("__init__.py") for part in name.split(".")
}


def modules_named(name: str) -> list[str]:
    """Files of the modules whose dotted name is, or ends in, a name."""
    return [file for module, file in MODULES.items() if module == name or module.endswith(f".{name}")]


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module defines."""
    owner, _, attribute = name.rpartition(".")
    defines = re.compile(rf"^(?:class |def )?{re.escape(attribute)}\b", re.MULTILINE)
    return bool(modules_named(name)) or any(
        defines.search((ROOT / file).read_text(encoding="utf-8")) for file in modules_named(owner)
    )


def wrong_names(docstring: str, room: str) -> list[str]:
    """Names in double backticks that look like modules of ours, and are none.

    Dotted names count if they begin with a package of ours, and paths of Python files. Where a module says what does
    not belong to it, single names are modules of its room, or rooms.
    """
    found = []
    for name in re.findall(r"``([\w./]+)``", docstring):
        if name.endswith(".py"):
            is_file = (ROOT / name).is_file() or any(file.endswith(f"/{name}") for file in SOURCES)
            found += [] if is_file else [name]
        elif name.endswith(DATA_FILES):
            continue
        elif re.fullmatch(r"[a-z_]+(\.\w+)+", name) and name.split(".")[0] in FIRST_NAMES:
            found += [] if exists(name) else [name]
    _, _, others = docstring.partition("not belong here:")
    near = {name.rpartition(".")[2] for name in MODULES if name.split(".")[0] == room}
    return found + [name for name in re.findall(r"``([a-z_]+)``", others) if name not in near.union(ROOMS)]


@pytest.mark.parametrize("file", SOURCES)
def test_modules_that_a_docstring_names_exist(file):
    docstring = ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8"))) or ""
    assert wrong_names(" ".join(docstring.split()), file.split("/")[0]) == []


@pytest.mark.parametrize("name", ["data.vectors.gone", "tasks.stages.train.gone", "training/gone.py"])
def test_a_wrong_name_is_found(name):
    assert wrong_names(f"See ``{name}``.", "data") == [name]
    assert wrong_names("Does not belong here: words (``gone``), the gate (``gate``).", "data") == ["gone"]
    assert wrong_names("Does not belong here: fusion (``fusion``).", "data") == ["fusion"], "it is in another room"
    assert (
        wrong_names("See ``data.vectors.gate``, ``tasks.stages.train.train_recipe``, ``training/job.py``.", "data")
        == []
    )

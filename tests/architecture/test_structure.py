"""No import cycles within a room, including imports inside functions and for type checkers."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("llm2vec_core", "data", "tasks", "flows")


def modules_of(room: str, root: Path = ROOT) -> dict[str, Path]:
    """Dotted name of every module and package of a room, with its file."""
    found = {}
    for path in sorted((root / room).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_names(path: Path, package: str) -> Iterator[str]:
    """Every dotted name that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) + 1 - node.level], node.module or ""]) if node.level else node.module
            # `from package import module` imports the module; `from module import name` imports the module before it.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def import_graph(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Module to the modules of the same room that it imports."""
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        graph[name] = set()
        for imported in imported_names(path, package):
            while imported and imported not in modules:
                imported = imported.rpartition(".")[0]
            if imported and imported != name:
                graph[name].add(imported)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which reaches every other one (Tarjan's strongly connected components)."""
    found: list[list[str]] = []
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == number[name]:
            start = stack.index(name)
            group, stack[start:] = stack[start:], []
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_no_import_circles(room):
    assert circles(import_graph(modules_of(room))) == []


def test_a_hidden_circle_is_found(tmp_path):
    room = tmp_path / "room"
    (room / "inner").mkdir(parents=True)
    (room / "__init__.py").write_text('"""A room."""\n')
    (room / "inner" / "__init__.py").write_text('"""A folder."""\n')
    (room / "first.py").write_text("from room.inner import second\n")
    (room / "inner" / "second.py").write_text("def late():\n    from ..third import name\n")
    (room / "third.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from room.first import Thing\n"
    )
    (room / "apart.py").write_text("import room.first\n")

    assert circles(import_graph(modules_of("room", tmp_path))) == [["room.first", "room.inner.second", "room.third"]]


@pytest.mark.parametrize("room", ["data"])
def test_importing_a_room_changes_neither_environment_nor_logging(room):
    script = (
        "import logging, os\n"
        "def state():\n"
        "    root = logging.getLogger()\n"
        "    return dict(os.environ), root.level, list(root.handlers), root.manager.disable\n"
        "before = state()\n"
        f"import {', '.join(modules_of(room))}\n"
        "assert state() == before, (before, state())\n"
        "for name, logger in logging.root.manager.loggerDict.items():\n"
        f"    assert not name.startswith({room!r}) or not getattr(logger, 'level', 0), name\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)

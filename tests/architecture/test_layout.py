"""Layout of the source tree: small folders, documented packages, unique public names, mirrored tests."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("flows", "tasks", "llm2vec_core", "data")
MAX_ENTRIES = 15


def folders() -> list[Path]:
    found = [folder for room in ROOMS for folder in [ROOT / room, *(ROOT / room).rglob("*")] if folder.is_dir()]
    return sorted(folder for folder in found if "__pycache__" not in folder.parts)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("__init__.py", "__pycache__"))


@pytest.mark.parametrize("folder", folders(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_can_be_read_at_a_glance(folder):
    assert len(entries(folder)) <= MAX_ENTRIES, entries(folder)


def test_every_package_says_what_it_holds():
    packages = [folder for folder in folders() if any(folder.glob("*.py"))]
    assert len(packages) > len(ROOMS)
    sources = {str(folder.relative_to(ROOT)): (folder / "__init__.py").read_text() for folder in packages}
    assert [name for name, source in sources.items() if not ast.get_docstring(ast.parse(source))] == []


def test_tests_lie_where_their_source_lies():
    tests = [path.relative_to(ROOT / "tests") for room in ROOMS for path in (ROOT / "tests" / room).rglob("test_*.py")]
    assert len(tests) > 50
    assert [str(test) for test in tests if not (ROOT / test.parent).is_dir()] == []


SHARED_NAMES = {
    "InputError": "the caller's mistake, in the error tree of each room",
    "read": "the reader of a file format; one table assigns readers to suffixes",
    "promote": "the query takes the lease and calls the pointer's",
    "rollback": "the query takes the lease and calls the pointer's",
}
"""Public names that several modules share, and the one thing that each means."""


def public_names() -> dict[str, list[str]]:
    """Modules that define each public class, function or type at their top level.

    Commands and flows are left out: they are named after what they run.
    """
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            module = str(path.relative_to(ROOT))
            if module.startswith("flows/cli/"):
                continue
            for name in defined_names(ast.parse(path.read_text())):
                if not name.startswith("_") and module != f"flows/{name}.py":
                    found.setdefault(name, []).append(module)
    return found


def defined_names(module: ast.Module) -> list[str]:
    """Classes, functions, and types by assignment (``Kind = Literal[...]``); not constants."""
    names = []
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [
                each.id for each in node.targets if isinstance(each, ast.Name) and re.match("[A-Z]+[a-z]", each.id)
            ]
    return names


def test_a_public_name_means_one_thing():
    shared = {name: modules for name, modules in public_names().items() if len(modules) > 1}
    assert {name: modules for name, modules in shared.items() if name not in SHARED_NAMES} == {}
    assert set(SHARED_NAMES) == set(shared), "SHARED_NAMES lists a name that is no longer shared"

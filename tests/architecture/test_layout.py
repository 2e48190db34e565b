"""The tree of the source: small folders, described packages, one meaning for each public name, tests beside it."""

import ast
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

"""Examples in the docs are valid: commands, settings and files."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from data.documents.judgments import read_judgments
from flows.cli.app import app
from flows.profiles import PROFILES_DIR
from llm2vec_core.evaluation.tasks.folders import discover_eval_tasks, load_eval_task
from tasks.run.settings import load_settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HOW_TO = (ROOT / "docs" / "how-to.md").read_text()


def blocks(page, language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [content for found, content in fenced if found == language]


def shown_commands(page):
    for block in blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(\.venv/bin/)?l2v ", line):
                yield shlex.split(line, comments=True)[1:]


COMMANDS = [(page.name, words) for page in PAGES for words in shown_commands(page)]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else None)
def test_a_command_that_a_page_shows_is_one(page, words):
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        name, *words = words
        assert name in command.commands, f"{page}: no command {name}"
        command = command.commands[name]
    command.make_context("l2v", list(words)).close()


def test_the_pages_show_commands():
    assert len(COMMANDS) > 15
    assert {"README.md", "how-to.md", "operate.md", "tutorial.md"} <= {page for page, _ in COMMANDS}


CONFIGURATIONS = [(page.name, block) for page in PAGES for block in blocks(page, "toml")]


@pytest.mark.parametrize(("page", "shown"), CONFIGURATIONS, ids=[page for page, _ in CONFIGURATIONS])
def test_settings_that_a_page_shows_are_taken(page, shown, tmp_path):
    config = tmp_path / "l2v.toml"
    config.write_text(shown)
    taken = load_settings(PROFILES_DIR / "demo.toml", config=config).model_dump(mode="json")
    assert holds(taken, tomllib.loads(shown)), f"{page}: {shown}"


def holds(taken, shown):
    """Whether ``taken`` has every key of ``shown`` with its value; there is at least one."""
    return bool(shown) and all(
        name in taken and (holds(taken[name], value) if isinstance(value, dict) else taken[name] == value)
        for name, value in shown.items()
    )


def test_the_pages_show_settings():
    assert len(CONFIGURATIONS) > 10
    assert {"README.md", "how-to.md", "tutorial.md"} <= {page for page, _ in CONFIGURATIONS}


def keys_of(table, prefix=""):
    for name, value in table.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{name}.")


def test_every_setting_is_named_in_a_profile_a_page_or_a_test():
    reference = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    keys = re.findall(r"^\| `([\w.]+)`", reference, re.MULTILINE)
    texts = [page.read_text() for page in PAGES] + [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    tables = [block for page in PAGES for block in blocks(page, "toml")]
    tables += [path.read_text() for path in PROFILES_DIR.glob("*.toml")]
    named = {
        re.sub(r"^sources\.[\w-]+", "sources.NAME", key) for table in tables for key in keys_of(tomllib.loads(table))
    }
    written = set(re.findall(r"\b[a-z]+(?:\.\w+)+|\b\w+(?==)", "\n".join(texts)))
    assert [key for key in keys if not {key, key.rpartition(".")[2]} & (named | written)] == []
    assert len(keys) <= 144  # the last two: encode.backend and encode.url


def files(language):
    return blocks(ROOT / "docs" / "how-to.md", language)


def test_the_evaluation_task_of_the_page_is_one(tmp_path):
    (header,) = files("json")
    folder = tmp_path / json.loads(header)["name"]
    folder.mkdir()
    corpus, queries, _ = files("jsonl")
    contents = {"task.json": header, "corpus.jsonl": corpus, "queries.jsonl": queries, "qrels.tsv": files("tsv")[0]}
    for name, content in contents.items():
        assert f"`{name}`" in HOW_TO
        (folder / name).write_text(content)
    (found,) = discover_eval_tasks(tmp_path)
    assert load_eval_task(found).name == "NursingSearch"


def test_the_judgments_of_the_page_are_judgments(tmp_path):
    (tmp_path / "judged.jsonl").write_text(files("jsonl")[2])
    assert len(read_judgments(str(tmp_path / "judged.jsonl"))) == 3

"""The top-level API: its import cost, and the five lines from a base model to a report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import llm2vec_core
from llm2vec_core import errors

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "sentence_transformers", "prefect", "lancedb", "mteb", "numpy", "pydantic"}
PIPELINE = {"prefect", "lancedb", "mteb", "data", "tasks", "flows"}


def fresh(script: str, *arguments: str) -> str:
    """Output of a script in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_and_takes_no_time():
    script = (
        "import sys, time; start = time.process_time(); import llm2vec_core; took = time.process_time() - start\n"
        "print(took); print(' '.join(name.split('.')[0] for name in sys.modules))"
    )
    took, modules = fresh(script).splitlines()
    assert not HEAVY & set(modules.split())
    assert float(took) < 0.2


def test_the_names_are_there_before_they_are_loaded():
    assert set(llm2vec_core.__all__) == {"Encoder", "Recipe", "evaluate", "train"} <= set(dir(llm2vec_core))
    with pytest.raises(AttributeError, match="'Decoder'"):
        _ = llm2vec_core.Decoder
    with pytest.raises(ImportError, match="Decoder"):
        from llm2vec_core import Decoder  # noqa: F401


def test_a_recipe_loads_no_model_library():
    script = "import sys; from llm2vec_core import Recipe; Recipe.paper('mistral-7b'); print('torch' in sys.modules)"
    assert fresh(script).strip() == "False"


FIVE_LINES = """
import sys
from llm2vec_core import Encoder, Recipe, evaluate, train
base, texts, save_to, tasks = sys.argv[1], [f"text number {n} about nursing" for n in range(64)], *sys.argv[2:]
encoder = Encoder.from_base(base, attention="bidirectional", max_tokens=64)
small = {"steps": 2, "batch_size": 4, "micro_batch_size": 4, "max_tokens": 16}
recipe = Recipe(base_model=base, stages=("simcse",), max_tokens=64, simcse=small)
encoder = train(recipe, texts, save_to=save_to)
assert encoder.encode(["AWS and GCP", "cloud-based systems"], long_texts="sections").shape == (2, 32)
print(" ".join(name.split(".")[0] for name in sys.modules))
report = evaluate([encoder, "bm25"], tasks=[tasks])
report.save(save_to + "-report")
print(" ".join(system.name for system in report.systems))
"""


@pytest.fixture
def task_folder(tmp_path):
    folder = tmp_path / "tasks" / "Nursing"
    folder.mkdir(parents=True)
    header = {"name": "Nursing", "type": "Retrieval", "main_score": "ndcg_at_10"}
    (folder / "task.json").write_text(json.dumps(header))
    texts = ["nurse on a ward", "cook in a canteen", "welder of pipes", "teacher of maths"]
    corpus = [{"_id": f"d{place}", "title": "", "text": text} for place, text in enumerate(texts)]
    queries = [{"_id": f"q{place}", "text": text.split()[0]} for place, text in enumerate(texts)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    judged = "".join(f"q{place}\td{place}\t1\n" for place in range(4))
    (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder


def test_the_five_lines_load_neither_orchestrator_nor_evaluation_before_it_is_called(tiny_base, task_folder, tmp_path):
    modules, systems = fresh(FIVE_LINES, str(tiny_base), str(tmp_path / "mine"), str(task_folder)).splitlines()
    assert not PIPELINE & set(modules.split())
    assert systems == f"{tiny_base.name} Bi + SimCSE, mean BM25"
    saved = {path.name for path in (tmp_path / "mine-report").iterdir()}
    assert {"report.html", "report.md", "report.json"} <= saved


def test_encoders_and_names_are_scored_side_by_side(tiny_base, task_folder):
    encoder = llm2vec_core.Encoder.from_base(tiny_base, max_tokens=64)
    names = [f"{tiny_base}+causal+last", f"{tiny_base}+sections", f"{tiny_base}+hybrid", "BM25"]
    report = llm2vec_core.evaluate([encoder, encoder, *names], task_folder.parent, max_items=3)
    title = tiny_base.name
    assert [system.name for system in report.systems] == [
        f"{title} Bi, mean",
        f"{title} Uni, last",
        f"{title} Uni, w. mean, by sections",
        f"{title} Uni, w. mean, hybrid",
        "BM25",
    ]
    assert len({system.fingerprint for system in report.systems}) == 5
    assert all(score.num_items == 3 for system in report.systems for score in system.scores)
    assert report.systems[-1].scores[0].main_score == 100.0, "every query is a word of its document"


def test_what_cannot_be_evaluated_is_refused(tiny_base, task_folder, monkeypatch):
    with pytest.raises(errors.InputError, match="re-ranking"):
        llm2vec_core.evaluate(f"{tiny_base}+reranked", task_folder)
    with pytest.raises(errors.EvalTaskError, match="does not exist"):
        llm2vec_core.evaluate("bm25", task_folder.parent / "nothing")
    with pytest.raises(errors.InputError, match="NoSuchTask"):
        llm2vec_core.evaluate("bm25", "NoSuchTask")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.MissingPackageError, match=r"^`evaluate` needs the extra 'evaluation': pip"):
        llm2vec_core.evaluate("bm25", task_folder)


def test_the_command_without_its_extra_says_what_to_install():
    script = "import importlib.util; importlib.util.find_spec = lambda name: None; import flows.cli"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr == "`l2v` needs the extra 'pipeline': pip install 'llm2vec-pipelines[pipeline]'\n"

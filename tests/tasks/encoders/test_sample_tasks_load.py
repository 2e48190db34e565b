"""The core can load and score the task folders of the sample."""

from pathlib import Path

import pytest

from data.sample.eval_tasks import SAMPLE_TASKS, write_sample_tasks
from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.tasks.folders import discover_eval_tasks, load_eval_task
from tasks.encoders.evaluation_reports import headlines
from tasks.run.settings import EvaluateSettings, Settings
from tasks.stages.chosen_tasks import load_tasks


def test_every_folder_is_found_by_its_name(tmp_path: Path) -> None:
    written = write_sample_tasks(tmp_path)
    assert set(discover_eval_tasks(tmp_path)) == set(written)


@pytest.mark.parametrize(
    ("name", "items", "num_items"),
    [
        ("JobResumeRetrieval", "queries", 100),
        ("SkillParaphrasePairs", "pairs", 504),
        ("EscoTitleRetrieval", "queries", 280),
    ],
)
def test_a_folder_loads_whole(tmp_path: Path, name: str, items: str, num_items: int) -> None:
    (folder,) = write_sample_tasks(tmp_path, [name])
    task = load_eval_task(folder)
    assert name in SAMPLE_TASKS
    assert (task.name, task.num_items, len(task.tables[items])) == (name, num_items, num_items)


def test_a_task_of_two_folders_is_one_and_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    dirs = [tmp_path / "one", tmp_path / "other"]
    folders = [write_sample_tasks(folder, ["SkillParaphrasePairs"])[0] for folder in dirs]
    chosen = EvaluateSettings(sample_tasks=(), tasks_dirs=[str(folder) for folder in dirs])
    store = Settings(home=str(tmp_path / "home")).store()
    assert [task.name for task in load_tasks(store, chosen)] == ["SkillParaphrasePairs"]
    pairs = folders[1] / "pairs.jsonl"
    pairs.write_text("".join(pairs.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(EvalTaskError, match="Two evaluation tasks with different content"):
        load_tasks(store, chosen)


def test_content_has_the_same_identity_each_time(tmp_path: Path) -> None:
    hashes = [
        [load_eval_task(folder).content_sha256 for folder in write_sample_tasks(tmp_path / copy)] for copy in "ab"
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == len(SAMPLE_TASKS)


def test_a_headline_and_its_note_come_with_the_task_that_they_are_about(tmp_path: Path) -> None:
    jobs, others = map(load_eval_task, write_sample_tasks(tmp_path, ["JobResumeRetrieval", "EscoTitleRetrieval"]))
    (headline,) = headlines([others, jobs])
    assert headline.task == "JobResumeRetrieval"
    assert headline.with_count(headline.title, jobs.num_items) == "100 job descriptions"
    assert headline.note.startswith("The 100 job descriptions are written for this project")
    assert headlines([others]) == ()

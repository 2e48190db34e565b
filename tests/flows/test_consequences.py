"""Every setting that decides a result is in the result's key: the preview of a changed setting shows what is stale."""

import json
import re
import shutil

import pytest

from data.errors import InputError
from data.snapshots import build
from data.vectors.pointer import read_pointer
from flows.nightly import nightly
from flows.request import RunRequest
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.errors import CoreError
from llm2vec_core.model.checkpoint import EncoderSpec
from tasks.preview.night import preview_night
from tasks.run.consequences import effects_of, setting_keys
from tasks.stages import audit, export
from tests.flows.conftest import JOBS, SmallNight, unorchestrated

NOT_CHANGED = {
    "home": "another home has nothing to make stale",
    "work_dir": "decides where files of one machine are",
    "deployments.gpu_stages": "needs a server",
    "sources.NAME.kind": "a source of another kind is another source",
    "ingest.ocr": "needs a scan, and Tesseract",
    "match.past_jobs": "needs a job that is past its last day",
    "evaluate.wording": "counts only for encoders that are named with +prompted",
    "judgments.leave_out": "needs judgments that overlap with a task; otherwise the same ones are left",
    "train.chat_template": "needs a base model with a chat template",
    "evaluate.benchmarks": "the data of benchmarks are not here",
}
"""Settings that are not changed here, and why."""


@pytest.fixture(scope="module")
def whole_night(tmp_path_factory, tiny_base):
    """A night that uses every section: all training stages, a tuned fusion, evaluation tasks in two folders."""
    night = SmallNight(tmp_path_factory.mktemp("night"), tiny_base)
    folder, task = night.folder, night.folder / "tasks" / "SmallRetrieval"
    write_queries(task, 52)
    for tree, name, count in (("others", "OtherRetrieval", 50), ("changed", "SmallRetrieval", 51)):
        other = shutil.copytree(task, folder / tree / name)
        write_queries(other, count)
        header = json.loads((task / "task.json").read_text()) | {"name": name}
        (other / "task.json").write_text(json.dumps(header))
    (folder / "base").symlink_to(tiny_base)
    spec = EncoderSpec(base_model="tiny", attention="bidirectional", pooling_mode="mean", max_tokens=32)
    write_checkpoint(folder / "teacher", backbone=tiny_base, spec=spec)
    (folder / "other-teacher").symlink_to(folder / "teacher")
    for number, name in ((6, "judgments"), (5, "fewer")):
        rows = [{"anchor": title, "positive": text} for title, text in JOBS[:number]]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(night.jobs, folder / "more-jobs.jsonl")
    (folder / "never.csv").write_text("resume_id\nnobody\n")
    (folder / "places.csv").write_text("place,country,latitude,longitude\nLeeds,GB,53.8,-1.55\n")
    night.config.write_text(
        night.config.read_text()
        .replace("[train]\n", '[train]\nstages = ["mntp", "simcse", "distil", "supervised"]\n')
        .replace(f'tasks_dirs = ["{folder / "tasks"}"]', f"tasks_dirs = {DIRS.format(folder=folder)}")
        + f'fusion = "tuned"\njudged = "{task}"\n'
        + "[train.supervised]\nsteps = 2\nbatch_size = 4\nmicro_batch_size = 4\n"
        + f'[train.distil]\nsteps = 2\nbatch_size = 4\nmicro_batch_size = 4\nteacher = "{folder / "teacher"}"\n'
        + f'[judgments]\nsources = ["{folder / "judgments.jsonl"}"]\n'
    )
    with unorchestrated():
        nightly(night.request)
    return night


DIRS = '["{folder}/tasks", "{folder}/others"]\ntasks = ["SmallRetrieval"]'


def write_queries(task, count):
    queries = [{"_id": f"q{n}", "text": f"{JOBS[n % 6][0]} {n}"} for n in range(count)]
    (task / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    qrels = "".join(f"q{n}\td{n % 6}\t1\n" for n in range(count))
    (task / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)


OTHER = {
    "sources.NAME.path": "{folder}/more-jobs.jsonl",
    "sources.NAME.id_field": "title",
    "sources.NAME.title_field": "id",
    "sources.NAME.text_field": ["description", "title"],
    "sources.NAME.format": "greenhouse",
    "sources.NAME.records": "jobs",
    "sources.NAME.encoding": "utf-8",
    "sources.NAME.separator": ";",
    "sources.NAME.mode": "newest",
    "ingest.allow_shrink": ["jobs"],
    "redact.name_model": "en_core_web_sm",
    "redact.key_file": "{folder}/keys.json",
    "train.schedule_epochs": 3,
    "train.mntp.schedule_epochs": 3,
    "train.simcse.schedule_epochs": 3,
    "train.distil.schedule_epochs": 3,
    "train.supervised.schedule_epochs": 3,
    "train.stages": ["mntp", "simcse", "supervised"],
    "train.base_model": "{folder}/base",
    "train.attention": "causal",
    "train.pooling_mode": "last",
    "train.lora.targets": ["q_proj"],
    "train.mntp.lora.targets": ["q_proj"],
    "train.mntp.mask_policy": "all_mask",
    "train.simcse.lora.targets": ["q_proj"],
    "train.supervised.lora.targets": ["q_proj"],
    "train.distil.lora.targets": ["q_proj"],
    "train.distil.teacher": "{folder}/other-teacher",
    "train.distil.distance": "mse",
    "train.keep_layers": 1,
    "train.merge": {"distil": 0.5, "supervised": 0.5},
    "train.supervised.instruction": "Find: ",
    "train.supervised.matryoshka_dims": [8],
    "train.supervised.teacher": "start",
    "judgments.sources": ["{folder}/fewer.jsonl"],
    "judgments.max_per_source": 4,
    "encode.prompts": {"job": "Job: "},
    "encode.precision": "bf16",
    "encode.token_budget": 128,
    "encode.devices": "all",
    "encode.backend": "http",
    "encode.url": "http://127.0.0.1:9/embed",
    "match.engine": "ray",
    "train.bf16": True,
    "train.mntp.bf16": True,
    "train.simcse.bf16": True,
    "train.distil.bf16": True,
    "train.supervised.bf16": True,
    "encode.long_texts": "sections",
    "encode.engine": "ray",
    "match.fusion": "rrf",
    "match.judged": "{folder}/others/OtherRetrieval",
    "match.reranker": "{cross_encoder}",
    "match.where": {"job": "title <> ''"},
    "match.exclude": "{folder}/never.csv",
    "match.conditions.on_fail": "remove",
    "match.conditions.places": "{folder}/places.csv",
    "evaluate.sample_tasks": ["SkillParaphrasePairs"],
    "evaluate.tasks_dirs": ["{folder}/changed"],
    "evaluate.tasks": ["OtherRetrieval"],
    "evaluate.max_items": 10,
    "evaluate.base_pooling": "mean",
    "evaluate.candidates": ["{folder}/base+causal+last"],
    "evaluate.trained_on": ["{folder}/judgments.jsonl"],
    "evaluate.references": ["{folder}/base+causal+last"],
    "evaluate.reports_url": "https://reports.example",
    "export.to": "{folder}/exports",
    "cost.price_per_hour": 1.0,
    "cost.power_w": 100.0,
    "cost.peak_tflops": 1.0,
    "lineage.endpoint": "http://127.0.0.1:9/lineage",
}
"""Another value of each setting that has no obvious one."""


ALSO = {
    "evaluate.sample_tasks": {"evaluate.tasks": ["SkillParaphrasePairs"]},
    "encode.backend": {"encode.url": "http://127.0.0.1:9/embed", "encode.long_texts": "parts"},
}
"""Further settings that a change needs."""


def another(key, value, **names):
    """Another valid value of a setting."""
    if key in OTHER:
        return json.loads(re.sub("{(folder|cross_encoder)}", lambda name: str(names[name[1]]), json.dumps(OTHER[key])))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.01 if value else 0.01
    assert isinstance(value, tuple), f"OTHER needs a value of {key}"
    return list(value[1:])


def value_of(settings, key):
    for name in key.split("."):
        settings = settings[name] if isinstance(settings, dict) else getattr(settings, name)
    return settings


def stale_after(night, key, value, monkeypatch):
    """What the preview of a night with one changed setting would do again."""
    overrides = {key: value, **ALSO.get(key, {})}
    request = RunRequest(profile="tiny", config=str(night.config), overrides=overrides)
    read = set()

    def changed_sources(*arguments):
        found = build_changed(*arguments)
        read.update(found)
        return found

    settings, before = request.settings(), night.request.settings()
    store, found = settings.store(), set()
    with monkeypatch.context() as patched:
        patched.setattr(build, "_changed_sources", changed_sources)
        try:
            preview = preview_night(settings)
        except (InputError, CoreError):  # the changed setting makes the source unreadable
            assert read, key
            return {"read"}
    if read:
        return {"read"}
    if preview.training_steps:
        return {"train"}
    if preview.scores.high:
        found.add("score")
    if preview.encoded_documents.low:  # at least so many, whichever encoder new scores choose
        found.add("encode")
    elif preview.match.reused is False:
        found.add("match")
    pointer = read_pointer(store)
    audited, audited_before = (audit._audit_id(each, pointer, ["job"]) for each in (settings, before))
    if (settings.audit.enabled, audited) != (before.audit.enabled, audited_before):
        found.add("audit")
    if settings.export.to != before.export.to or set(export._tables(store, pointer, settings)) != set(
        export._tables(store, pointer, before)
    ):
        found.add("export")
    return found


build_changed = build._changed_sources


@pytest.mark.slow
@pytest.mark.ci
def test_a_change_of_each_setting_makes_stale_what_the_table_says(whole_night, tiny_cross_encoder, monkeypatch):
    settings, wrong = whole_night.request.settings(), {}
    for key in (each.replace("NAME", "jobs") for each in setting_keys() if each not in NOT_CHANGED):
        named = key.replace("sources.jobs.", "sources.NAME.")
        value = another(named, value_of(settings, key), folder=whole_night.folder, cross_encoder=tiny_cross_encoder)
        found, expected = stale_after(whole_night, key, value, monkeypatch), {*effects_of(key)}
        if "train" in expected:  # a new encoder is scored
            expected.discard("score")
        if found != expected:
            wrong[key] = (sorted(found), sorted(expected))
    assert wrong == {}


def test_settings_that_are_not_changed_exist():
    assert {*NOT_CHANGED} <= {*setting_keys()}
    assert {*OTHER} <= {*setting_keys()}

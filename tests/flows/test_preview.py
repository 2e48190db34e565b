"""What a preview says is what the night then does, and a preview writes nothing."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import InputError, SourceShrankError
from flows.cli import run
from flows.nightly import nightly
from flows.request import RunRequest
from tasks.preview.night import preview_backfill, preview_embed, preview_night
from tasks.stages.backfill import BackfillRequest
from tasks.stages.maintain import STEPS
from tests.flows.conftest import JOBS, SmallNight


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def assert_within(span, found):
    assert span.low <= found <= span.high, (span, found)


def assert_foretold(preview, report):
    """Every count of a night is as its preview said."""
    for ingested in report.ingested:
        for name in ("rows_in", "rows_kept", "rows_quarantined", "rows_duplicate"):
            said = sum(getattr(change, name) for change in preview.sources if change.kind == ingested.kind)
            assert said == getattr(ingested, name), (ingested.kind, name)
    assert sum(preview.training_steps.values()) == report.trained.steps
    assert_within(preview.scores, report.evaluated.computed)
    assert "new" in preview.served or report.evaluated.served in preview.served
    assert_within(preview.encoded_documents, report.embedded.encoded_documents)
    for kind, plan in preview.tables.items():
        assert_within(plan.upserted, report.embedded.upserted[kind])
        assert_within(plan.removed, report.embedded.removed[kind])
    assert preview.match.reused in (None, report.matched.reused)
    assert (preview.match.jobs, preview.match.resumes) == (report.matched.jobs, report.matched.resumes)


@pytest.fixture
def night(first_night):
    """The first night at its own place, which is restored after the test."""
    found, _ = first_night
    kept = found.folder.with_name(f"{found.folder.name}-kept")
    shutil.copytree(found.folder, kept)
    yield found
    shutil.rmtree(found.folder)
    kept.rename(found.folder)


def test_a_first_night_is_foretold_and_its_home_not_made(small_night, first_night):
    preview = preview_night(small_night.request.settings())
    assert not small_night.home.exists()
    assert [(change.source, change.added, change.removed) for change in preview.sources] == [
        ("jobs", 6, 0),
        ("resumes", 6, 0),
    ]
    assert [sample.source_id for sample in preview.sources[0].samples["added"]] == ["j0", "j1", "j2"]
    assert {each.stage: each.time() for each in preview.estimates}["embed"] == "no figure yet"
    assert preview.encoded_documents.low == preview.encoded_documents.high == 12
    assert preview.scores.low == preview.scores.high
    assert_foretold(preview, first_night[1])  # a night on the same documents


def test_a_preview_leaves_every_byte_and_says_that_nothing_is_to_do(first_night, capsys):
    night, _ = first_night
    before = bytes_of(night.folder)
    arguments = ["--profile", "tiny", "--config", str(night.config)]
    assert run(["nightly", "--preview", "--json", *arguments]) == 0
    preview = json.loads(capsys.readouterr().out)
    assert bytes_of(night.folder) == before
    assert preview["scores"] == {"low": 0, "high": 0}
    assert (preview["training_steps"], preview["settings"], preview["match"]["reused"]) == ({}, [], True)
    assert {plan["encode"]["high"] for plan in preview["tables"].values()} == {0}
    assert run(["nightly", "--preview", *arguments]) == 0
    assert "nothing; the home is as it was" in capsys.readouterr().out


def test_changes_are_told_by_source_with_redacted_samples_and_past_figures(night):
    jobs = night.read(night.jobs)
    jobs["j0"]["description"] += " Now also Azure."
    jobs["j1"]["city"] = "Oslo"
    jobs["j9"] = {"title": "Write to ada@example.com", "description": "A new job for a gardener with a green thumb."}
    jobs["j10"] = {"title": "Empty", "description": ""}
    del jobs["j5"]
    night.write(night.jobs, jobs)
    request = night.request.model_copy(update={"overrides": {"match.top_k": 2, "cost.price_per_hour": 60}})
    preview = preview_night(request.settings())
    change = preview.sources[0]
    assert (change.added, change.changed, change.changed_metadata, change.removed) == (1, 1, 1, 1)
    assert change.quarantine_reasons == {"empty_text": 1}
    samples = {name: [each.source_id for each in found] for name, found in change.samples.items()}
    assert samples == {"added": ["j9"], "changed": ["j0"], "changed_metadata": ["j1"], "removed": ["j5"]}
    assert "ada@example.com" not in preview.model_dump_json()
    assert {each.key: each.stale for each in preview.settings} == {"match.top_k": ("match",), "cost.price_per_hour": ()}
    estimates = {each.stage: each for each in preview.estimates}
    assert estimates["embed"].tokens.low > 0
    assert estimates["embed"].seconds_low > 0
    assert preview.cost.startswith("$")
    looks = {(look.gate, look.about): look.verdict for look in preview.gates}
    assert looks["length_shift", "table jobs"] == "not checked: fewer than 200 documents"
    assert looks["unusable_share", "table jobs"] == "decided on the new vectors"


def test_a_refusal_is_foretold_with_its_figure(night, without_orchestrator):
    text = "A job that somebody posted, with the number"
    night.write(night.jobs, {f"k{n}": {"title": f"T{n}", "description": f"{text} {n}."} for n in range(60)})
    nightly(night.request)
    night.write(night.jobs, {f"k{n}": {"title": f"T{n}", "description": f"{text} {n}."} for n in range(20)})
    preview = preview_night(night.request.settings())
    assert "'jobs' had 60 documents and has 20 now" in preview.refused
    (look,) = [each for each in preview.gates if each.gate == "shrink"]
    assert (look.about, look.verdict, round(look.figure, 2)) == ("source jobs", "refuses", 0.67)
    assert preview.tables["job"].removed.low == 40
    with pytest.raises(SourceShrankError):
        nightly(night.request)


def test_an_optional_source_that_cannot_be_read_is_told(night):
    night.jobs.unlink()
    optional = night.request.model_copy(update={"overrides": {"sources.jobs.required": False}})
    preview = preview_night(optional.settings())
    assert (preview.sources[0].rows_kept, preview.sources[0].removed, preview.refused) == (6, 0, None)
    assert "Source jobs is not read; its documents stay: " in preview.notes[0]
    with pytest.raises(InputError, match="does not exist"):
        preview_night(night.request.model_copy().settings())


def test_embed_and_backfill_are_foretold(night, without_orchestrator):
    from flows.backfill import backfill
    from flows.embed import embed

    before = bytes_of(night.folder)
    settings_ = night.request.settings()
    full, some = preview_embed(settings_, full=True), preview_backfill(settings_, BackfillRequest(source="jobs"))
    assert bytes_of(night.folder) == before
    report = backfill(BackfillRequest(source="jobs"), night.request)
    assert some.encoded_documents.low == report.encoded_documents == 6
    assert {kind: plan.upserted.low for kind, plan in some.tables.items()} == report.upserted
    report = embed(report.checkpoint, night.request, full=True)
    assert full.encoded_documents.low == report.encoded_documents == 12
    assert {kind: plan.upserted.low for kind, plan in full.tables.items()} == report.upserted


def test_maintenance_is_foretold(night, without_orchestrator, capsys):
    from data.store.base import LocalStore
    from flows.maintain import maintain

    LocalStore(night.home).put_if_absent("shards/unknown/no_vector/key/content", b"left over")
    LocalStore(night.home).put_if_absent("tmp/left/over.bin", b"0" * 1000)
    request = night.request.model_copy(update={"overrides": {"retention.grace_hours": 0}})
    before = bytes_of(night.folder)
    options = ["--set", "retention.grace_hours=0", "--profile", "tiny", "--config", str(night.config)]
    assert run(["maintain", "--preview", "--json", *options]) == 0
    preview = json.loads(capsys.readouterr().out)
    assert bytes_of(night.folder) == before
    steps = {step.step: step for step in maintain(request).steps}
    told = {name: count for name, count in preview["places"].items() if name != "tables"}
    assert told == {name: steps[name].count for name in STEPS if name != "tables"}
    assert preview["freed_bytes"]["leftovers"] == steps["leftovers"].freed_bytes == 1000
    assert preview["places"]["tables"].startswith("0 to merge")


def test_an_erasure_is_foretold(night, capsys):
    from data.snapshots.snapshot import latest_snapshot
    from data.store.base import LocalStore
    from tasks.queries.erase import erase

    row = latest_snapshot(LocalStore(night.home), "resume").table(["doc_id"]).to_pylist()[0]
    before = bytes_of(night.folder)
    options = ["--doc-id", row["doc_id"], "--json", "--profile", "tiny", "--config", str(night.config)]
    assert run(["erase", "--preview", *options]) == 0
    preview = json.loads(capsys.readouterr().out)
    assert bytes_of(night.folder) == before
    report = erase(night.request.settings(), [row["doc_id"]])
    assert preview["places"] == {name: count for name, count in report.removed.items() if name != "leftovers"}


words = st.sampled_from(["nurse", "cloud", "SQL", "chef", "Oslo", "teacher", "night"])
texts = st.lists(words, min_size=0, max_size=6).map(" ".join)
changes = st.fixed_dictionaries(
    {
        "jobs": st.dictionaries(st.sampled_from([f"j{n}" for n in range(8)]), st.none() | texts, max_size=4),
        "resumes": st.dictionaries(st.sampled_from([f"r{n}" for n in range(8)]), st.none() | texts, max_size=4),
        "settings": st.sampled_from(
            [
                {},
                {"match.top_k": 2},
                {"match.candidates": 50},
                {"encode.prompts": {"job": "Job: "}},
                {"encode.precision": "bf16"},
                {"redact.job": []},
                {"clean.near_duplicates": False},
                {"train.simcse.steps": 1},
            ]
        ),
    }
)


def apply(night, change):
    """Change the sources: a text for a new or changed document, nothing for a removed one."""
    for path, field, rows in ((night.jobs, "description", change["jobs"]), (night.resumes, "text", change["resumes"])):
        documents = night.read(path)
        for key, text in rows.items():
            if text is None:
                documents.pop(key, None)
            else:
                documents[key] = {"title": "", field: text}
        if not documents:
            documents["kept"] = {"title": JOBS[0][0], field: JOBS[0][1]}
        night.write(path, documents)


def walk(night, steps):
    for change in steps:
        apply(night, change)
        request = RunRequest(profile="tiny", config=str(night.config), overrides=change["settings"])
        preview = preview_night(request.settings())
        assert_foretold(preview, nightly(request))


FIXED = [
    {"jobs": {"j0": "nurse Oslo", "j7": "cloud"}, "resumes": {}, "settings": {"match.top_k": 2}},
    {"jobs": {}, "resumes": {"r0": None, "r1": ""}, "settings": {"encode.prompts": {"job": "Job: "}}},
    {"jobs": {"j0": None}, "resumes": {}, "settings": {"train.simcse.steps": 1}},
]


def test_three_changed_nights_are_foretold(night, without_orchestrator):
    walk(night, FIXED)


@pytest.mark.slow
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(changes, min_size=2, max_size=4))
def test_random_changes_are_foretold(first_night, without_orchestrator, tmp_path_factory, steps):
    walk(SmallNight.copied(first_night[0], tmp_path_factory.mktemp("copy")), steps)

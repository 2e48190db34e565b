"""What people say about pairs: kept, counted, agreed on, exported once for training or for evaluation."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from data.documents.judgments import read_judgments
from data.errors import InputError, StoreError
from data.outputs.feedback import PairAnswer, add_answer, erase_answers, newest_answers, read_answers, use_of
from data.store.lease import hold_lease
from flows.cli.app import run
from llm2vec_core.evaluation.tasks.folders import load_eval_task
from tasks.queries.judge import TASK_NAME, agreement, export_judgments, judge, judgments_report, unjudged_pairs
from tasks.run.context import Run
from tasks.stages.match import match_all
from tests.tasks.conditions.test_pairs import Home
from tests.tasks.serve.conftest import make_home

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def identity(number):
    return f"{number:032x}"


def said(job, resume, answer, by="Ada", minutes=0, **more):
    return PairAnswer(
        job=identity(job), resume=identity(resume), answer=answer, by=by, at=NOON + timedelta(minutes=minutes),
        **{"job_content": "x", "resume_content": "x", **more},
    )  # fmt: skip


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_answers_are_appended_and_the_newest_of_a_person_counts(home):
    for number, answer in enumerate(("yes", "unsure", "no")):
        at = NOON + timedelta(minutes=number)
        judge(home.settings, job=identity(1), resume=identity(11), answer=answer, by=" Ada  L. ", at=at)
    assert [each.answer for each in read_answers(home.store)] == ["yes", "unsure", "no"]
    (answers,) = newest_answers(reversed(read_answers(home.store))).values()
    assert {name: each.answer for name, each in answers.items()} == {"Ada L.": "no"}
    with pytest.raises(InputError, match="No served job"):
        judge(home.settings, job="nobody", resume=identity(11), answer="yes", by="Ada")
    with pytest.raises(InputError, match="0 characters"):
        judge(home.settings, job=identity(1), resume=identity(11), answer="yes", by="  ")
    assert erase_answers(home.store, {identity(11)}) == 3 and read_answers(home.store) == []


def test_a_damaged_answer_is_named(home):
    home.store.put_if_absent("judgments/broken.json", b"{}")
    with pytest.raises(StoreError, match=r"judgments/broken\.json is damaged"):
        read_answers(home.store)


def test_pairs_are_offered_by_rank_and_once_for_each_person(home):
    with pytest.raises(InputError, match="no matches"):
        next(unjudged_pairs(home.settings, "Ada"))
    home.match()
    pairs = list(unjudged_pairs(home.settings, "Ada"))
    assert len(pairs) == 12 and {job for job, _ in pairs[:3]} == {identity(1), identity(2), identity(3)}
    judge(home.settings, job=pairs[0][0], resume=pairs[0][1], answer="no", by="Ada")
    assert list(unjudged_pairs(home.settings, "Ada")) == pairs[1:]
    assert list(unjudged_pairs(home.settings, "Bob")) == pairs


def test_agreement_is_cohens_kappa_over_the_common_pairs():
    # Cohen's table: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no; agreement 0.7, by chance 0.5, so kappa is 0.4.
    counts = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    pairs = [answers for answers, count in counts.items() for _ in range(count)]
    answers = [
        said(number, 0, answer, by)
        for number, both in enumerate(pairs)
        for by, answer in zip(("Ada", "Bob"), both, strict=True)
    ]
    (found,) = agreement([*answers, said(99, 0, "yes", "Ada"), said(0, 1, "yes", "Cy")])
    assert (found.judges, found.pairs, found.same) == (("Ada", "Bob"), 50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    (alike,) = agreement([said(1, 2, "yes", "Ada"), said(1, 2, "yes", "Bob")])
    assert (alike.same, alike.kappa) == (1.0, None), "one answer says nothing about chance"


def test_no_pair_is_both_trained_on_and_evaluated(home, tmp_path):
    home.change("job", {number: (f"Nurse {number}", "Work on a ward.", {}) for number in range(100, 140)})
    for number in range(100, 140):
        add_answer(home.store, said(number, 11, "yes"))
        add_answer(home.store, said(number, 12, "no"))
    add_answer(home.store, said(100, 13, "yes", "Ada"))
    add_answer(home.store, said(100, 13, "no", "Bob"))
    add_answer(home.store, said(1, 11, "no"))
    add_answer(home.store, said(2, 11, "yes", resume_content="changed since"))
    counts = export_judgments(home.settings, tmp_path / "judged")
    assert counts["train"] + counts["evaluate"] == 40 and min(counts["train"], counts["evaluate"]) > 10
    assert (counts["exported_pairs"], counts["undecided"], counts["changed"], counts["one_sided"]) == (80, 1, 1, 1)
    trained = {each.anchor for each in read_judgments(str(tmp_path / "judged" / "train.jsonl"))}
    task = load_eval_task(tmp_path / "judged" / TASK_NAME)
    evaluated = {row["query"] for row in task.tables["samples"]}
    assert len(trained) == counts["train"] and len(evaluated) == counts["evaluate"]
    assert not trained & evaluated
    assert {use_of(text) for text in trained} == {"train"} and {use_of(text) for text in evaluated} == {"evaluate"}
    with pytest.raises(InputError, match="not empty"):
        export_judgments(home.settings, tmp_path / "judged")


def test_the_command_line_keeps_and_reports_answers(home, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = ["--json", "--set", f"home={home.settings.home}"]
    assert run(["judge", identity(1), identity(11), "yes", "--by", "Ada", *shared]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "yes"
    assert run(["judgments", *shared]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == judgments_report(home.settings)
    assert report["people"] == {"Ada": {"pairs": 1, "yes": 1, "no": 0, "unsure": 0}}
    for wrong in (["judge", "--by", "Ada"], ["judge", "1", "11", "maybe", "--by", "Ada"], ["judge", "1", "11", "yes"]):
        assert run([*wrong, *shared]) == 2
        assert "error" in json.loads(capsys.readouterr().out)
    assert len(read_answers(home.store)) == 1


class Terminal(io.StringIO):
    """Keys that a person types in a terminal."""

    def isatty(self):
        return True


def test_pairs_are_judged_one_by_one_in_a_terminal(tmp_path, capsys, monkeypatch, tiny_base, make_pointer):
    served = make_home(tmp_path, tiny_base, make_pointer)
    store = served.settings.store()
    with hold_lease(store, owner="run") as lease:
        match_all.fn(Run("run", served.settings, store, lease))
    monkeypatch.chdir(tmp_path)

    def type_keys(keys):
        monkeypatch.setattr(sys, "stdin", Terminal(keys))
        assert run(["judge", "--by", "Ada", "--set", f"home={served.settings.home}"]) == 0
        return capsys.readouterr().out

    shown = type_keys("what\nY\ns\nq\n")
    assert shown.count("Does it fit?") == 4, "an unknown key asks again"
    assert shown.count("job: Data engineer") == 3 and "Nearest sentences" in shown
    assert [each.answer for each in read_answers(store)] == ["yes"]
    assert shown.index("resume: ") < shown.index("Does it fit?")
    last = type_keys("n\nunsure\n")
    assert "No pair of the latest matches is left to judge." in last
    assert [(each.answer, each.by) for each in read_answers(store)] == [
        ("yes", "Ada"), ("no", "Ada"), ("unsure", "Ada")
    ]  # fmt: skip
    assert len({each.resume for each in read_answers(store)}) == 3
    assert type_keys("").strip() == "No pair of the latest matches is left to judge."

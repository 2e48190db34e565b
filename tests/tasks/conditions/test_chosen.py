"""Filters and exclusion lists in bulk matching: what is left out, the id of the matches, and what is carried over."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pytest

from data.errors import InputError
from data.store.lease import hold_lease
from data.vectors.lance import create_table
from data.vectors.pointer import read_pointer
from tasks.conditions.chosen import not_excluded
from tasks.preview.night import matched_documents
from tasks.run.context import Run
from tasks.run.settings import MatchSettings, Settings
from tasks.stages.audit import sampled_jobs
from tasks.stages.match import known_matches, match_all
from tests.tasks.stages.test_match import documents, ranked_pairs, serve

JOBS, RESUMES = range(5), range(10, 16)


def identity(number):
    return f"{number:032x}"


class Home:
    """A home that serves five jobs and six resumes, and is matched with the given settings."""

    def __init__(self, folder):
        self.settings = Settings(home=str(folder))
        self.store = self.settings.store()
        make = {
            kind: create_table(self.store, generation="g", kind=kind, embedding_dim=2) for kind in ("job", "resume")
        }
        make["job"].upsert([documents("job", JOBS, {4: "2020-01-01"})])
        make["resume"].upsert([documents("resume", RESUMES)])
        self.tables = make
        serve(self.store, make)

    def match(self, **settings):
        """Report of the match, and the pairs of both directions."""
        chosen = self.settings.model_copy(update={"match": MatchSettings(**settings)})
        with hold_lease(self.store, owner="run") as lease:
            run = Run("run", chosen, self.store, lease, clock=lambda: datetime(2026, 3, 1, tzinfo=UTC))
            report = match_all.fn(run)
        return report, ranked_pairs(self.store, report.match)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def ids_of(pairs):
    return {int(job, 16) for _, job, *_ in pairs}, {int(resume, 16) for _, _, resume, *_ in pairs}


def test_a_filter_leaves_documents_out_and_is_part_of_the_id(home):
    every, pairs = home.match()
    assert (every.jobs, every.past_jobs, every.filtered) == (4, 1, 0)
    where = {"job": f"doc_id <> '{identity(0)}'", "resume": "words LIKE '%w1%'"}
    report, pairs = home.match(where=where)
    assert ids_of(pairs) == ({1, 2, 3}, {10, 13})
    assert (report.jobs, report.resumes, report.past_jobs, report.filtered) == (3, 2, 1, 5)
    assert report.match != every.match
    assert "5 documents left out by filter or list" in report.sentence()
    assert home.match(where=where)[0].reused
    assert home.match()[0].reused, "without the filter, the first matches are found again"


def test_a_filter_that_keeps_the_same_documents_matches_nothing_again(home):
    first, _ = home.match(where={"job": "words LIKE '%w1%'"})
    again, _ = home.match(where={"job": "words LIKE '%w1%' AND true"})
    assert (first.match, again.reused) == (again.match, True)


def test_an_invalid_filter_is_refused(home):
    with pytest.raises(InputError, match="ORDER BY"):
        home.match(where={"job": "words IS NOT NULL ORDER BY title"})
    with pytest.raises(InputError, match="nowhere"):
        home.match(where={"job": "nowhere = 1"})


def test_pairs_and_documents_of_the_list_are_never_matched(home, tmp_path, caplog):
    path = tmp_path / "never.csv"
    path.write_text(
        f"job_id,resume_id\n{identity(0)},{identity(10)}\n{identity(1)},\n,{identity(12)}\nx,{identity(13)}\n,gone\n",
        encoding="utf-8",
    )
    report, pairs = home.match(exclude=str(path))
    assert ids_of(pairs) == ({0, 2, 3}, {10, 11, 14, 15}), "x is the source's id of every job"
    assert {(2, 10), (3, 10)} < {(int(job, 16), int(resume, 16)) for _, job, resume, *_ in pairs}
    assert (identity(0), identity(10)) not in {row[1:3] for row in pairs}
    assert report.filtered == 2
    assert "1 of 4 ids of resumes" in caplog.text and "'gone'" in caplog.text


@pytest.mark.parametrize("listed", [11, 12])
def test_a_listed_resume_excludes_the_other_versions_of_it(home, tmp_path, listed):
    """Rankings show the newest (11); the list may name any of them."""
    versions = documents("resume", (11, 12))
    for name, values in (("similar_to", [None, identity(11)]), ("similar_order", [1, 2])):
        at = versions.schema.get_field_index(name)
        versions = versions.set_column(at, versions.field(at), pa.array(values, versions.field(at).type))
    home.tables["resume"].upsert([versions], rewrite=True)
    serve(home.store, home.tables)
    path = tmp_path / "never.csv"
    path.write_text(f"job_id,resume_id\n,{identity(listed)}\n", encoding="utf-8")
    report, pairs = home.match(exclude=str(path))
    assert ids_of(pairs) == ({0, 1, 2, 3}, {10, 13, 14, 15})
    assert report.filtered == 2
    excluded = not_excluded(MatchSettings(exclude=str(path)), home.tables["resume"], "resume")
    assert home.tables["resume"].count(where=excluded) == 4
    path.write_text(f"job_id,resume_id\n{identity(0)},{identity(listed)}\n", encoding="utf-8")
    _, pairs = home.match(exclude=str(path))
    assert (identity(0), identity(11)) not in {row[1:3] for row in pairs}
    assert (identity(1), identity(11)) in {row[1:3] for row in pairs}


def test_an_excluded_pair_makes_room_for_the_next(home, tmp_path):
    path = tmp_path / "never.csv"
    _, before = home.match(top_k=2)
    first = {(job, resume) for direction, job, resume, rank, _ in before if rank == 1}
    path.write_text("job_id,resume_id\n" + "".join(f"{job},{resume}\n" for job, resume in first), encoding="utf-8")
    report, after = home.match(top_k=2, exclude=str(path))
    assert not first & {(job, resume) for _, job, resume, *_ in after}
    of_jobs = [row for row in after if row[0].endswith("resumes_for_job")]
    assert len(of_jobs) == 2 * 4 and {row[3] for row in of_jobs} == {1, 2}
    (everything, _), (_, whole) = home.match(top_k=2), home.match(top_k=6)
    scores = {row[:3]: row[4] for row in whole}
    assert all(scores[row[:3]] == row[4] for row in after), "scores stay, only places move"
    assert report.match != everything.match


def test_carried_over_matches_are_those_of_a_whole_match(tmp_path):
    path = tmp_path / "never.csv"
    path.write_text(f"job_id,resume_id\n{identity(2)},{identity(10)}\n{identity(3)},{identity(20)}\n", encoding="utf-8")
    chosen = {"exclude": str(path), "where": {"resume": f"doc_id <> '{identity(11)}'"}, "top_k": 3}
    nights, whole = Home(tmp_path / "nights"), Home(tmp_path / "whole")
    nights.match(**chosen)
    for home in (nights, whole):
        home.tables["resume"].upsert([documents("resume", [20])])
        serve(home.store, home.tables)
    (incremental, found), (_, expected) = nights.match(**chosen), whole.match(**chosen)
    assert not incremental.reused and found == expected
    assert not {(identity(2), identity(10)), (identity(3), identity(20))} & {row[1:3] for row in found}


def test_the_preview_knows_which_kind_a_filter_changed(home):
    home.match()
    chosen = home.settings.model_copy(update={"match": MatchSettings(where={"resume": "words LIKE '%w1%'"})})
    with hold_lease(home.store, owner="run") as lease:
        known = known_matches(
            Run("run", chosen, home.store, lease, clock=lambda: datetime(2026, 3, 1, tzinfo=UTC)),
            read_pointer(home.store),
        )
    assert (known.is_complete, known.are_copied, known.left_out_others) == (False, True, {"job", "resume"})


def test_a_preview_counts_what_filters_leave_out(home, tmp_path):
    path = tmp_path / "never.csv"
    path.write_text(f"job_id\n{identity(1)}\n")
    where = {"job": f"doc_id <> '{identity(0)}'", "resume": "words LIKE '%w1%'"}
    match = MatchSettings(where=where, exclude=str(path), past_jobs=True)
    settings = home.settings.model_copy(update={"match": match})
    sizes = {"job": len(JOBS) + 2, "resume": len(RESUMES)}
    snapshots = {kind: SimpleNamespace(manifest=SimpleNamespace(num_documents=count)) for kind, count in sizes.items()}
    with hold_lease(home.store, owner="run") as lease:
        run = Run("run", settings, home.store, lease, clock=lambda: datetime(2026, 3, 1, tzinfo=UTC))
        assert matched_documents(run, snapshots) == {"job": 5, "resume": 2}, "two new jobs count as matched"


def test_a_fairness_audit_samples_no_expired_job(home):
    day = datetime(2026, 3, 1, tzinfo=UTC).date()
    sampled = sampled_jobs(home.settings, home.tables["job"], day)
    assert sorted(sampled) == [identity(number) for number in range(4)]
    with_past = home.settings.model_copy(update={"match": MatchSettings(past_jobs=True)})
    everything = sampled_jobs(with_past, home.tables["job"], day)
    assert [each for each in everything if each != identity(4)] == sampled, "the others keep their order"

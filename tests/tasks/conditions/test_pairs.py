"""Conditions in bulk matching: columns beside the scores, removal of pairs, and what is carried over."""

import json
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.conditions import check
from data.conditions.check import check_pair, checks_of, read_facts, reading_key
from data.conditions.config import ConditionConfig
from data.conditions.statement import CONDITION_NAMES
from data.outputs.facts import merge_facts, stored_facts
from data.outputs.matches import match_files
from data.store.digests import no_digests, pack_digests
from data.store.lease import hold_lease
from data.vectors.lance import create_table, table_schema
from tasks.conditions import verdicts
from tasks.conditions.pairs import FactFile, stated_digest
from tasks.conditions.verdicts import Conditions, changed_month, verdicts_on_hits
from tasks.queries.search import search
from tasks.run.context import Run
from tasks.run.settings import MatchSettings, Settings
from tasks.stages.match import match_all
from tests.tasks.stages.test_match import serve

TODAY = date(2026, 3, 1)
JOBS = {
    1: ("Nurse", "RN licence required.", {"city": "Leeds", "country": "GB"}),
    2: ("Carer", "No licence is needed.", {}),
    3: ("Developer", "Fluent German required.", {"country": "DE", "city": "Berlin"}),
}
RESUMES = {
    11: ("Nurse", "Licenses: RN", {"city": "Leeds", "country": "GB"}),
    12: ("Carer", "I have no RN licence.", {"city": "Lagos", "country": "NG"}),
    13: ("Developer", "Languages: German (C1)", {}),
    14: ("Clerk", "Typing.", {}),
}


def documents(kind, rows):
    columns = {field.name: [None if field.nullable else "x"] * len(rows) for field in table_schema(2)}
    columns |= {
        "doc_id": [f"{number:032x}" for number in rows],
        "kind": [kind] * len(rows),
        "title": [title for title, _, _ in rows.values()],
        "text": [text for _, text, _ in rows.values()],
        "metadata": ["{}"] * len(rows),
        "num_chars": [1] * len(rows),
        "words": ["ward"] * len(rows),
        "vector": [np.random.default_rng(number).normal(size=2).astype(np.float32) for number in rows],
    }
    for name in ("city", "country"):
        columns[name] = [facets.get(name) for *_, facets in rows.values()]
    return pa.table(columns, schema=table_schema(2))


class Home:
    def __init__(self, folder):
        self.settings = Settings(home=str(folder))
        self.store = self.settings.store()
        self.tables = {
            kind: create_table(self.store, generation="g", kind=kind, embedding_dim=2) for kind in ("job", "resume")
        }
        self.change("job", JOBS)
        self.change("resume", RESUMES)

    def change(self, kind, rows):
        self.tables[kind].upsert([documents(kind, rows)], rewrite=True)
        serve(self.store, self.tables)

    def match(self, **settings):
        """Report of the match, and its rows by direction and both numbers."""
        chosen = self.settings.model_copy(update={"match": MatchSettings(**settings)})
        with hold_lease(self.store, owner="run") as lease:
            report = match_all.fn(Run("run", chosen, self.store, lease, clock=lambda: datetime(2026, 3, 1, tzinfo=UTC)))
        rows = {}
        for path in match_files(self.store, report.match):
            for row in pq.read_table(path, partitioning=None).to_pylist():
                rows[path.parent.name, int(row["job_id"], 16), int(row["resume_id"], 16)] = row
        return report, rows


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def without(row, *names):
    return {name: value for name, value in row.items() if name not in names}


def test_verdicts_stand_beside_scores_that_they_do_not_change(home):
    plain_report, plain = home.match(conditions=ConditionConfig(check=()))
    report, rows = home.match()
    assert rows.keys() == plain.keys() and len(rows) == 2 * len(JOBS) * len(RESUMES)
    assert plain_report.match != report.match
    for key, row in rows.items():
        assert without(row, "verdict", "conditions") == without(plain[key], "verdict", "conditions")
        assert plain[key]["verdict"] is None and plain[key]["conditions"] is None
        facts = (
            read_facts(kind, title, text, facets, CONDITION_NAMES)
            for kind, (title, text, facets) in (("job", JOBS[key[1]]), ("resume", RESUMES[key[2]]))
        )
        assert row["conditions"] == [
            verdict._asdict() for verdict in check_pair(*facts, checks_of(CONDITION_NAMES, day=TODAY))
        ]
    nurse = rows["direction=resumes_for_job", 1, 11]
    assert nurse["verdict"] == "pass"
    assert {
        "condition": "licences",
        "outcome": "pass",
        "asked": "RN licence required",
        "found": "Licenses: RN",
    } in nurse["conditions"]
    assert rows["direction=jobs_for_resume", 1, 12]["verdict"] == "fail"
    assert rows["direction=jobs_for_resume", 1, 14]["verdict"] == "unknown"
    assert rows["direction=resumes_for_job", 2, 14]["verdict"] is None
    assert report.verdicts == {"fail": 6, "nothing asked": 8, "pass": 2, "unknown": 8}
    assert home.match()[0].verdicts == report.verdicts, "counted again where matches are reused"
    assert "6 of the pairs fail a condition" in report.sentence()


def test_a_failed_condition_removes_a_pair_only_if_the_setting_says_so(home):
    _, shown = home.match(top_k=2)
    _, whole = home.match(top_k=4)
    _, kept = home.match(top_k=2, conditions=ConditionConfig(on_fail="remove"))
    assert all(row["verdict"] != "fail" for row in kept.values())
    assert len(kept) >= len(shown) - sum(row["verdict"] == "fail" for row in shown.values())
    for direction in ("direction=resumes_for_job", "direction=jobs_for_resume"):
        query = 1 if direction.endswith("job") else 2
        for number in {key[query] for key in shown}:
            expected = [
                row
                for key, row in sorted(whole.items(), key=lambda item: item[1]["rank"])
                if key[0] == direction and key[query] == number and row["verdict"] != "fail"
            ][:2]
            found = sorted(
                (row for key, row in kept.items() if key[0] == direction and key[query] == number),
                key=lambda row: row["rank"],
            )
            assert [row["rank"] for row in found] == list(range(1, len(expected) + 1))
            assert [without(row, "rank") for row in found] == [without(row, "rank") for row in expected]


@pytest.mark.parametrize("on_fail", ["show", "remove"])
def test_carried_over_verdicts_are_those_of_a_whole_match(tmp_path, on_fail):
    nights, whole = Home(tmp_path / "nights"), Home(tmp_path / "whole")
    settings = {"conditions": ConditionConfig(on_fail=on_fail)}
    nights.match(**settings)
    changes = [
        ("resume", {14: ("Clerk", "Licenses: RN", {})}),  # the text states something else
        ("job", {2: ("Carer", "No licence is needed.", {"city": "Leeds", "country": "GB"})}),  # only a facet changed
        ("resume", {15: ("Nurse", "RN licence expired.", {})}),
    ]
    for kind, rows in changes:
        for home in (nights, whole):
            home.change(kind, rows)
        (report, found), (_, expected) = nights.match(**settings), Home.match(whole, **settings)
        assert not report.reused
        assert {key: exact(row) for key, row in found.items()} == {key: exact(row) for key, row in expected.items()}


def exact(row):
    """A row without cosines: products of blocks of other sizes differ in the last bits."""
    return without(row, "dense_score")


def test_a_query_asks_as_a_document_of_the_other_kind(home):
    conditions = Conditions(ConditionConfig(), TODAY)
    ids = [f"{number:032x}" for number in (14, 12, 11)]

    def found(kind, query, ids, conditions=conditions, limit=10):
        return verdicts_on_hits(home.tables[kind], conditions, query, kind=kind, ids=ids, limit=limit)

    resumes = found("resume", "RN licence required.", ids)
    assert list(resumes) == ids
    assert [[(each.condition, each.outcome, each.found) for each in verdicts] for verdicts in resumes.values()] == [
        [("licences", "unknown", "")],
        [("licences", "fail", "I have no RN licence")],
        [("licences", "pass", "Licenses: RN")],
    ]
    (jobs,) = found("job", "Remote only.", [f"{1:032x}"]).values()
    assert [(each.condition, each.outcome) for each in jobs] == [
        ("place", "unknown"), ("remote", "unknown"), ("licences", "unknown"),
    ]  # fmt: skip
    assert found("job", "cloud engineer", ids[:1]) == {ids[0]: []}
    removing = Conditions(ConditionConfig(on_fail="remove"), TODAY)
    assert list(found("resume", "RN licence required.", ids, removing)) == [ids[0], ids[2]]
    assert list(found("resume", "RN licence required.", ids, removing, limit=1)) == ids[:1]
    assert list(found("resume", "RN licence required.", ids[1:], removing, limit=1)) == ids[2:], "the next moves up"


def test_a_search_removes_and_excludes_as_a_match_does(home, tmp_path):
    def numbers(**settings):
        chosen = home.settings.model_copy(update={"match": MatchSettings(**settings)})
        hits = search(chosen, "RN licence required. ward", kind="resume", mode="lexical", limit=2)
        return [int(hit["doc_id"], 16) for hit in hits], [hit["rank"] for hit in hits]

    assert numbers() == ([11, 12], [1, 2])
    removing = ConditionConfig(on_fail="remove")
    assert numbers(conditions=removing) == ([11, 13], [1, 2]), "the next moves up"
    path = tmp_path / "never.csv"
    path.write_text(f"resume_id\n{13:032x}\n")
    assert numbers(conditions=removing, exclude=str(path)) == ([11, 14], [1, 2])
    path.write_text(f"job_id,resume_id\nx,{13:032x}\n")
    assert numbers(exclude=str(path)) == ([11, 12], [1, 2]), "a pair excludes nobody from a search"


def test_a_table_of_places_is_part_of_the_id(home, tmp_path):
    path = tmp_path / "places.csv"
    matches = set()
    for line in ("Leeds,GB,53.8,-1.55", "Leeds,GB,53.9,-1.55"):
        path.write_text(f"place,country,latitude,longitude\n{line}\n")
        matches.add(home.match(conditions=ConditionConfig(places=str(path)))[0].match)
    matches.add(home.match(conditions=ConditionConfig(places=str(path), radius_km=10))[0].match)
    assert len(matches) == 3


def test_facts_are_read_once_for_each_document(home, monkeypatch):
    read = []
    monkeypatch.setattr(verdicts, "read_facts", lambda kind, *rest: read.append(kind) or read_facts(kind, *rest))
    home.match()
    assert sorted(read) == ["job"] * len(JOBS) + ["resume"] * len(RESUMES)


def test_an_unchanged_document_is_never_read_again(home, monkeypatch):
    _, first = home.match()
    read = []
    monkeypatch.setattr(verdicts, "read_facts", lambda kind, *rest: read.append(rest) or read_facts(kind, *rest))
    home.change("job", {2: ("Carer", "RN licence required.", {})})
    home.change("resume", {14: ("Clerk", "Typing.", {"city": "Leeds"})})
    _, after = home.match()
    assert [title for title, *_ in read] == ["Carer", "Clerk"], "one by its text, one by a facet"
    _, whole = home.match(top_k=19)
    assert {key: exact(row) for key, row in after.items()} == {key: exact(row) for key, row in whole.items()}
    assert len(read) == 2 and after != first
    monkeypatch.setattr(check, "_VERSION", check._VERSION + 1)
    reading_key.cache_clear()
    try:
        home.match()
    finally:
        reading_key.cache_clear()
    assert len(read) == 2 + len(JOBS) + len(RESUMES), "other readers read everything again"
    assert len({key.split("/")[1] for key in home.store.list("facts")}) == 1, "and drop what the former ones read"
    home.match(conditions=ConditionConfig(check=()))


def test_facts_come_back_from_the_file_in_the_new_order(home, tmp_path):
    conditions = Conditions(ConditionConfig(), TODAY)
    rows = [{"doc_id": f"{number:032x}", "title": title, "text": text} for number, (title, text, _) in RESUMES.items()]
    facts = [conditions.facts("resume", row) for row in rows]
    for name, order in (("first", [2, 0, 3, 1]), ("again", [0, 1, 2, 3])):
        file = FactFile(tmp_path / name, home.store, "resume")
        for part in (rows[:1], rows[1:]):
            file.add(part, [stated_digest("resume", row) for row in part])
        file.reorder(np.array(order))
        assert [file.of(row) for row in range(4)] == [facts[at] for at in order]
        file.keep(fence=lambda: None)
    (key,) = [key for key in home.store.list("facts") if "resume" in key]
    assert key.endswith("/000000.parquet"), "nothing new, so no second part"


def test_facts_of_gone_documents_are_dropped_and_parts_merged(home):
    rows = [{"doc_id": f"{number:032x}", "title": "Nurse", "text": f"{number} years"} for number in range(20)]
    for row in rows:
        file = FactFile(home.store.root / "facts.tmp", home.store, "resume")
        file.add([row], [stated_digest("resume", row)])
        file.keep(fence=lambda: None)
    assert len(list(home.store.list("facts"))) == 20
    held = pack_digests(pa.array([row["doc_id"] for row in rows[5:]]))
    removed, freed = merge_facts(home.store, "resume", held)
    assert removed == 20 and freed > 0
    (part,) = stored_facts(home.store, "resume")
    assert part["doc_id"].to_pylist() == [row["doc_id"] for row in rows[5:]]
    assert merge_facts(home.store, "resume", held) == (0, 0)
    assert merge_facts(home.store, "resume", no_digests())[0] == 1
    assert not list(home.store.list("facts"))


def test_the_month_of_the_last_change_is_read_from_metadata_or_facets():
    row = {"metadata": '{"updatedAt": "2019-03-07", "posted_at": "2018-01-01"}', "posted_at": "2018-01-01"}
    assert changed_month("resume", row) == "2019-03"
    assert changed_month("resume", {"metadata": "{}", "posted_at": "2018-01-01"}) == "2018-01"
    assert changed_month("job", row) is None and changed_month("resume", {}) is None
    plain = {"title": "Clerk", "text": "I type.", "metadata": "{}"}
    later = [{**plain, "metadata": json.dumps({"updated": day})} for day in ("2019-03-07", "2019-03-20", "2019-04-01")]
    of_resume = [stated_digest("resume", each) for each in (plain, *later)]
    assert of_resume[1] == of_resume[2] and len(set(of_resume)) == 3, "read again once a month at most"
    assert len({stated_digest("job", each) for each in (plain, *later)}) == 1

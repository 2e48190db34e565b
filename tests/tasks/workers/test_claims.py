"""Claims on plans by several processes: each plan is taken once, by the first process."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest

from data.errors import FencedError
from tasks.run.settings import Settings
from tasks.workers.claims import keep_shard_report, kept_reports, offer_plans, take_plans
from tasks.workers.shards import ShardPlan, ShardReport

PLANS = [ShardPlan(kind="job", snapshot="s", runs=[(number, number + 1)]) for number in range(40)]


@pytest.fixture
def night(tmp_path, make_run):
    return make_run(Settings(home=str(tmp_path / "home")), "night")


def take(run):
    return list(take_plans(run, worker="a"))


def test_every_plan_is_taken_once(night):
    offer_plans(night, PLANS)
    with ThreadPoolExecutor(8) as pool:
        taken = [number for found in pool.map(lambda _: take(night), range(8)) for number, _ in found]
    assert sorted(taken) == list(range(40))
    assert take(night) == [], "whoever comes late finds nothing"


def test_a_plan_comes_as_it_was_offered(night):
    offer_plans(night, PLANS)
    assert take(night) == list(enumerate(PLANS))


def test_a_run_that_lost_the_lease_takes_nothing_more(night):
    offer_plans(night, PLANS)
    calls = iter(range(3))

    def fence():
        if next(calls) == 2:
            raise FencedError("another run took over")

    with pytest.raises(FencedError):
        take(replace(night, lease=SimpleNamespace(check=fence)))
    assert [number for number, _ in take(night)] == list(range(2, 40))


def test_the_next_night_forgets_the_claims_of_the_one_before(night):
    offer_plans(night, PLANS)
    take(night)
    following = replace(night, id="next")
    offer_plans(following, PLANS[:2])
    assert take(night) == [], "those of the former night are gone with their claims"
    assert len(take(following)) == 2


def test_reports_are_found_by_the_number_of_their_plan(night):
    offer_plans(night, PLANS)
    report = ShardReport(documents=1, tokens=2, padded_tokens=3, truncated=0, seconds=0.5)
    keep_shard_report(night, 17, report)
    assert kept_reports(night) == {17: report}

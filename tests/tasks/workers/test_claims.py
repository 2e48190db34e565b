"""Plans that several processes take: each of them once, by whoever is first."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from data.errors import FencedError
from data.store.base import LocalStore
from tasks.workers.claims import keep_report, kept_reports, offer_plans, take_plans
from tasks.workers.shards import ShardPlan, ShardReport

PLANS = [ShardPlan(kind="job", snapshot="s", runs=[(number, number + 1)]) for number in range(40)]


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "home")


def take(store, run_id="night", fence=lambda: None):
    return list(take_plans(store, run_id, worker="a", fence=fence))


def test_every_plan_is_taken_once(store):
    offer_plans(store, "night", PLANS)
    with ThreadPoolExecutor(8) as pool:
        taken = [number for found in pool.map(lambda _: take(store), range(8)) for number, _ in found]
    assert sorted(taken) == list(range(40))
    assert take(store) == [], "whoever comes late finds nothing"


def test_a_plan_comes_as_it_was_offered(store):
    offer_plans(store, "night", PLANS)
    assert take(store) == list(enumerate(PLANS))


def test_a_run_that_lost_the_lease_takes_nothing_more(store):
    offer_plans(store, "night", PLANS)
    calls = iter(range(3))

    def fence():
        if next(calls) == 2:
            raise FencedError("another run took over")

    with pytest.raises(FencedError):
        take(store, fence=fence)
    assert [number for number, _ in take(store)] == list(range(2, 40))


def test_the_next_night_forgets_the_claims_of_the_one_before(store):
    offer_plans(store, "night", PLANS)
    take(store)
    offer_plans(store, "next", PLANS[:2])
    assert take(store) == [], "those of the former night are gone with their claims"
    assert len(take(store, "next")) == 2


def test_reports_are_found_by_the_number_of_their_plan(store):
    offer_plans(store, "night", PLANS)
    report = ShardReport(documents=1, tokens=2, padded_tokens=3, truncated=0, seconds=0.5)
    keep_report(store, "night", 17, report)
    assert kept_reports(store, "night") == {17: report}

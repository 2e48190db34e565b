"""The run context of a stage on another machine: it runs under the lease of its parent run, or not at all."""

from pathlib import Path

import pytest

from data.errors import FencedError
from data.store.lease import hold_lease
from tasks.run.context import join_run, new_run_id
from tasks.run.settings import Settings


def test_a_stage_joins_the_run_that_holds_the_lease(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path / "home"))
    with hold_lease(settings.store(), owner="night-1"):
        joined = join_run(settings, "night-1")
        joined.lease.check()
        with pytest.raises(FencedError):
            join_run(settings, "night-2")
    assert (joined.id, joined.settings) == ("night-1", settings)
    with pytest.raises(FencedError):
        joined.lease.check()
    with pytest.raises(FencedError):
        join_run(settings, "night-1")


def test_ids_of_runs_differ_and_begin_with_the_time() -> None:
    ids = {new_run_id() for _ in range(100)}
    assert len(ids) == 100
    assert {len(run_id) for run_id in ids} == {len("20260101T000000Z-abcdef")}

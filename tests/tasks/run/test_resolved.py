"""Resolved settings as data: they survive serialisation to another worker, and contain no secrets."""

from pathlib import Path

import pytest

from flows.profiles import PROFILES_DIR
from tasks.run.resolved import hand_over, shown, take_over
from tasks.run.settings import LineageSettings, Settings, load_settings


@pytest.mark.parametrize("profile", sorted(PROFILES_DIR.glob("*.toml")), ids=lambda path: path.stem)
def test_settings_come_back_as_they_were_handed_over(profile: Path) -> None:
    settings = load_settings(profile)
    assert take_over(hand_over(settings), {}) == settings
    assert Settings.model_validate(shown(settings)) == settings, "without secrets, everything is shown as it is"


def test_the_lineage_endpoint_is_neither_handed_over_nor_shown() -> None:
    settings = Settings(lineage=LineageSettings(endpoint="https://marquez.example/token-71f3?key=token-71f3"))
    assert "token-71f3" not in str(hand_over(settings)) + str(shown(settings))
    assert take_over(hand_over(settings), {}).lineage.endpoint is None
    assert shown(settings)["lineage"]["endpoint"] == "https://marquez.example/***"


def test_only_the_work_dir_of_the_worker_counts() -> None:
    resolved = hand_over(Settings(work_dir="/night"))
    taken = take_over(resolved, {"L2V_WORK_DIR": "/worker", "L2V_HOME": "/elsewhere", "L2V_MATCH__TOP_K": "7"})
    assert taken == Settings(work_dir="/worker")

"""Where each setting comes from, and settings that have no effect."""

import pytest

from flows.profiles import PROFILES_DIR
from tasks.run.origins import effective_settings, settings_without_effect
from tasks.run.settings import load_settings, read_layers

OWN = """# the user's file
home = "here"
[train]
steps = 7
lora = { rank = 9 }
[train.simcse]
warmup_steps = 1
[redact]
kept_hosts = [
  "a.example",
]
job = []
[lineage]
endpoint = "https://host/secret-token"
"""


@pytest.fixture
def layers(tmp_path):
    def layers(own=OWN, profile="demo", **more):
        config = tmp_path / "l2v.toml"
        config.write_text(own)
        return read_layers(PROFILES_DIR / f"{profile}.toml", config=config, **more)

    return layers


def test_each_setting_names_its_layer_and_line(layers):
    found = {
        each.key: each
        for each in effective_settings(
            layers(environment={"L2V_GATE__MAX_LENGTH_SHIFT": "0.5"}, overrides={"match.top_k": "5"})
        )
    }
    origins = {
        "home": "l2v.toml line 2",
        "train.steps": "l2v.toml line 4",
        "train.mntp.steps": "l2v.toml line 4",  # by the key that all stages share
        "train.supervised.lora.rank": "l2v.toml line 5",
        "train.simcse.warmup_steps": "l2v.toml line 7",
        "train.simcse.batch_size": "profile demo",
        "redact.kept_hosts": "l2v.toml line 9",
        "redact.job": "l2v.toml line 12",
        "gate.max_length_shift": "environment L2V_GATE__MAX_LENGTH_SHIFT",
        "match.top_k": "--set match.top_k",
        "match.candidates": "default",
    }
    assert {key: found[key].origin for key in origins} == origins
    assert found["train.mntp.steps"].value == 7
    assert found["lineage.endpoint"].value == "https://host/***"


def test_every_setting_is_listed_with_its_effective_value(layers):
    found = {each.key: each.value for each in effective_settings(layers())}
    settings = load_settings(PROFILES_DIR / "demo.toml", config=layers()[1].path)
    assert found["train.supervised.steps"] == settings.train.supervised.steps == 7
    assert len(found) > 150


@pytest.mark.parametrize(
    ("own", "profile", "told"),
    [
        ("[train.mntp]\nsteps = 3", "demo", "train.mntp.steps has no effect: train.stages is simcse, supervised"),
        ('[judgments]\nsources = ["a.jsonl"]', "tiny", "judgments.sources has no effect: train.stages is mntp, simcse"),
        ('[match]\njudged = "tasks/mine"', "demo", "match.judged has no effect: match.fusion is rrf (default)."),
        ("[audit]\nresumes = 30", "demo", "audit.resumes has no effect: audit.enabled is false"),
        ("[evaluate]\nmax_items = 30", "tiny", "evaluate.max_items has no effect: evaluate.tasks_dirs is empty"),
        (
            '[redact]\nresume = ["email"]\nname_model = "en_core_web_sm"\nphone_regions = ["DE"]\njob = []',
            "demo",
            "redact.phone_regions has no effect: redact.resume and redact.job leave out phone (l2v.toml line 2).",
        ),
        ('[ingest]\nallow_shrink = ["jbos"]', "demo", "ingest.allow_shrink names no source of the settings: jbos."),
    ],
)
def test_a_setting_that_another_one_switches_off_is_told(layers, own, profile, told):
    assert any(sentence.startswith(told) for sentence in settings_without_effect(layers(own, profile)))


@pytest.mark.parametrize("profile", sorted(path.stem for path in PROFILES_DIR.glob("*.toml")))
def test_a_profile_alone_has_nothing_to_tell(layers, profile):
    assert settings_without_effect(layers("", profile)) == []


def test_an_option_of_the_command_that_switches_something_off_is_meant(layers):
    own = "[train.simcse]\nsteps = 3"
    assert settings_without_effect(layers(own, overrides={"train.stages": ["mntp"]})) == []

import traceback
from pathlib import Path

import pytest

from flows.profiles import PROFILES_DIR
from flows.request import RunRequest
from tasks.errors import SettingsError
from tasks.run.settings import EncodeSettings, load_settings


@pytest.fixture
def profile(tmp_path) -> Path:
    path = tmp_path / "profile.toml"
    path.write_text(
        'home = "from-profile"\n[sources.sample]\nkind = "job"\npath = "bundled:sample"\n'
        "[train.mntp]\nsteps = 1\nbatch_size = 10\nmicro_batch_size = 5\nchunk_tokens = 17\n"
    )
    return path


def test_each_layer_lies_over_the_one_before(profile, tmp_path):
    config = tmp_path / "l2v.toml"
    config.write_text("[train.mntp]\nbatch_size = 20\nmicro_batch_size = 6\nchunk_tokens = 18\n")
    environment = {"L2V_TRAIN__MNTP__MICRO_BATCH_SIZE": "7", "L2V_TRAIN__MNTP__CHUNK_TOKENS": "19", "OTHER": "x"}
    settings = load_settings(
        profile, config=config, environment=environment, overrides={"train.mntp.chunk_tokens": "20"}
    )
    found = settings.train.mntp
    assert (found.steps, found.batch_size, found.micro_batch_size, found.chunk_tokens) == (1, 20, 7, 20)


def test_a_setting_of_all_stages_replaces_those_of_single_stages_in_lower_layers(tmp_path):
    lower, config = tmp_path / "lower.toml", tmp_path / "l2v.toml"
    lower.write_text("[train.mntp]\nsteps = 1\nseed = 1\nlora = {rank = 2, alpha = 3}\n[train.simcse]\nsteps = 2\n")
    config.write_text("[train]\nsteps = 7\nlora = {rank = 9}\n[train.simcse]\nsteps = 8\n")
    recipe = load_settings(lower, config=config, overrides={"train.seed": "5"}).train
    assert (recipe.mntp.steps, recipe.simcse.steps, recipe.supervised.steps) == (7, 8, 7)
    assert (recipe.mntp.lora.rank, recipe.mntp.lora.alpha, recipe.simcse.lora.rank) == (9, 3, 9)
    assert (recipe.mntp.seed, recipe.simcse.seed) == (5, 5)


@pytest.mark.parametrize("wrong", ["[train]\nmntp = 3", "[train]\nlora = 3", "[train.mntp]\nlora = 3"])
def test_a_value_in_place_of_a_table_is_a_fault(profile, tmp_path, wrong):
    config = tmp_path / "l2v.toml"
    config.write_text(wrong)
    with pytest.raises(SettingsError, match=r"train.*found 3"):
        load_settings(profile, config=config, overrides={"train.seed": "5"})


def test_own_sources_take_the_place_of_the_profile_s(profile, tmp_path):
    config = tmp_path / "l2v.toml"
    config.write_text('[sources.mine]\nkind = "resume"\npath = "cvs/"\n')
    assert list(load_settings(profile, config=config).sources) == ["mine"]


def test_every_fault_is_named_at_once(profile):
    with pytest.raises(SettingsError) as caught:
        load_settings(profile, overrides={"train.mntp.stepz": "3", "match.top_k": "none", "nonsense": "1"})
    message = str(caught.value)
    assert "train.mntp.stepz: unknown key" in message
    assert "match.top_k" in message
    assert "'none'" in message
    assert "nonsense: unknown key" in message


def test_the_hint_for_an_unknown_key_lists_its_neighbours(profile):
    with pytest.raises(SettingsError) as caught:
        load_settings(profile, environment={"L2V_MATCH__TOPK": "3"})
    assert "top_k" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("lineage.endpoint", "https://me:hunter2@host/lineage", "OPENLINEAGE_API_KEY"),
        ("evaluate.reports_url", "https://me:hunter2@host/reports", "a browser opens"),
        ("sources.cvs.path", "s3://me:hunter2@bucket/cvs", "fetch the files first"),
        ("match.top_k", "https://me:hunter2@host", "valid integer"),
    ],
)
def test_credentials_are_refused_and_repeated_nowhere(profile, key, value, told):
    overrides = {"sources.cvs.kind": "resume", "sources.cvs.path": "cvs", key: value}
    with pytest.raises(SettingsError, match=told) as caught:
        load_settings(profile, overrides=overrides)
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert key in shown


@pytest.mark.parametrize("content", ["[match", "a = 1\na = 2", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named(profile, tmp_path, content):
    config = tmp_path / "broken.toml"
    config.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=r"broken\.toml"):
        load_settings(profile, config=config)


def test_a_missing_file_is_named(profile, tmp_path):
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        load_settings(profile, config=tmp_path / "absent.toml")


@pytest.mark.parametrize("path", sorted(PROFILES_DIR.glob("*.toml")), ids=lambda path: path.stem)
def test_every_profile_is_valid(path):
    assert RunRequest(profile=path.stem).settings().train.base_model


def test_batching_does_not_change_what_a_vector_is():
    """A larger token budget must not encode a corpus again; another prompt must."""
    first = EncodeSettings().encode_key("job")
    assert EncodeSettings(token_budget=64, shard_size=3).encode_key("job") == first
    prompted = EncodeSettings(prompts={"job": "Job: "})
    assert prompted.encode_key("job") != first
    assert prompted.encode_key("resume") == first


class TestChosenTasks:
    """Evaluation tasks that the user names are judged: no value of the profile hides them."""

    PROFILE = (
        '[evaluate]\nreferences = ["bm25"]\ntasks_dirs = ["../absent"]\nskip_missing_tasks_dirs = true\n'
        'tasks = ["JobResumeRetrieval", "STS"]\nmax_items = 200\n'
    )

    @pytest.fixture
    def load(self, tmp_path):
        def load(own="", **more):
            profile, config = tmp_path / "demo.toml", tmp_path / "l2v.toml"
            profile.write_text(self.PROFILE)
            config.write_text(f"[evaluate]\n{own}\n")
            return load_settings(profile, config=config, **more).evaluate

        return load

    def test_the_profile_chooses_where_the_user_names_none(self, load):
        found = load("gate_margin = 2.0")
        assert (found.tasks_dirs, found.tasks, found.max_items) == (["../absent"], ["JobResumeRetrieval", "STS"], 200)
        assert found.skip_missing_tasks_dirs

    def test_own_folders_are_judged_whole_and_must_exist(self, load):
        found = load('tasks_dirs = ["tasks"]')
        assert (found.tasks_dirs, found.tasks, found.max_items) == (["tasks"], None, None)
        assert not found.skip_missing_tasks_dirs
        assert (found.sample_tasks, found.references) == (["JobResumeRetrieval"], ["bm25"])

    @pytest.mark.parametrize("own", ['sample_tasks = ["EscoTitleRetrieval"]', 'benchmarks = ["MTEB(eng, v2)"]'])
    def test_other_places_replace_the_profile_s_too(self, load, own):
        found = load(own)
        assert (found.tasks_dirs, found.tasks) == ([], None)

    def test_a_variable_names_a_place_as_a_file_does(self, load):
        found = load(environment={"L2V_EVALUATE__TASKS_DIRS": '["tasks"]'})
        assert (found.tasks_dirs, found.tasks) == (["tasks"], None)

    def test_own_names_must_be_found(self, load):
        found = load('tasks = ["STS"]')
        assert (found.tasks, found.tasks_dirs, found.skip_missing_tasks_dirs) == (["STS"], [], False)

    def test_what_one_layer_of_the_user_says_another_one_keeps(self, load):
        found = load(
            'tasks_dirs = ["tasks"]\ntasks = ["Mine"]\nmax_items = 50', overrides={"evaluate.benchmarks": ["B"]}
        )
        assert (found.tasks_dirs, found.tasks, found.max_items) == (["tasks"], ["Mine"], 50)

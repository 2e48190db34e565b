"""Keys are the same as at commit 003c9b4: stored checkpoints, vectors and audits must be found again."""

import pytest

from flows.request import PROFILES_DIR
from llm2vec_core.training.settings import Recipe
from tasks.run.settings import EncodeSettings, Settings, load_settings
from tasks.stages import audit

STAGES = ["mntp", "simcse", "supervised"]
OVERRIDDEN = {
    "train.stages": STAGES,
    "train.mntp.seed": 7,
    "train.mntp.bf16": True,
    "train.mntp.gradient_checkpointing": True,
    "train.mntp.compile_blocks": True,
    "train.mntp.save_steps": 3,
    "train.mntp.warmup_steps": 5,
    "train.mntp.lora.rank": 8,
    "train.mntp.lora.alpha": 64,
    "train.mntp.lora.dropout": 0,
    "train.mntp.lora.targets": ["q_proj"],
    "train.simcse.seed": 8,
    "train.simcse.bf16": True,
    "train.simcse.lora.targets": ["v_proj", "k_proj"],
    "train.simcse.warmup_steps": 9,
    "train.simcse.steps": 11,
    "train.simcse.micro_batch_size": 2,
    "train.supervised.seed": 9,
    "train.supervised.warmup_steps": 0,
    "train.supervised.lora.rank": 4,
    "train.supervised.save_steps": 1,
    "train.supervised.instruction": "q: ",
    "train.supervised.matryoshka_dims": [64, 32],
    "train.attention": "causal",
    "train.standardised": True,
    "train.pooling_mode": "weighted_mean",
    "train.max_documents": 10,
}
KEYS = {
    "default": (
        "f9c765ff315e2991b79d50280c7284c3c0b53ed4d0d84298ef6a72e6b6c389d6",
        "3a6a8a9db34abd1c109b587a2bf964c4dc88333bf90bd1c2dfb4d748bcdada00",
    ),
    "demo": (
        "4673450d2246fdc99150e61ff960a981861bb6fedb2cc6db5fc3d6c19950514d",
        "f7263342fadaa0ab94e52d3936495dcfcbbe80a312e0b3407d399eb078a56472",
    ),
    "tiny": (
        "847c89fc9c9e5f0b0548a11a3705ccc4b6ee9324abcdd9ec2b9d6479f0daa9bc",
        "2f05064cab6f52bc07328186da73f633b1488bc9c88ef3dc76f12555d4fffd47",
    ),
    "s-llama-1.3b": (
        "ccf9cb9e708ce370ac5c03b0dbc0a42abef3d9eccac7700f86d894832654069d",
        "68b882247407bc4e226b33d8041cc90820202d55aea2a8d7811296a6ad966523",
    ),
    "llama-2-7b": (
        "03b1b9d61db9e578b04e3f2cb663893c37beb82d17a818d8af5930a3cd003c98",
        "87430ddcf4c0202644aad7249cf81d03537d816ee2b38261b0a6e2129e971ab4",
    ),
    "mistral-7b": (
        "9f30e3328388df728ba0cd46e7efb4ec451f661b621135608ed36165545d8ca8",
        "c53c9027f56a90dfaa94d46a710247b924040b618b954a401be33984663c3b31",
    ),
    "llama-3-8b": (
        "8d4d9516da27e078d6516275075e87a3b4c659ca1cae6509a020bd000b946d41",
        "25cd0e46f928de39560b38b67efc4ac4248572e4cd8e942196d7367c0f9f8855",
    ),
    "full, all stages": (
        "64eed40625add47fd70d773c619733995c3b45042680058fe017139832f3b357",
        "2b4ffe769f4da65c97275c51556e631e4362846f93813ff7621688762cfa3186",
    ),
    "overridden": (
        "6f21ca600121c4df57c8626b77559ab040a8c2d1cf000dad28be22884bb65393",
        "e6df2164d7783089b685f384511c904610304a0f44372c0b938a865f8c278a9f",
    ),
}


YOUNGER = {
    "train.chat_template": False,
    "train.mntp.compile_blocks": False,
    "train.mntp.schedule_epochs": None,
    "train.simcse.schedule_epochs": None,
    "train.supervised.schedule_epochs": None,
}
"""Settings that were in no key at that commit, with their defaults; the paper's profiles set some of them now."""


@pytest.mark.parametrize("name", KEYS)
def test_a_recipe_has_the_keys_that_it_always_had(name: str) -> None:
    """Checkpoints of before the methods were corrected are found by their former keys."""
    profile = {"overridden": "demo", "full, all stages": "full"}.get(name, name)
    overrides = {"overridden": OVERRIDDEN, "full, all stages": {"train.stages": STAGES}}.get(name, {})
    path = PROFILES_DIR / f"{profile}.toml"
    recipe = load_settings(path, overrides={**overrides, **YOUNGER}).train if path.exists() else Recipe()
    found = (recipe.settings_key(former=True), recipe.key({"job": "a", "resume": "b"}, "j", "b", former=True))
    assert found == KEYS[name]
    is_corrected = "mntp" in recipe.stages or bool(recipe.supervised.instruction)
    assert (recipe.settings_key() != KEYS[name][0]) == is_corrected


def test_several_sources_have_another_key_since_they_are_drawn_by_size() -> None:
    recipe = Recipe(stages=("supervised",))
    one, two = (recipe.key({}, "j", num_sources=number) for number in (1, 2))
    assert one == recipe.key({}, "j")
    assert one != two
    assert recipe.key({}, "j", num_sources=2, former=True) == one


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"long_texts": "cut"}, "5dbc748f1b7217f22967fe952444d9fff69e07ebd4e4055c9ca537966110d6b2"),
        (
            {"long_texts": "cut", "precision": "bf16"},
            "5e5d96ae2bd1b6e4ca7396ef3fba3e340abd1d36dec46534c989869d331c9fb7",
        ),
        ({}, "dfca5d02863af8c61dae5d0b2f50e56bc1fc7a765811d68d685b03511939e876"),
        ({"long_texts": "sections"}, "a8f6567f75c333ddb79ea7174e573721f93892b5248e0eaa823c66bef4f97465"),
        (
            {"long_texts": "cut", "prompts": {"job": "Job: "}},
            "4d4ac65d94dbdd59bca03ad8dc884d17457269dbfb95dac3fa7f9bad5b38b432",
        ),
    ],
)
def test_encode_settings_have_the_keys_that_they_always_had(changed: dict[str, object], key: str) -> None:
    """Except with a prompt, which was pooled at that commit and is not pooled now."""
    assert EncodeSettings.model_validate(changed).encode_key("job") == key


def test_an_audit_is_identified_by_the_sizes_that_were_settings() -> None:
    assert audit._sizes(Settings()) == {"resumes": 20, "jobs": 100, "pool": 2000, "top_k": 10, "seed": 0}

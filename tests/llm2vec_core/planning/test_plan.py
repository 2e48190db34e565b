import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm2vec_core.errors import BaseModelError, InputError
from llm2vec_core.model import base_models
from llm2vec_core.model.lora import LoraSettings
from llm2vec_core.planning.architecture import Architecture, count_adapter, count_architecture, read_config
from llm2vec_core.planning.formulas import Execution, flops_per_token, step_memory
from llm2vec_core.planning.gpus import known_gpus
from llm2vec_core.planning.plan import Plan, StagePlan, plan_recipe, training_flops
from llm2vec_core.planning.table import render_plan
from llm2vec_core.training.settings import MntpSettings, Recipe, SimcseSettings

_ON_GPU = {"bf16": True, "gradient_checkpointing": True}
_PAPER = Recipe(mntp=MntpSettings(micro_batch_size=32, **_ON_GPU), simcse=SimcseSettings(**_ON_GPU))


def _llama(**sizes: Any) -> Any:
    from transformers import AutoConfig

    defaults = {
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 256,
        "vocab_size": 500,
        "tie_word_embeddings": False,
    }
    return AutoConfig.for_model("llama", **(defaults | sizes))


def _plan(base_model: str | Path, recipe: Recipe = _PAPER, **changed: Any) -> Plan:
    arguments = {"gpu": "A100-80GB", "num_documents": 1000, "tokens_per_document": 300} | changed
    return plan_recipe(str(base_model), recipe, **arguments)


@pytest.mark.parametrize(
    ("paper_name", "hub_name", "billions", "lora_millions"),
    [
        ("S-LLaMA-1.3B", "princeton-nlp/Sheared-LLaMA-1.3B", 1.345, 14.99),
        ("LLaMA-2-7B", "meta-llama/Llama-2-7b-chat-hf", 6.738, 39.98),
        ("Mistral-7B", "mistralai/Mistral-7B-Instruct-v0.2", 7.242, 41.94),
        ("Meta-LLaMA-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct", 8.030, 41.94),
    ],
)
def test_the_papers_base_models_have_their_published_sizes(
    paper_name: str, hub_name: str, billions: float, lora_millions: float
) -> None:
    config = read_config(paper_name)
    architecture = count_architecture(config)
    assert round(architecture.parameters / 1e9, 3) == billions
    assert architecture == count_architecture(read_config(hub_name))
    assert round(count_adapter(config, LoraSettings()).trainable / 1e6, 2) == lora_millions


def test_flops_of_training_are_those_of_the_plan_and_need_no_gpu() -> None:
    planned = {stage.stage: (stage.flops, stage.execution.precision) for stage in _plan("bundled:smollm2-135m").stages}
    assert training_flops("bundled:smollm2-135m", _PAPER) == planned
    assert set(planned) == {"mntp", "simcse"}


def test_smollm2_has_its_published_size_and_ties_its_embeddings() -> None:
    architecture = count_architecture(read_config("bundled:smollm2-135m"))
    assert architecture.parameters == architecture.backbone_parameters == 134_515_008
    assert architecture.published_bytes == 4 * 134_515_008


def test_an_adapter_has_the_size_of_the_model_that_it_was_trained_on() -> None:
    adapter = Path(base_models.__file__).parent / "adapters" / "smollm2-135m-jobs"
    for name in ("bundled:smollm2-135m-jobs", str(adapter)):
        assert count_architecture(read_config(name)).parameters == 134_515_008


def test_the_bundled_minilm_is_stated_as_its_package_has_it() -> None:
    from llm2vec_core.model.base_models import fetch_base_model

    packaged = fetch_base_model("bundled:all-minilm-l6-v2", cache_dir=Path("unused"))
    assert count_architecture(read_config(str(packaged))) == count_architecture(read_config("bundled:all-minilm-l6-v2"))


def test_counts_are_those_of_a_model_with_weights() -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from llm2vec_core.model.lora import lora_config

    settings = LoraSettings(rank=3, targets=["q_proj", "down_proj"])
    model = AutoModelForCausalLM.from_config(_llama(), dtype=torch.float32)
    architecture, adapter = count_architecture(_llama()), count_adapter(_llama(), settings)
    assert architecture.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert architecture.backbone_parameters == architecture.parameters - 500 * 96
    adapted = PeftModel(model, lora_config(settings, model))
    assert adapter.trainable == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert adapter.input_width == 4 * (96 + 256)


@pytest.mark.parametrize(
    "execution",
    [
        Execution(device="cpu"),
        Execution(device="cpu", attention="eager"),
        Execution(device="cpu", gradient_checkpointing=True),
        Execution(device="cpu", precision="bf16"),
        Execution(device="cpu", precision="bf16", attention="eager", gradient_checkpointing=True),
    ],
    ids=lambda execution: "-".join(str(value) for value in execution.model_dump().values()),
)
def test_formulas_are_within_15_percent_of_a_measured_step(execution: Execution) -> None:
    from benchmarks.plan_accuracy import measured, planned

    shape = {"execution": execution, "rows": 2, "sequence_tokens": 48}
    errors = planned(_llama(), LoraSettings(), **shape).errors(measured(_llama(), LoraSettings(), **shape))
    assert {name: error for name, error in errors.items() if abs(error) > 0.15} == {}


def test_without_lora_dropout_layers_that_read_the_same_tensor_keep_it_once() -> None:
    from benchmarks.plan_accuracy import measured, planned

    shape = {"execution": Execution(device="cpu"), "rows": 2, "sequence_tokens": 48}
    lora = LoraSettings(dropout=0)
    errors = planned(_llama(), lora, **shape).errors(measured(_llama(), lora, **shape))
    assert abs(errors["kept_bytes"]) < 0.15


def _figures(architecture: Architecture, config: Any, *, rows: int = 2, sequence_tokens: int = 64) -> list[float]:
    adapter = count_adapter(config, LoraSettings())
    shape = {"sequence_tokens": sequence_tokens, "execution": Execution(), "scored_share": 0.2}
    flops = flops_per_token(architecture, adapter, **shape)
    memory = step_memory(architecture, adapter, rows=rows, **shape)
    return [architecture.parameters, adapter.trainable, memory.total, memory.activations, flops.forward, flops.training]


@pytest.mark.parametrize(
    "larger",
    [{"num_hidden_layers": 5}, {"hidden_size": 128}, {"intermediate_size": 300}, {"num_key_value_heads": 4}],
    ids=str,
)
def test_a_larger_architecture_needs_more_of_everything(larger: dict[str, int]) -> None:
    small, large = (_figures(count_architecture(config), config) for config in (_llama(), _llama(**larger)))
    assert all(more > less for less, more in zip(small, large, strict=True))


def test_gradient_checkpointing_trades_memory_for_flops_of_one_forward_pass() -> None:
    architecture, adapter = count_architecture(_llama()), count_adapter(_llama(), LoraSettings())
    flops, memory = {}, {}
    for is_on in (False, True):
        shape = {"sequence_tokens": 64, "execution": Execution(gradient_checkpointing=is_on)}
        flops[is_on] = flops_per_token(architecture, adapter, **shape)
        memory[is_on] = step_memory(architecture, adapter, rows=8, **shape)
    assert flops[True].training == flops[False].training + flops[False].forward
    assert memory[True].total < memory[False].total


def test_mntp_of_the_paper_takes_about_the_time_that_the_paper_tells() -> None:
    # LLM2Vec section 2.2: 100 minutes for a 7B model on one A100 with 80 GB.
    mntp = _plan("LLaMA-2-7B", _PAPER.model_copy(update={"stages": ("mntp",)})).stages[0]
    assert mntp.fits
    assert mntp.seconds / 60 == pytest.approx(100, rel=0.25)


def test_time_and_cost_follow_utilisation_and_price(tiny_base: Path) -> None:
    half, full = (_plan(tiny_base, utilisation=share, price_per_hour=3.6) for share in (0.5, 1.0))
    for slow, fast in zip([*half.stages, half.embed], [*full.stages, full.embed], strict=True):
        assert slow.seconds == pytest.approx(2 * fast.seconds)
        assert slow.cost == pytest.approx(slow.seconds / 1000)


def test_a_stage_without_bf16_gets_the_fp32_peak_and_a_note(tiny_base: Path) -> None:
    fast, slow = _plan(tiny_base), _plan(tiny_base, Recipe(bf16=False))
    assert slow.stages[0].execution.precision == "fp32"
    assert slow.stages[0].seconds > 5 * fast.stages[0].seconds
    assert any("fp32 peak" in note for note in slow.notes if "stage" in note)
    assert any("T4 has no" in note for note in _plan(tiny_base, gpu="t4").notes)


def test_simcse_in_micro_batches_has_a_second_forward_pass_and_keeps_one_view(tiny_base: Path) -> None:
    def simcse(micro_batch_size: int) -> Any:
        settings = SimcseSettings(batch_size=16, micro_batch_size=micro_batch_size, max_tokens=64)
        return _plan(tiny_base, Recipe(stages=("simcse",), simcse=settings)).stages[0]

    whole, halves = simcse(16), simcse(8)
    assert halves.flops.training == pytest.approx(whole.flops.training + whole.flops.forward)
    assert whole.memory.activations == pytest.approx(4 * halves.memory.activations, abs=4)
    assert whole.tokens == halves.tokens == 2 * 1000 * 16 * 64


def test_the_largest_micro_batch_is_the_last_that_fits() -> None:
    def mntp(micro_batch_size: int) -> StagePlan:
        settings = MntpSettings(batch_size=64, micro_batch_size=micro_batch_size, bf16=True)
        return _plan("S-LLaMA-1.3B", Recipe(stages=("mntp",), mntp=settings), gpu="L4").stages[0]

    whole = mntp(64)
    assert not whole.fits
    assert 0 < whole.largest_micro_batch_size < 64
    assert mntp(whole.largest_micro_batch_size).fits
    assert not mntp(2 * whole.largest_micro_batch_size).fits


def test_a_base_model_that_is_too_large_fits_in_no_micro_batch() -> None:
    plan = _plan("Meta-LLaMA-3-8B", gpu="T4")
    assert [stage.largest_micro_batch_size for stage in plan.stages] == [0, 0]
    assert not plan.embed.fits
    assert ("mntp: largest micro batch", "none") in render_plan(plan)


def test_documents_are_cut_at_the_encoders_max_tokens_or_read_in_parts_of_that_size(tiny_base: Path) -> None:
    cut = _plan(tiny_base, tokens_per_document=10**6).embed
    whole = _plan(tiny_base, tokens_per_document=10**6, long_texts="parts").embed
    assert (cut.tokens, whole.tokens) == (1000 * 512, 1000 * 10**6)
    assert cut.flops_per_token == whole.flops_per_token


def test_a_plan_needs_no_weights(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_base / "config.json").read_bytes())
    assert _plan(tmp_path).architecture == _plan(tiny_base).architecture


def test_a_plan_is_the_same_after_a_round_trip_through_json(tiny_base: Path) -> None:
    plan = _plan(tiny_base, price_per_hour=2)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert json.loads(plan.model_dump_json())["stages"][0]["total_bytes"] == plan.stages[0].memory.total


def test_rows_show_costs_only_with_a_price(tiny_base: Path) -> None:
    without, priced = _plan(tiny_base), _plan(tiny_base, price_per_hour=2)
    assert not [part for part, _ in render_plan(without) if "cost" in part]
    costs = [value for part, value in render_plan(priced) if "cost" in part]
    assert len(costs) == 3
    assert all(cost.startswith("$") for cost in costs)


def test_an_encoder_only_model_is_planned_without_mntp_only() -> None:
    simcse = Recipe(stages=("simcse",), simcse=SimcseSettings(**_ON_GPU))
    assert _plan("bundled:all-minilm-l6-v2", simcse).stages[0].fits
    with pytest.raises(BaseModelError, match="encoder-only"):
        _plan("bundled:all-minilm-l6-v2")


def test_an_unknown_gpu_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="not a known GPU") as caught:
        _plan("LLaMA-2-7B", gpu="abacus")
    assert all(name in caught.value.hint for name in known_gpus())


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"utilisation": 0}, "utilisation is 0"),
        ({"utilisation": 1.5}, "utilisation is 1.5"),
        ({"num_documents": -1}, "-1 documents"),
        ({"tokens_per_document": 0}, "of 0 tokens"),
        ({"price_per_hour": -2.0}, "price of -2.0"),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float], found: str) -> None:
    with pytest.raises(InputError, match=found):
        _plan("LLaMA-2-7B", **wrong)


def test_unknown_base_models_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    for name in ("bundled:nothing", str(tmp_path), "nobody/nothing"):
        with pytest.raises(BaseModelError) as caught:
            read_config(name)
        assert "LLaMA-2-7B" in caught.value.hint


def test_what_the_formulas_do_not_hold_for_is_refused() -> None:
    from transformers import AutoConfig

    experts = AutoConfig.for_model("mixtral", hidden_size=64, intermediate_size=128, num_hidden_layers=2)
    with pytest.raises(BaseModelError, match="mixtral"):
        count_architecture(experts)
    with pytest.raises(InputError, match="no_such_layer"):
        count_adapter(_llama(), LoraSettings(targets=["no_such_layer"]))


def test_importing_the_plan_loads_no_torch() -> None:
    code = "import sys, llm2vec_core.planning.table; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_eight_billion_parameters_on_24_gb_fit_or_the_plan_says_what_to_set() -> None:
    """Each stage as the paper trains it: it fits, or the plan names settings that do. 35 GB of disk suffice."""
    recipe = Recipe.paper("llama-3-8b")
    planned = _plan(recipe.base_model, recipe, gpu="L4")
    assert planned.embed.fits and not planned.embed.remedy
    for stage in planned.stages:
        assert stage.cheapest is not None
        assert stage.fits or f"micro_batch_size = {stage.cheapest.micro_batch_size}" in stage.remedy
        assert stage.memory.weights < 24e9 < stage.host_bytes, "weights are cast on the host"
    disk = planned.disk
    assert disk.at_rest < disk.peak <= 35e9
    shown = f"{disk.at_rest / 1e9:.2f} GB at rest, {disk.peak / 1e9:.2f} GB while it is trained"
    assert ("disk", shown) in render_plan(planned)


def test_gradcache_and_checkpointing_are_not_used_together_where_one_suffices() -> None:
    recipe = Recipe(simcse=SimcseSettings(micro_batch_size=32, **_ON_GPU), stages=("simcse",))
    (stage,) = _plan("mistralai/Mistral-7B-Instruct-v0.2", recipe).stages
    assert stage.cheapest is not None
    assert stage.cheapest.flops_share < 0.85
    assert not (stage.cheapest.gradient_checkpointing and stage.cheapest.micro_batch_size < 128)
    assert "fewer FLOPs" in stage.remedy


def test_the_gpu_decides_what_the_recipe_leaves_open() -> None:
    open_recipe = Recipe(stages=("mntp",))
    assert _plan("bundled:smollm2-135m", open_recipe).stages[0].execution.precision == "bf16"
    old = next(name for name, gpu in known_gpus().items() if not gpu.native_bf16)
    assert _plan("bundled:smollm2-135m", open_recipe, gpu=old).stages[0].execution.precision == "fp32"

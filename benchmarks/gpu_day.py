"""A day on a GPU in calls of nine minutes: speed and memory against the plan, equal results, the paper's recipe.

Needs ``llm2vec_core`` alone, and no network. A step that is done is kept in ``OUT/steps`` and not repeated. A call
stops before a step for which its time does not suffice; training stops at a save and resumes. Run the same command
until it prints ``"complete": true``.

``DATA`` holds ``base/`` (SmolLM2-135M or another small decoder with its tokenizer), ``texts.jsonl`` (a JSON string a
line) and, for the supervised stage, ``judgments.jsonl``. Large models have random weights of their real configuration,
which decide neither speed nor memory. The last line of stdout is one JSON object, also in ``OUT/gpu_day.json``.

    python -m benchmarks.gpu_day --data DATA --out OUT [--minutes 9] [--models mistral-7b llama-3-8b] [--rehearse]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm2vec_core.device.precision import default_device, described_device
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import InputError
from llm2vec_core.planning.architecture import count_architecture, read_config
from llm2vec_core.planning.formulas import Execution, flops_per_token
from llm2vec_core.planning.gpus import known_gpus
from llm2vec_core.planning.peak import measure_peak_flops
from llm2vec_core.planning.plan import plan_recipe
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.paper import PAPER_MODELS
from llm2vec_core.training.recipe import train_encoder
from llm2vec_core.training.settings import Recipe, StepLog, TrainingTriple
from llm2vec_core.training.stages import train_stage

PLANNED_GPU = "H200"
"""GPU of the plan where the device is none that the plans know."""

SMALL_GPU_BYTES = 24e9
"""Memory of the small GPU on which 8 billion parameters must fit, as the plan says."""

WARM_UP_STEPS = 3

_ON_CPU = {"bf16": False, "gradient_checkpointing": False}


class OutOfTimeError(Exception):
    """The call's time is over; the next call goes on."""


@dataclass
class Day:
    """One call: where data and results are, and how long it may take.

    Attributes:
        data: Folder with ``base/`` and ``texts.jsonl``.
        out: Folder of results.
        until: Time of the monotonic clock at which the call must be over.
        is_rehearsal: Use the small base for every model, and few tokens.
        models: The paper's models to measure.
    """

    data: Path
    out: Path
    until: float
    is_rehearsal: bool
    models: Sequence[str]

    @property
    def base(self) -> Path:
        """The small base model."""
        return self.data / "base"

    def left(self) -> float:
        """Seconds that are left."""
        return self.until - time.monotonic()

    def texts(self, most: int | None = None) -> list[str]:
        """Training texts."""
        with (self.data / "texts.jsonl").open(encoding="utf-8") as stream:
            return [json.loads(line) for line in itertools.islice(stream, most)]

    def stop_in_time(self, _: StepLog) -> None:
        """Stop training while there is time to end the process; it resumes from its last save."""
        if self.left() < 0:
            raise OutOfTimeError

    def result(self, name: str) -> dict[str, Any] | None:
        """Result of a step that is done."""
        path = self.out / "steps" / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def keep(self, name: str, result: dict[str, Any]) -> None:
        """Keep the result of a step."""
        path = self.out / "steps" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(result, indent=2))
        temporary.rename(path)


@dataclass(frozen=True)
class Step:
    """One step: its name, the seconds that it needs at least, and what it does."""

    name: str
    least_s: float
    measure: Callable[[Day], dict[str, Any]]


def steps_of(day: Day) -> list[Step]:
    """All steps, the cheapest proofs first."""
    steps = [Step("machine", 20, measure_machine), Step("equal", 60, measure_equal_results)]
    small = [("small", day.base)]
    steps += [Step(f"encode-{name}", 90, lambda day, base=base: measure_encoding(day, base)) for name, base in small]
    steps += [Step("recipe", 60, run_recipe)]
    for name in day.models:
        steps += [
            Step(f"encode-{name}", 200, lambda day, name=name: with_random_model(day, name, measure_encoding)),
            Step(f"train-{name}", 300, lambda day, name=name: with_random_model(day, name, measure_training)),
            Step(f"small-gpu-{name}", 200, lambda day, name=name: with_random_model(day, name, measure_on_small_gpu)),
        ]
    return steps


def measure_machine(_: Day) -> dict[str, Any]:
    """The device, and its peak in matrix products."""
    device = default_device()
    found: dict[str, Any] = {
        "device": described_device(device),
        "torch": torch.__version__,
        "peak_tflops": {name: measure_peak_flops(name) / 1e12 for name in ("bf16", "fp32")},
    }
    if device.type == "cuda":
        found["memory_gb"] = torch.cuda.get_device_properties(device).total_memory / 1e9
    return found


def measure_equal_results(day: Day) -> dict[str, Any]:
    """Vectors of one hundred texts: the CPU in fp32 against the device in fp32 (1e-4) and bf16 (cosine 0.999)."""
    texts = day.texts(10 if day.is_rehearsal else 100)
    expected = encoded(day.base, texts, device="cpu", precision="fp32")
    device = str(default_device())
    exact = encoded(day.base, texts, device=device, precision="fp32")
    half = encoded(day.base, texts, device=device, precision="bf16")
    return {
        "fp32_max_abs_diff": float(np.abs(exact - expected).max()),
        "bf16_min_cosine": float((half * expected).sum(axis=1).min()),
    }


def encoded(base: Path, texts: list[str], *, device: str, precision: Any) -> np.ndarray:  # noqa: ANN401
    """Unit vectors of texts."""
    return Encoder.from_base(base, device=device, precision=precision).encode(texts, normalize=True)


def measure_encoding(day: Day, base: Path) -> dict[str, Any]:
    """Tokens per second, share of the peak and memory against the plan; the same texts by sentence-transformers."""
    texts = day.texts(20 if day.is_rehearsal else 4000)
    with memory_peak() as peak:
        encoder = Encoder.from_base(base)
    load_bytes = peak()
    encoder.encode(texts[:16])
    with memory_peak() as peak:
        started = time.perf_counter()
        encoding = encoder.encode_with_counts(texts)
        ours_s = time.perf_counter() - started
    used = peak()
    started = time.perf_counter()
    encoder.model.encode(texts, show_progress_bar=False)
    theirs_s = time.perf_counter() - started
    precision = "bf16" if encoder.model.dtype == torch.bfloat16 else "fp32"
    architecture = count_architecture(read_config(str(base)))
    mean = max(1, encoding.num_tokens // len(set(texts)))
    flops = flops_per_token(architecture, None, sequence_tokens=mean, execution=Execution()).forward
    plan = plan_recipe(
        str(base), Recipe(), gpu=planned_gpu(), num_documents=len(texts), tokens_per_document=mean,
        embed_precision=precision,
    )  # fmt: skip
    return {
        "precision": precision,
        "packs": encoder.forward.packs,
        "batch_tokens": encoder.batch_tokens,
        "tokens_per_s": encoding.num_tokens / ours_s,
        "over_sentence_transformers": theirs_s / ours_s,
        "peak_share": flops * encoding.num_tokens / ours_s / peak_flops(precision),
        "load_bytes": load_bytes,
        "bytes": used,
        "planned_bytes": plan.embed.total_bytes,
    }


def measure_training(day: Day, base: Path, *, steps: int = 12) -> dict[str, Any]:
    """Tokens per second, share of the peak and memory of MNTP and SimCSE updates, against the plan."""
    recipe = small_recipe(day, base, steps=WARM_UP_STEPS + 1 if day.is_rehearsal else steps)
    plan = plan_recipe(str(base), recipe, gpu=planned_gpu(), num_documents=0, tokens_per_document=1)
    found: dict[str, Any] = {}
    for stage in plan.stages:
        logs: list[StepLog] = []
        work_dir = day.out / "work" / stage.stage
        shutil.rmtree(work_dir, ignore_errors=True)
        texts = day.texts(200 if day.is_rehearsal else 20_000)
        job = StageJob(stage=stage.stage, recipe=recipe, base=base, work_dir=work_dir, texts=texts, on_step=logs.append)
        with memory_peak() as peak:
            train_stage(job)
        shutil.rmtree(work_dir)
        timed = logs[WARM_UP_STEPS:]
        rate = sum(log.tokens for log in timed) / sum(log.seconds for log in timed)
        found[stage.stage] = {
            "precision": stage.execution.precision,
            "tokens_per_s": rate,
            "peak_share": stage.flops.training * rate / peak_flops(stage.execution.precision),
            "bytes": peak(),
            "planned_bytes": stage.total_bytes,
            "last_loss": logs[-1].loss,
        }
    return found


def measure_on_small_gpu(day: Day, base: Path) -> dict[str, Any]:
    """Whether loading, encoding and training fit into 24 GB, as the plan says of the same settings."""
    device = default_device()
    if device.type != "cuda":
        return {"skipped": "needs a GPU"}
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, SMALL_GPU_BYTES / total), device)
    try:
        encoder = Encoder.from_base(base, batch_tokens=4096)
        encoder.encode(day.texts(64))
        del encoder
        free_memory()
        return {"encode": "fits", "train": measure_training(day, base, steps=WARM_UP_STEPS + 2)}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def run_recipe(day: Day) -> dict[str, Any]:
    """The paper's recipe on the small model. Adapters and curves go to ``OUT/recipe``."""
    judgments = read_judgments(day.data / "judgments.jsonl")
    stages = [stage for stage in ("mntp", "simcse", "supervised") if stage != "supervised" or judgments]
    changes: dict[str, Any] = {"base_model": str(day.base), "stages": stages, "chat_template": False}
    if day.is_rehearsal:
        tiny = {"steps": 2, "save_steps": 1, "batch_size": 4, "micro_batch_size": 4, **_ON_CPU}
        changes |= {"mntp": {**tiny, "chunk_tokens": 64}, "simcse": {**tiny, "max_tokens": 32}, "supervised": tiny}
    recipe = Recipe.paper("s-llama-1.3b", **changes)
    work_dir, kept = day.out / "work" / "recipe", day.out / "recipe"
    trained = train_encoder(
        recipe,
        recipe.sample_documents(day.texts()),
        recipe_key=recipe.settings_key(),
        work_dir=work_dir,
        cache_dir=day.out / "cache",
        triples=judgments,
        on_step=day.stop_in_time,
    )
    kept.mkdir(parents=True, exist_ok=True)
    for stage in recipe.stages:
        shutil.copytree(work_dir / stage / "adapter", kept / stage, dirs_exist_ok=True)
    curves = [curve.model_dump(mode="json") for curve in trained.curves]
    (kept / "curves.json").write_text(json.dumps(curves, indent=2))
    return {
        "adapters": [str(kept / stage) for stage in recipe.stages],
        "last_losses": {curve.stage: curve.losses[-1] for curve in trained.curves},
        "tokens_per_s": {curve.stage: curve.tokens_per_s for curve in trained.curves},
    }


def with_random_model(day: Day, name: str, measure: Callable[[Day, Path], dict[str, Any]]) -> dict[str, Any]:
    """Measure a model of the paper with random weights; a rehearsal takes the small base."""
    if day.is_rehearsal:
        return measure(day, day.base)
    folder = day.out / "work" / name
    if not (folder / "config.json").is_file():
        for other in (day.out / "work").glob("*/config.json"):
            shutil.rmtree(other.parent)  # the disk holds one large model
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        with torch.device(default_device()):
            model = AutoModelForCausalLM.from_config(read_config(name), dtype=torch.bfloat16)
        model.save_pretrained(partial)
        del model
        free_memory()
        # Its ids are among those of the larger vocabularies.
        AutoTokenizer.from_pretrained(day.base, local_files_only=True).save_pretrained(partial)
        partial.rename(folder)
    return measure(day, folder)


def small_recipe(day: Day, base: Path, *, steps: int) -> Recipe:
    """MNTP and SimCSE of the paper, for a few updates."""
    changes: dict[str, Any] = {stage: {"steps": steps, "save_steps": steps} for stage in ("mntp", "simcse")}
    if day.is_rehearsal:
        tiny = {"steps": steps, "save_steps": steps, "batch_size": 4, "micro_batch_size": 4, **_ON_CPU}
        changes = {"mntp": {**tiny, "chunk_tokens": 64}, "simcse": {**tiny, "max_tokens": 32}}
    return Recipe.paper("s-llama-1.3b", base_model=str(base), chat_template=False, **changes)


def read_judgments(path: Path) -> list[TrainingTriple]:
    """Triples of the supervised stage; none without the file."""
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [TrainingTriple(row["anchor"], row["positive"], tuple(row.get("negatives", ()))) for row in rows]


def planned_gpu() -> str:
    """The known GPU that this device is; :data:`PLANNED_GPU` otherwise."""
    name = described_device(default_device())
    return next((known for known in known_gpus() if known.split("-")[0] in name), PLANNED_GPU)


def peak_flops(precision: Any) -> float:  # noqa: ANN401
    """Published peak of a known GPU, otherwise the measured one."""
    if default_device().type == "cuda":
        return known_gpus()[planned_gpu()].flops_per_s(precision)
    return measure_peak_flops(precision)


@contextlib.contextmanager
def memory_peak() -> Iterator[Callable[[], int | None]]:
    """Highest memory of the device that torch allocated in this context; None on a CPU."""
    free_memory()
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.reset_peak_memory_stats()
    yield lambda: torch.cuda.max_memory_allocated() if has_gpu else None


def free_memory() -> None:
    """Give back memory of models that are gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run(day: Day) -> dict[str, Any]:
    """Do steps until all are done or the time is over.

    A step that fails is recorded with its error, so that the steps after it are measured. The next call repeats it.
    """
    steps, failed = steps_of(day), {}
    for step in steps:
        if day.result(step.name) is not None:
            continue
        if day.left() < (0 if day.is_rehearsal else step.least_s):
            break
        started = time.monotonic()
        try:
            result = step.measure(day)
        except OutOfTimeError:
            break
        except Exception as error:
            failed[step.name] = f"{type(error).__name__}: {error}"
            free_memory()
            continue
        day.keep(step.name, {**result, "seconds": round(time.monotonic() - started, 1)})
        free_memory()
    done = {step.name: found for step in steps if (found := day.result(step.name)) is not None}
    report = {"complete": len(done) == len(steps), "rehearsal": day.is_rehearsal, "failed": failed, "steps": done}
    day.out.mkdir(parents=True, exist_ok=True)
    (day.out / "gpu_day.json").write_text(json.dumps(report, indent=2))
    return report


def main() -> None:
    """Do what the call's time allows, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="time of this call (default: 9)")
    parser.add_argument("--models", nargs="*", default=["s-llama-1.3b", "mistral-7b", "llama-3-8b"])
    parser.add_argument("--rehearse", action="store_true", help="the same steps with the small base and few tokens")
    chosen = parser.parse_args()
    unknown = set(chosen.models) - set(PAPER_MODELS)
    if unknown:
        raise InputError(
            f"The paper has no {', '.join(sorted(unknown))}.", hint=f"Its models: {', '.join(PAPER_MODELS)}."
        )
    day = Day(chosen.data, chosen.out, time.monotonic() + 60 * chosen.minutes, chosen.rehearse, chosen.models)
    print(json.dumps(run(day)))


if __name__ == "__main__":
    main()

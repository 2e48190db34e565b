"""Synthetic reports for the pages: a small one with known figures, and a rich one of any size."""

import itertools
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from llm2vec_core.evaluation.metrics import RANKING_METRICS
from llm2vec_core.evaluation.report import EvaluationReport
from llm2vec_core.evaluation.results import (
    Average,
    Comparison,
    Decision,
    Distribution,
    Headline,
    SliceScore,
    SystemReport,
    TaskScore,
    WorstQuery,
)
from llm2vec_core.evaluation.systems import SystemTraits
from llm2vec_core.evaluation.tasks.types import EVAL_TASK_TYPES
from llm2vec_core.training.settings import StageCurve

JOBS = Headline(
    task="JobResumeRetrieval",
    title="{count} job descriptions",
    caption="Resumes ranked for each of {count} job descriptions",
)

METRICS = {
    "Retrieval": "ndcg_at_10",
    "Reranking": "map_at_1000",
    "Clustering": "v_measure",
    "PairClassification": "max_ap",
    "Classification": "accuracy",
    "STS": "cosine_spearman",
    "Summarization": "cosine_spearman",
    "TokenClassification": "f1",
}

TASKS = {
    "JobResumeRetrieval": "Retrieval",
    "SciFact": "Retrieval",
    "AskUbuntuDupQuestions": "Reranking",
    "TwentyNewsgroupsClustering": "Clustering",
    "SprintDuplicateQuestions": "PairClassification",
    "Banking77Classification": "Classification",
    "EmotionClassification": "Classification",
    "STSBenchmark": "STS",
    "STS13": "STS",
    "SummEval": "Summarization",
    "Conll2000Chunking": "TokenClassification",
    "UdEwtPos": "TokenClassification",
    "SkillSpanNer": "TokenClassification",
}


def make_score(task: str, task_type: str, value: float, **more: Any) -> TaskScore:
    fields: dict[str, Any] = {
        "main_score_name": METRICS[task_type],
        "metrics": dict.fromkeys(RANKING_METRICS.values(), value / 2)
        | {"ndcg_at_10": value, "map_at_1000": value - 1, "mrr_at_10": value + 1},
        "seconds": 1.25,
        "num_items": 100,
        "num_texts": 300,
        "content_sha256": "c0ffee" * 10,
        "system_fingerprint": "f" * 64,
    }
    return TaskScore(task=task, type=task_type, main_score=value, **(fields | more))


def make_curve(stage: Any, losses: list[float], *, tokens: int, seconds: float) -> StageCurve:
    return StageCurve(
        stage=stage,
        num_steps=len(losses),
        tokens=tokens,
        seconds=seconds,
        losses=losses,
        learning_rates=[1e-4] * len(losses),
    )


def make_traits(base_model: str, modes: str) -> SystemTraits:
    """Traits from modes such as ``bidirectional mntp simcse mean``."""
    attention, *stages, pooling_mode = modes.split()
    echo = "echo" in stages
    return SystemTraits(
        base_model=base_model,
        attention=attention,  # type: ignore[arg-type]
        stages=tuple(stage for stage in stages if stage != "echo"),
        pooling_mode=pooling_mode,  # type: ignore[arg-type]
        echo=echo,
    )


def make_comparison(scope: str, better: str, worse: str, difference: float, *, real: bool) -> Comparison:
    width = difference * (0.5 if real else 1.5) + 0.2
    return Comparison(
        scope=scope,
        better=better,
        worse=worse,
        difference=difference,
        ci_low=difference - width,
        ci_high=difference + width,
        p_value=0.0004 if real else 0.21,
        smallest_difference=2.5,
        is_significant=real,
    )


@pytest.fixture
def report() -> EvaluationReport:
    """Two systems: one does three tasks, the other two of them."""
    dense = SystemReport(
        name="Trained",
        description="bidirectional, mean pooling",
        fingerprint="aaaa1111" * 8,
        mode="dense",
        scores=(
            make_score("STSSmall", "STS", 71.119, ci_low=69.04, ci_high=73.26, num_tokens=988, encode_seconds=0.5),
            make_score("JobResumeRetrieval", "Retrieval", 44.444),
            make_score("OtherRetrieval", "Retrieval", 30.0),
        ),
    )
    words = SystemReport(
        name="BM25",
        fingerprint="bm25-1",
        mode="lexical",
        scores=(make_score("JobResumeRetrieval", "Retrieval", 41.0), make_score("OtherRetrieval", "Retrieval", 35.5)),
    )
    return EvaluationReport(
        title="Nightly evaluation",
        created_at=datetime(2026, 11, 22, 2, 30, tzinfo=UTC),
        run_id="20261122-1f3a",
        systems=(dense, words),
        averages=(
            Average(system="Trained", scope="Retrieval", num_tasks=2, score=37.22, ci_low=35.0, ci_high=39.4),
            Average(system="BM25", scope="Retrieval", num_tasks=2, score=38.25),
            Average(system="Trained", scope="STS", num_tasks=1, score=71.119, ci_low=69.04, ci_high=73.26),
            Average(system="Trained", scope="all", num_tasks=3, score=48.52),
        ),
        comparisons=(
            make_comparison("Retrieval", "BM25", "Trained", 1.03, real=False),
            make_comparison("JobResumeRetrieval", "Trained", "BM25", 3.44, real=False),
            make_comparison("OtherRetrieval", "BM25", "Trained", 5.5, real=True),
        ),
        decision=Decision(
            served="Trained",
            reason="it ranks resumes best",
            candidate="Trained",
            incumbent="BM25",
            findings=("Retrieval: not worse than BM25 by more than a point.",),
        ),
        training=(
            make_curve("mntp", [5.0, 4.0, 3.5], tokens=12_345, seconds=12.5),
            make_curve("simcse", [2.0, 1.5], tokens=6_000, seconds=12.0),
        ),
        notes=("So little training shows that the chain works.",),
        headlines=(JOBS,),
        machine={"CPU": "2 cores"},
    )


SYSTEMS = {
    "BM25": ("lexical", None),
    "LLM2Vec hybrid": ("hybrid", None),
    "MiniLM": ("dense", make_traits("bundled:all-minilm-l6-v2", "bidirectional mean")),
    "Uni, last token": ("dense", make_traits("smollm2-135m", "causal last")),
    "Uni, mean": ("dense", make_traits("smollm2-135m", "causal mean")),
    "Uni, weighted mean": ("dense", make_traits("smollm2-135m", "causal weighted_mean")),
    "Bi, mean": ("dense", make_traits("smollm2-135m", "bidirectional mean")),
    "Bi + MNTP, mean": ("dense", make_traits("smollm2-135m", "bidirectional mntp mean")),
    "LLM2Vec": ("dense", make_traits("smollm2-135m", "bidirectional mntp simcse mean")),
    "Echo": ("dense", make_traits("smollm2-135m", "causal echo mean")),
    "bundled:tiny-llama+causal+weighted_mean": ("dense", make_traits("tiny-llama", "causal weighted_mean")),
    "bundled:tiny-llama+bidirectional+mean": ("dense", make_traits("tiny-llama", "bidirectional mean")),
}


@pytest.fixture(scope="session")
def rich_report() -> EvaluationReport:
    """Twelve systems on thirteen tasks, with everything that a report can hold."""
    return make_rich_report(SYSTEMS, TASKS)


@pytest.fixture(scope="session")
def make_large_report() -> Callable[[int, int], EvaluationReport]:
    """A report of any number of systems and tasks."""

    def make(num_systems: int, num_tasks: int) -> EvaluationReport:
        systems = {
            f"bundled:model-{number}+bidirectional+mntp+simcse+mean": (
                "dense",
                make_traits(f"model-{number // 3}", "bidirectional mntp simcse mean"),
            )
            for number in range(num_systems)
        }
        categories = list(itertools.islice(itertools.cycle(EVAL_TASK_TYPES), num_tasks))
        tasks = {f"StackExchangeNumber{number}{category}": category for number, category in enumerate(categories)}
        return make_rich_report(systems, tasks)

    return make


def make_rich_report(systems: dict[str, Any], tasks: dict[str, str]) -> EvaluationReport:
    chance = random.Random(7)
    level = {task: chance.uniform(15, 80) for task in tasks}
    skill = {name: number - len(systems) / 2 for number, name in enumerate(systems)}

    def scores(name: str, mode: str) -> tuple[TaskScore, ...]:
        done = [task for task in tasks if mode == "dense" or tasks[task] in ("Retrieval", "Reranking")]
        found = []
        for task in done:
            value = min(99.0, max(1.0, level[task] + skill[name] + chance.gauss(0, 3)))
            found.append(
                make_score(
                    task,
                    tasks[task],
                    value,
                    ci_low=value - 1.7,
                    ci_high=value + 1.6,
                    intervals={METRICS[tasks[task]]: (value - 1.7, value + 1.6)},
                    seconds=chance.uniform(0.5, 90),
                    encode_seconds=0.0 if mode == "lexical" else chance.uniform(0.5, 60),
                    num_tokens=0 if mode == "lexical" else chance.randrange(10_000, 900_000),
                    is_official=True,
                )
            )
        return tuple(found)

    reports = tuple(
        SystemReport(
            name=name,
            description=f"{name}, as it was on the first night",
            fingerprint=f"{chance.getrandbits(256):064x}",
            mode=mode,
            traits=traits,
            scores=scores(name, mode),
        )
        for name, (mode, traits) in systems.items()
    )
    averages = [average for scope, names in _scopes(tasks).items() for average in _averages(reports, scope, names)]
    distributions = tuple(
        Distribution(
            task=score.task,
            metric=score.main_score_name,
            system=system.name,
            quantiles=tuple(max(0.0, min(100.0, score.main_score + 2.2 * (5 * step - 50))) for step in range(21)),
            share_zero=max(0.0, 0.4 - score.main_score / 200),
        )
        for system in reports
        for score in system.scores
        if score.type in ("Retrieval", "Reranking")
    )
    return EvaluationReport(
        title="Evaluation of twelve systems",
        created_at=datetime(2026, 11, 22, 2, 30, tzinfo=UTC),
        run_id="20261122-1f3a",
        systems=reports,
        averages=tuple(averages),
        comparisons=(*_task_comparisons(reports, tasks), *_average_comparisons(averages)),
        distributions=distributions,
        slices=tuple(
            SliceScore(
                task=task,
                name="seniority",
                value=value,
                system=system.name,
                num_queries=1 if value == "lead" else 99,
                score=chance.uniform(0, 100),
                ci_low=None if value == "lead" else 1.0,
                ci_high=None if value == "lead" else 99.0,
            )
            for task in tasks
            if tasks[task] == "Retrieval"
            for value in ("junior", "lead")
            for system in reports
        ),
        worst=tuple(
            WorstQuery(
                task=task,
                system=reports[-1].name,
                query=f"query-{number}",
                text="Somebody <b>who</b> *keeps* | the pipes clear",
                score=float(number),
                best_other=reports[0].name,
                best_other_score=50.0,
                first="Plumber: knows pipes" if number else "",
                first_relevance=number,
                relevant=("Data engineer: builds pipelines", "ETL developer: moves data"),
            )
            for task in tasks
            if tasks[task] == "Retrieval"
            for number in range(2)
        ),
        decision=Decision(
            served=reports[-1].name,
            reason="it is better over all tasks, and worse in no category",
            candidate=reports[-1].name,
            incumbent=reports[0].name,
            findings=(
                "Retrieval: 2.3 points higher (95 % interval 0.4 to 4.1).",
                "STS: this set can't tell them apart; a loss of more than a point is unlikely (probability 0.02).",
            ),
        ),
        training=(
            make_curve("mntp", [9 * 0.97**step + 2 for step in range(60)], tokens=1_234_567, seconds=1250),
            make_curve("simcse", [3 * 0.95**step + 0.1 for step in range(40)], tokens=600_000, seconds=800),
        ),
        notes=(
            "The 100 job descriptions are written for this project: the table compares systems on the same ground.",
        ),
        headlines=(JOBS,),
        machine={"processor": "x86_64", "python": "3.12.3", "torch": "2.15.0", "mteb": "2.26.0"},
    )


def _scopes(tasks: dict[str, str]) -> dict[str, list[str]]:
    by_type = {kind: [task for task in tasks if tasks[task] == kind] for kind in METRICS}
    words = by_type.pop("TokenClassification")
    everything = [task for found in by_type.values() for task in found]
    scopes = by_type | {"all": everything, "word": words}
    return {scope: found for scope, found in scopes.items() if found}


def _averages(reports: Sequence[SystemReport], scope: str, names: list[str]) -> list[Average]:
    found = []
    for system in reports:
        values = [score.main_score for score in system.scores if score.task in names]
        if len(values) == len(names):
            mean = sum(values) / len(values)
            found.append(
                Average(
                    system=system.name,
                    scope=scope,
                    num_tasks=len(names),
                    score=mean,
                    ci_low=mean - 1.1,
                    ci_high=mean + 1,
                )
            )
    return found


def _average_comparisons(averages: Sequence[Average]) -> list[Comparison]:
    return [
        _compared(one.scope, (one.system, one.score), (other.system, other.score))
        for one, other in itertools.combinations(averages, 2)
        if one.scope == other.scope
    ]


def _task_comparisons(reports: Sequence[SystemReport], tasks: dict[str, str]) -> list[Comparison]:
    found = []
    for task in tasks:
        scored = [
            (system.name, score.main_score) for system in reports for score in system.scores if score.task == task
        ]
        found += [_compared(task, one, other) for one, other in itertools.combinations(scored, 2)]
    return found


def _compared(scope: str, one: tuple[str, float], other: tuple[str, float]) -> Comparison:
    better, worse = sorted((one, other), key=lambda pair: -pair[1])
    difference = better[1] - worse[1]
    return make_comparison(scope, better[0], worse[0], difference, real=difference > 2)

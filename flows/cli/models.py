"""Commands about encoders: evaluate, compare, plan, convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from flows.cli.command import BaseModelOption, Call, command
from flows.cli.environment import prepare_prefect
from flows.cli.output import print_json, print_table, show

if TYPE_CHECKING:
    from flows.request import RunRequest
    from llm2vec_core.serving.record import ServedFormat
    from tasks.run.reports import EvaluateReport

app = typer.Typer()

TasksDirOption = Annotated[
    list[Path] | None, typer.Option("--tasks-dir", help="Folder of evaluation task folders. Can be repeated.")
]
TasksOption = Annotated[list[str] | None, typer.Option("--tasks", help="Run this task only. Can be repeated.")]
MaxItemsOption = Annotated[
    int | None,
    typer.Option("--max-items", min=10, help="Limit each task of --tasks-dir to a seeded sample of this size."),
]


@command(app)
def evaluate(
    call: Call,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint", help="Encoder: fingerprint, directory, model name or bm25, with modes. Can be repeated."
        ),
    ] = None,
    tasks_dir: TasksDirOption = None,
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", help="MTEB benchmark, or llm2vec-15. Can be repeated.")
    ] = None,
    tasks: TasksOption = None,
    max_items: MaxItemsOption = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Compare the first --checkpoint with this encoder, or with 'served'."),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="Exit with code 3 if the first --checkpoint is significantly worse in a category, beyond the margin.",
        ),
    ] = False,
    mteb_results: Annotated[
        Path | None, typer.Option("--mteb-results", help="Also write the results to this folder, in mteb's format.")
    ] = None,
) -> None:
    """Evaluate encoders side by side and write a report."""
    request = call.request(_evaluation_overrides(tasks_dir, benchmark, tasks, max_items))
    prepare_prefect(request, "evaluate")
    from flows.evaluate import evaluate as evaluate_flow

    report = evaluate_flow(
        request,
        checkpoints=checkpoint or None,
        against=against,
        gate=gate,
        mteb_results=str(mteb_results.resolve()) if mteb_results else None,
    )
    _show_evaluation(call, request, report)


@command(app)
def ablate(
    call: Call,
    base_model: BaseModelOption = None,
    tasks_dir: TasksDirOption = None,
    tasks: TasksOption = None,
    max_items: MaxItemsOption = None,
    standardised: Annotated[bool, typer.Option("--standardised", help="Also evaluate standardised vectors.")] = False,
) -> None:
    """Train the recipe's ablations, and evaluate each one with every pooling mode."""
    chosen = {"train.base_model": base_model} if base_model else {}
    request = call.request({**chosen, **_evaluation_overrides(tasks_dir, None, tasks, max_items)})
    prepare_prefect(request, "ablate")
    from flows.ablate import ablate as ablate_flow

    _show_evaluation(call, request, ablate_flow(request, standardised=standardised))


def _show_evaluation(call: Call, request: RunRequest, report: EvaluateReport) -> None:
    """Print the scores of an evaluation and the path of its report."""
    from tasks.encoders.evaluation_reports import report_location

    path = report_location(request.settings().store(), report.report, "html")
    if call.as_json:
        findings = {"reason": report.reason, "findings": report.findings, "refused": report.refused}
        counts = {"computed": report.computed, "reused": report.reused, "seconds": report.seconds}
        print_json({"systems": report.systems, "report": path, **findings, **counts})
        return
    rows = report.score_rows()
    print_table(f"Report: {path}", list(rows[0]) if rows else [], [row.values() for row in rows])
    for sentence in (report.reason, *report.findings):
        if sentence:
            Console().print(sentence)


def _evaluation_overrides(
    tasks_dirs: list[Path] | None, benchmarks: list[str] | None, tasks: list[str] | None, max_items: int | None
) -> dict[str, Any]:
    """Settings that the evaluation options override. Folders or benchmarks replace the default tasks."""
    from data.sample.eval_tasks import SAMPLE_TASKS

    overrides: dict[str, Any] = {}
    if tasks_dirs or benchmarks:
        overrides = {
            "evaluate.tasks_dirs": [str(folder) for folder in tasks_dirs or ()],
            "evaluate.benchmarks": benchmarks or [],
            "evaluate.skip_missing_tasks_dirs": False,
            "evaluate.sample_tasks": [],
            "evaluate.tasks": None,
            "evaluate.max_items": None,
        }
    if tasks:
        overrides["evaluate.tasks"] = tasks
        overrides["evaluate.skip_missing_tasks_dirs"] = False
        overrides["evaluate.sample_tasks"] = [name for name in tasks if name in SAMPLE_TASKS]
    if max_items is not None:
        overrides["evaluate.max_items"] = max_items
    return overrides


@command(app)
def plan(
    call: Call,
    gpu: Annotated[str, typer.Option("--gpu", help="GPU, such as A100-80GB.")],
    base_model: BaseModelOption = None,
    documents: Annotated[int, typer.Option("--documents", min=1, help="Number of documents to embed.")] = 100_000,
    tokens_per_document: Annotated[
        int, typer.Option("--tokens-per-document", min=1, help="Mean length of a document, in tokens.")
    ] = 256,
    utilisation: Annotated[float, typer.Option("--utilisation", help="Expected share of the GPU's peak FLOP/s.")] = 0.4,
    price: Annotated[float | None, typer.Option("--price", min=0, help="Price per GPU hour.")] = None,
) -> None:
    """Estimate memory, time and cost of training and embedding from the base model's configuration."""
    from llm2vec_core.planning.plan import plan_recipe
    from llm2vec_core.planning.table import render_plan

    settings = call.request({"train.base_model": base_model} if base_model else {}).settings()
    recipe = settings.train
    planned = plan_recipe(
        recipe.base_model,
        recipe,
        gpu=gpu,
        num_documents=documents,
        tokens_per_document=tokens_per_document,
        embed_precision=settings.encode.precision,
        long_texts=settings.encode.long_texts,
        utilisation=utilisation,
        price_per_hour=price,
    )
    show(
        planned.model_dump(mode="json"),
        as_json=call.as_json,
        title=f"{recipe.base_model} on {gpu}",
        rows=lambda: render_plan(planned),
    )


@command(app)
def convert(
    call: Call,
    to: Annotated[Path, typer.Option("--to", help="Directory to create.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint", help="Encoder: fingerprint, directory or model name, with modes (default: the served one)."
        ),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Also write an ONNX graph.")] = True,
    gguf: Annotated[bool, typer.Option("--gguf", help="Also write a GGUF file for llama.cpp.")] = False,
    precision: Annotated[
        Literal["float32", "float16"],
        typer.Option("--precision", help="Precision of the weights. An ONNX graph is always float32."),
    ] = "float32",
) -> None:
    """Convert an encoder for other runtimes, and check that they return the same vectors."""
    from llm2vec_core.serving.record import describe
    from tasks.queries.convert import convert_encoder

    chosen: dict[ServedFormat, bool] = {"onnx": onnx, "gguf": gguf}
    formats = [name for name, is_chosen in chosen.items() if is_chosen]
    conversion = convert_encoder(call.request().settings(), checkpoint, to=to, formats=formats, precision=precision)
    show(
        {**conversion.model_dump(), "path": str(to.resolve())},
        as_json=call.as_json,
        title=f"{conversion.label} in {to}",
        columns=[""],
        rows=lambda: [(describe(proof),) for proof in conversion.proofs],
    )


@command(app)
def prove(
    call: Call,
    directory: Annotated[Path, typer.Argument(help="Directory that `l2v convert` wrote.")],
    url: Annotated[
        str, typer.Option("--url", help="Embeddings endpoint, such as http://localhost:8000/v1/embeddings.")
    ],
    runtime: Annotated[str, typer.Option("--runtime", help="Name of the server, such as vllm.")],
) -> None:
    """Check that a running server returns the vectors of a converted encoder. Exit with code 1 if they differ."""
    from llm2vec_core.serving.record import describe
    from tasks.queries.convert import prove_server

    call.request()
    proof = prove_server(directory, url=url, runtime=runtime)
    show(
        proof.model_dump(),
        as_json=call.as_json,
        title=str(directory),
        columns=[""],
        rows=lambda: [(describe(proof),)],
    )
    if proof.status == "failed":
        raise typer.Exit(1)

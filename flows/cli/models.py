"""Commands about encoders: score, compare, plan, convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from flows.cli.command import Call, command
from flows.cli.environment import prepare_prefect
from flows.cli.output import print_json, print_table

if TYPE_CHECKING:
    from flows.request import RunRequest
    from llm2vec_core.serving.record import Format
    from tasks.run.reports import EvaluateReport

app = typer.Typer()

TasksDirOption = Annotated[
    list[Path] | None, typer.Option("--tasks-dir", help="Folder of evaluation task folders; may be repeated.")
]
TasksOption = Annotated[list[str] | None, typer.Option("--tasks", help="Only this task; may be repeated.")]
MaxItemsOption = Annotated[
    int | None, typer.Option("--max-items", min=10, help="Seeded subset of each task of the folders.")
]


@command(app)
def evaluate(
    call: Call,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option("--checkpoint", help="Fingerprint, directory, model name or bm25, with modes. May be repeated."),
    ] = None,
    tasks_dir: TasksDirOption = None,
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", help="Benchmark of mteb, or llm2vec-15; may be repeated.")
    ] = None,
    tasks: TasksOption = None,
    max_items: MaxItemsOption = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Encoder that the first --checkpoint is judged against, or: served.")
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit 3 when it is worse in a category, beyond chance and margin.")
    ] = False,
    mteb_results: Annotated[
        Path | None, typer.Option("--mteb-results", help="Write the results there in mteb's own format.")
    ] = None,
) -> None:
    """Score encoders side by side and write the report."""
    request = call.request(_evaluation_overrides(tasks_dir, benchmark, tasks, max_items))
    prepare_prefect(request)
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
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="Bundled name, directory or hub name.", show_default=False)
    ] = None,
    tasks_dir: TasksDirOption = None,
    tasks: TasksOption = None,
    max_items: MaxItemsOption = None,
    standardised: Annotated[bool, typer.Option("--standardised", help="Score standardised vectors, too.")] = False,
) -> None:
    """Train every attention and training of the recipe, and score all of them with every pooling."""
    chosen = {"train.base_model": base_model} if base_model else {}
    request = call.request({**chosen, **_evaluation_overrides(tasks_dir, None, tasks, max_items)})
    prepare_prefect(request)
    from flows.ablate import ablate as ablate_flow

    _show_evaluation(call, request, ablate_flow(request, standardised=standardised))


def _show_evaluation(call: Call, request: RunRequest, report: EvaluateReport) -> None:
    """Scores of an evaluation, and where its report is."""
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
    """Settings that the options of an evaluation ask for; where tasks are named by place, only those places count."""
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
    gpu: Annotated[str, typer.Option("--gpu", help="Name of the GPU, such as A100-80GB.")],
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="Bundled name, directory or hub name; the recipe's else.")
    ] = None,
    documents: Annotated[int, typer.Option("--documents", min=1, help="Documents to embed.")] = 100_000,
    tokens_per_document: Annotated[int, typer.Option("--tokens-per-document", min=1, help="Mean length.")] = 256,
    utilisation: Annotated[float, typer.Option("--utilisation", help="Share of the peak that is reached.")] = 0.4,
    price: Annotated[float | None, typer.Option("--price", min=0, help="Price of an hour of the GPU.")] = None,
) -> None:
    """Say what training and embedding will take, from the base model's configuration alone."""
    from llm2vec_core.planning.plan import plan_recipe, render_plan

    settings = call.request({"train.base_model": base_model} if base_model else {}).settings()
    recipe = settings.train
    planned = plan_recipe(
        recipe.base_model,
        recipe,
        gpu=gpu,
        num_documents=documents,
        tokens_per_document=tokens_per_document,
        embed_precision=settings.encode.precision,
        utilisation=utilisation,
        price_per_hour=price,
    )
    if call.as_json:
        print_json(planned.model_dump(mode="json"))
    else:
        print_table(f"{recipe.base_model} on {gpu}", ["", ""], render_plan(planned))


@command(app)
def convert(
    call: Call,
    to: Annotated[Path, typer.Option("--to", help="Directory to make.")],
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", help="Fingerprint, directory or model name, with modes; the served one else."),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Write an ONNX graph, too.")] = True,
    gguf: Annotated[bool, typer.Option("--gguf", help="Write a GGUF file for llama.cpp, too.")] = False,
    precision: Annotated[
        Literal["float32", "float16"],
        typer.Option("--precision", help="Of the weights; an ONNX graph always has float32."),
    ] = "float32",
) -> None:
    """Write an encoder as other runtimes serve it, and prove that they give the same vectors."""
    from llm2vec_core.serving.record import describe
    from tasks.queries.convert import convert_encoder

    chosen: dict[Format, bool] = {"onnx": onnx, "gguf": gguf}
    formats = [name for name, is_chosen in chosen.items() if is_chosen]
    conversion = convert_encoder(call.request().settings(), checkpoint, to=to, formats=formats, precision=precision)
    if call.as_json:
        print_json({**conversion.model_dump(), "path": str(to.resolve())})
        return
    print_table(f"{conversion.label} in {to}", [""], [(describe(proof),) for proof in conversion.proofs])


@command(app)
def prove(
    call: Call,
    directory: Annotated[Path, typer.Argument(help="What `l2v convert` wrote.")],
    url: Annotated[str, typer.Option("--url", help="Its embeddings endpoint, as http://localhost:8000/v1/embeddings.")],
    runtime: Annotated[str, typer.Option("--runtime", help="What the server is called, such as vllm.")],
) -> None:
    """Hold a running server against the converted encoder that it serves; exit 1 when its vectors are others."""
    from llm2vec_core.serving.record import describe
    from tasks.queries.convert import prove_server

    call.request()
    proof = prove_server(directory, url=url, runtime=runtime)
    if call.as_json:
        print_json(proof.model_dump())
    else:
        print_table(str(directory), [""], [(describe(proof),)])
    if proof.status == "failed":
        raise typer.Exit(1)

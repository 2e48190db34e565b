"""The ``l2v`` command line: arguments in, a flow or an interactive call, a table or one JSON object out.

Exit codes: 0 done; 1 the run failed; 2 the caller's mistake, nothing changed; 3 refused to protect what is served.
With ``--json`` stdout holds exactly one JSON object, errors included; progress goes to stderr.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table
from typer.exceptions import TyperException

import data.errors
import llm2vec_core.errors
from data.store.credentials import mask_credentials
from flows.request import Profile, RunRequest
from tasks.run.settings import SettingsError, make_source
from tasks.ui.console import STDERR

if TYPE_CHECKING:
    from llm2vec_core.serving.record import Format
    from tasks.run.reports import EvaluateReport

app = typer.Typer(
    name="l2v",
    help="Turn a decoder-only language model into a text encoder, and keep jobs and resumes embedded and matched.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
generations_app = typer.Typer(help="What was embedded, and what is served.", no_args_is_help=True)
app.add_typer(generations_app, name="generations")

_CALLERS_MISTAKES = (data.errors.InputError, llm2vec_core.errors.InputError, SettingsError)
_REFUSED = 3
_PACKAGES = ("flows", "tasks", "llm2vec_core", "data")

ProfileOption = Annotated[Profile, typer.Option("--profile", help="Named settings that everything is laid over.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Your l2v.toml; ./l2v.toml when there is one.", show_default=False)
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
KindOption = Annotated[Literal["job", "resume"], typer.Option("--kind", help="Kind of the documents.")]
TasksDirOption = Annotated[
    list[Path] | None, typer.Option("--tasks-dir", help="Folder of evaluation task folders; may be repeated.")
]
TasksOption = Annotated[list[str] | None, typer.Option("--tasks", help="Only this task; may be repeated.")]
MaxItemsOption = Annotated[
    int | None, typer.Option("--max-items", min=10, help="Seeded subset of each task of the folders.")
]

AllowShrinkOption = Annotated[
    list[str] | None,
    typer.Option("--allow-shrink", metavar="SOURCE", help="Confirm that a source lost documents; may be repeated."),
]
WaitOption = Annotated[
    float | None, typer.Option("--wait", metavar="SECONDS", min=0, help="Wait for another writer so long.")
]


@dataclass(frozen=True)
class _Call:
    """The options that every command takes."""

    profile: ProfileOption = "demo"
    config: ConfigOption = None
    set_: SetOption = None
    as_json: JsonOption = False

    def request(self, overrides: dict[str, Any] | None = None) -> RunRequest:
        """The request of this call; settings are validated at once, before anything else happens."""
        chosen: dict[str, Any] = {}
        for pair in self.set_ or []:
            key, separator, value = pair.partition("=")
            if not separator:
                raise SettingsError(
                    f"'{pair}' is no setting.", hint="Write --set key=value, as in train.mntp.steps=100."
                )
            chosen[key.strip()] = value.strip()
        path = self.config or (Path("l2v.toml") if Path("l2v.toml").is_file() else None)
        request = RunRequest(
            profile=self.profile,
            config=str(path.resolve()) if path else None,
            overrides={**chosen, **(overrides or {})},
        )
        request.settings()
        return request


def _command(application: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command: its own options, then those of :class:`_Call`, which it gets as ``call``."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def command(**options: Any) -> None:  # noqa: ANN401 - whatever the command declares
            call = _Call(**{field.name: options.pop(field.name) for field in fields(_Call)})
            function(call, **options)

        hints = get_type_hints(function, include_extras=True) | get_type_hints(_Call, include_extras=True)
        _, *own = inspect.signature(function).parameters.values()
        shared = inspect.signature(_Call).parameters.values()
        parameters = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*own, *shared)
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        application.command(name)(command)
        return function

    return register


@_command(app)
def nightly(call: _Call, allow_shrink: AllowShrinkOption = None, wait: WaitOption = None) -> None:
    """Run the whole chain: ingest, train, evaluate, embed, match, export."""
    request = call.request(_writing_overrides(allow_shrink, wait))
    _prepare_prefect(request)
    from flows.nightly import night_rows
    from flows.nightly import nightly as nightly_flow

    report = nightly_flow(request)
    if call.as_json:
        _print_json(report.summary())
        _exit_refused(report.refusal)
        return
    rows = [(stage, what, f"{seconds:,.1f}") for stage, what, seconds in night_rows(report)]
    _print_table(f"Night {report.run_id}: {report.seconds:,.1f} s", ["stage", "what it did", "seconds"], rows)
    made = [
        ("serving", f"{report.embedded.generation} (checkpoint {report.embedded.checkpoint[:12]})"),
        ("report", report.report_path),
        ("exports", report.exported.path),
        ("home", request.settings().home_location),
    ]
    if report.refusal:
        made.append(("refused", f"{report.refusal} The night went on with the served encoder."))
    _print_table("What was made, and where", ["", ""], made)
    _exit_refused(report.refusal)


def _writing_overrides(allow_shrink: list[str] | None, wait: float | None) -> dict[str, Any]:
    """Settings that the options of a run that writes ask for."""
    overrides: dict[str, Any] = {}
    if allow_shrink:
        overrides["ingest.allow_shrink"] = allow_shrink
    if wait is not None:
        overrides["lease.wait_s"] = wait
    return overrides


def _exit_refused(refusal: str | None) -> None:
    """Say with the exit code that a gate defended what is served, although the night went on."""
    if refusal:
        raise typer.Exit(_REFUSED)


@_command(app)
def ingest(
    call: _Call,
    kind: KindOption,
    source: Annotated[str, typer.Option("--source", help="File, folder or glob; or bundled:sample.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the source; its file or folder name else.")
    ] = None,
    id_field: Annotated[str, typer.Option("--id-field", help="Field that holds the id.")] = "id",
    title_field: Annotated[str, typer.Option("--title-field", help="Field that holds the title.")] = "title",
    text_field: Annotated[
        str | None, typer.Option("--text-field", help="Field that holds the text; 'text', else 'description'.")
    ] = None,
    allow_shrink: AllowShrinkOption = None,
    wait: WaitOption = None,
) -> None:
    """Read one source; its documents replace those of its former ingest."""
    request = call.request(_writing_overrides(allow_shrink, wait))
    read = make_source(kind=kind, path=source, id_field=id_field, title_field=title_field, text_field=text_field)
    _prepare_prefect(request)
    from flows.ingest import ingest as ingest_flow

    source_name = name or re.sub(r"\W+", "-", Path(source).stem).strip("-") or "source"
    (report,) = ingest_flow(request, kind=kind, sources={source_name: read})
    result = report.model_dump(exclude={"kind", "seconds"})
    _show(result, as_json=call.as_json, title=report.sentence())


@_command(app)
def train(
    call: _Call,
    stage: Annotated[
        Literal["mntp", "simcse", "supervised", "all"],
        typer.Option("--stage", help="Only this; all of the recipe else."),
    ] = "all",
    base_model: Annotated[str | None, typer.Option("--base-model", help="Bundled name, directory or hub name.")] = None,
) -> None:
    """Train the recipe on the newest snapshots; a killed run goes on from its last save."""
    overrides: dict[str, Any] = {}
    if stage != "all":
        overrides["train.stages"] = [stage]
    if base_model is not None:
        overrides["train.base_model"] = base_model
    request = call.request(overrides)
    _prepare_prefect(request)
    from flows.train import train as train_flow

    report = train_flow(request, newest=True)
    _show(report.model_dump(), as_json=call.as_json, title=report.sentence())


@_command(app)
def embed(
    call: _Call,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="Fingerprint; the served one when not given.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Encode everything again.")] = False,
    engine: Annotated[Literal["local", "ray"] | None, typer.Option("--engine", help="Where to encode.")] = None,
) -> None:
    """Encode what changed and serve it."""
    request = call.request({"encode.engine": engine} if engine else {})
    _prepare_prefect(request)
    from flows.embed import embed as embed_flow
    from tasks.encoders.checkpoints import find_checkpoint
    from tasks.queries.search import served

    store = request.settings().store()
    fingerprint = find_checkpoint(store, checkpoint).fingerprint if checkpoint else served(store).checkpoint
    report = embed_flow(fingerprint, request, full=full)
    _show(report.model_dump(), as_json=call.as_json, title=report.sentence())


@_command(app)
def search(
    call: _Call,
    text: Annotated[str, typer.Argument(help="What to look for.")],
    table: Annotated[Literal["jobs", "resumes"], typer.Option("--in", help="Where to look.")] = "jobs",
    mode: Annotated[
        Literal["hybrid", "dense", "lexical"], typer.Option("--mode", help="Which legs to use.")
    ] = "hybrid",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Number of documents.")] = 10,
    where: Annotated[str | None, typer.Option("--where", help="SQL filter, applied before ranking.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each leg said.")] = False,
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", help="Insist on this checkpoint.")] = None,
) -> None:
    """Search what is served."""
    from tasks.queries.search import search as search_served

    settings = call.request().settings()
    kind: Literal["job", "resume"] = "job" if table == "jobs" else "resume"
    hits = search_served(settings, text, kind=kind, mode=mode, limit=limit, where=where, checkpoint=checkpoint)
    if call.as_json:
        _print_json({"hits": hits})
        return
    columns = ["rank", "title", "id", "score"] + (["dense", "lexical", "matched terms"] if explain else [])
    rows = [
        [
            *(_cell(hit[name]) for name in ("rank", "title", "source_id", "score")),
            *([_leg(hit, "dense"), _leg(hit, "lexical"), _cell(hit["matched_terms"])] if explain else []),
        ]
        for hit in hits
    ]
    _print_table(f"{len(hits)} {table}", columns, rows)


@_command(app)
def explain(
    call: _Call,
    job: Annotated[str, typer.Option("--job", help="doc_id, or id in its source, of a served job.")],
    resume: Annotated[list[str], typer.Option("--resume", help="The same of a served resume; may be repeated.")],
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", help="Insist on this checkpoint.")] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page there, too; erasing cannot reach it."),
    ] = None,
) -> None:
    """Say why a served job and resume match: words, sentences, legs, and the skills that are missing."""
    from tasks.queries.explain import explain as explain_pair
    from tasks.queries.explain import explanation_page, explanation_tables

    settings = call.request().settings()
    explanations = [explain_pair(settings, job=job, resume=each, checkpoint=checkpoint) for each in resume]
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(explanation_page(explanations), encoding="utf-8")
    if call.as_json:
        _print_json(explanations[0] if len(explanations) == 1 else {"explanations": explanations})
        return
    for found in explanations:
        for title, columns, rows in explanation_tables(found):
            _print_table(title, columns, rows)


@_command(app)
def match(call: _Call) -> None:
    """Rank resumes for every job, and jobs for every resume."""
    request = call.request()
    _prepare_prefect(request)
    from flows.match import match as match_flow

    report = match_flow(request)
    path = request.settings().store().location(f"matches/{report.match}")
    _show({**report.model_dump(), "path": path}, as_json=call.as_json, title=report.sentence())


@_command(app)
def evaluate(
    call: _Call,
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
    _prepare_prefect(request)
    from flows.evaluate import evaluate as evaluate_flow

    report = evaluate_flow(
        request,
        checkpoints=checkpoint or None,
        against=against,
        gate=gate,
        mteb_results=str(mteb_results.resolve()) if mteb_results else None,
    )
    _show_evaluation(call, request, report)


@_command(app)
def ablate(
    call: _Call,
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
    _prepare_prefect(request)
    from flows.ablate import ablate as ablate_flow

    _show_evaluation(call, request, ablate_flow(request, standardised=standardised))


def _show_evaluation(call: _Call, request: RunRequest, report: EvaluateReport) -> None:
    """Scores of an evaluation, and where its report is."""
    from tasks.encoders.evaluation_reports import report_location

    path = report_location(request.settings().store(), report.report, "html")
    if call.as_json:
        findings = {"reason": report.reason, "findings": report.findings, "refused": report.refused}
        counts = {"computed": report.computed, "reused": report.reused, "seconds": report.seconds}
        _print_json({"systems": report.systems, "report": path, **findings, **counts})
        return
    rows = report.score_rows()
    _print_table(f"Report: {path}", list(rows[0]) if rows else [], [row.values() for row in rows])
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


@_command(app)
def export(
    call: _Call,
    to: Annotated[str | None, typer.Option("--to", help="Directory or URI; exports/ of the home else.")] = None,
) -> None:
    """Publish documents, matches and evaluation results as Parquet."""
    request = call.request({"export.to": to if "://" in to else str(Path(to).resolve())} if to else {})
    _prepare_prefect(request)
    from flows.export import export as export_flow

    report = export_flow(request)
    _show(report.model_dump(), as_json=call.as_json, title=report.sentence())


@_command(app)
def backfill(
    call: _Call,
    since: Annotated[datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="First day.")] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="First day that is not meant any more.")
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only documents of this source.")] = None,
    date_field: Annotated[
        str | None,
        typer.Option(
            "--date-field", help="Field of the documents that holds their date; else when they were ingested."
        ),
    ] = None,
    wait: WaitOption = None,
) -> None:
    """Encode documents again although nothing about them changed; a killed one goes on where it stopped."""
    if since is None and until is None and source is None:
        raise SettingsError(
            "Nothing says which documents are meant.",
            hint="Pass --since, --until or --source; `l2v embed --full` encodes everything again.",
        )
    request = call.request(_writing_overrides(None, wait))
    _prepare_prefect(request)
    from flows.backfill import backfill as backfill_flow
    from tasks.stages.backfill import BackfillRequest

    meant = BackfillRequest(
        since=since.date() if since else None,
        until=until.date() if until else None,
        source=source,
        date_field=date_field,
    )
    report = backfill_flow(meant, request)
    _show(report.model_dump(), as_json=call.as_json, title=report.sentence())


@_command(app)
def erase(
    call: _Call,
    doc_id: Annotated[list[str], typer.Option("--doc-id", help="Document to erase; may be repeated.")],
    former_versions: Annotated[
        bool,
        typer.Option(
            "--former-versions",
            help="In a bucket that keeps them: remove all former versions below the home, for good.",
        ),
    ] = False,
) -> None:
    """Remove a person's documents from everything at rest, and prove it."""
    from tasks.queries.erase import erase as erase_documents

    report = erase_documents(call.request().settings(), doc_id, former_versions=former_versions)
    _show(report.model_dump(), as_json=call.as_json, title=report.sentence())


@_command(app)
def convert(
    call: _Call,
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
        _print_json({**conversion.model_dump(), "path": str(to.resolve())})
        return
    _print_table(f"{conversion.label} in {to}", [""], [(describe(proof),) for proof in conversion.proofs])


@_command(app)
def prove(
    call: _Call,
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
        _print_json(proof.model_dump())
    else:
        _print_table(str(directory), [""], [(describe(proof),)])
    if proof.status == "failed":
        raise typer.Exit(1)


@_command(app)
def maintain(call: _Call, wait: WaitOption = None) -> None:
    """Compact what is served, and remove what neither it, a rollback nor a reader needs."""
    request = call.request(_writing_overrides(None, wait))
    _prepare_prefect(request)
    from flows.maintain import maintain as maintain_flow

    report = maintain_flow(request)
    if call.as_json:
        _print_json({**report.model_dump(), "failed": report.failed})
    else:
        rows = [(step.step, f"{step.count:,}", f"{step.freed_bytes:,}", step.error) for step in report.steps]
        _print_table(report.sentence(), ["step", "objects", "bytes freed", "error"], rows)
    if report.failed:
        raise typer.Exit(1)


@_command(app)
def plan(
    call: _Call,
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
        _print_json(planned.model_dump(mode="json"))
    else:
        _print_table(f"{recipe.base_model} on {gpu}", ["", ""], render_plan(planned))


@_command(app)
def status(call: _Call) -> None:
    """Show what is served, how fresh it is, what the last night did, and what needs a look."""
    from tasks.queries.status import status as read_status
    from tasks.queries.status import status_rows

    state = read_status(call.request().settings())
    if call.as_json:
        _print_json(state)
    else:
        _print_table("Status", ["", ""], status_rows(state))


@_command(app)
def trace(
    call: _Call,
    doc_id: Annotated[str, typer.Option("--doc-id", help="Id of the document: 32 hex digits.")],
) -> None:
    """Follow a served document back to run, checkpoint, training data, report and source."""
    from tasks.queries.trace import trace as trace_document
    from tasks.queries.trace import trace_rows

    found = trace_document(call.request().settings(), doc_id)
    if call.as_json:
        _print_json(found)
    else:
        _print_table(f"Document {doc_id}", ["", ""], trace_rows(found))


@_command(app)
def automations(
    call: _Call,
    webhook: Annotated[
        str | None,
        typer.Option(
            "--webhook",
            envvar="LLM2VEC_WEBHOOK",
            help="URL that alerts are posted to; without one nobody is told.",
        ),
    ] = None,
) -> None:
    """Create the alerts and restarts of nights on the Prefect server; those of a former call are replaced."""
    call.request()
    if "PREFECT_API_URL" not in os.environ:
        raise SettingsError(
            "There is no Prefect server to create automations on.", hint="Set PREFECT_API_URL; see docs/operate.md."
        )
    from flows.automations import AutomationSettings, apply_automations

    names = apply_automations(AutomationSettings(webhook=SecretStr(webhook) if webhook else None))
    if call.as_json:
        _print_json({"automations": names})
    else:
        _print_table("Automations", [""], [(name,) for name in names])


@_command(generations_app, "list")
def list_generations(call: _Call) -> None:
    """List generations, oldest first."""
    from tasks.queries.status import generations

    found = generations(call.request().settings())
    if call.as_json:
        _print_json({"generations": found})
        return
    rows = [
        (each["generation"], str(each["checkpoint"])[:12], each["created_at"], "served" if each["served"] else "")
        for each in found
    ]
    _print_table("Generations", ["generation", "checkpoint", "created", ""], rows)


@_command(generations_app, "promote")
def promote_generation(
    call: _Call,
    generation: Annotated[str, typer.Argument(help="Name of the generation.")],
) -> None:
    """Serve a generation as it was served last."""
    from tasks.queries.promotion import promote

    pointer = promote(call.request().settings(), generation)
    _show(pointer.model_dump(mode="json"), as_json=call.as_json, title=f"Serving {pointer.generation}")


@_command(generations_app, "rollback")
def rollback_generation(call: _Call) -> None:
    """Serve what was served before."""
    from tasks.queries.promotion import rollback

    pointer = rollback(call.request().settings())
    _show(pointer.model_dump(mode="json"), as_json=call.as_json, title=f"Serving {pointer.generation}")


def main() -> None:
    """Entry point of ``l2v``. Being told to end (SIGTERM) is being interrupted: what a run holds is given back."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code."""
    as_json = "--json" in arguments
    _configure_logging()
    try:
        result = app(arguments, standalone_mode=False)
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        return _fail("Interrupted.", "", code=1, as_json=as_json)
    except TyperException as error:
        message = error.format_message().replace("Value error, ", "")
        return _fail(message, "`l2v --help` lists commands and options.", code=2, as_json=as_json)
    except _CALLERS_MISTAKES as error:
        return _fail(str(error), error.hint, code=2, as_json=as_json)
    except data.errors.RefusedError as error:
        checks = [check.model_dump() for check in getattr(error, "checks", ())]
        details = {"refused": str(error), **({"gates": checks} if checks else {})}
        return _fail(str(error), error.hint, code=_REFUSED, as_json=as_json, details=details)
    except (data.errors.DataError, llm2vec_core.errors.CoreError) as error:
        return _fail(str(error), error.hint, code=1, as_json=as_json)
    except KeyboardInterrupt:
        return _fail(
            "Interrupted.", "Run the same command again: it goes on where it stopped.", code=1, as_json=as_json
        )
    except Exception as error:
        logging.getLogger(__name__).debug("unexpected", exc_info=True)
        if _is_without_answer(error):
            return _fail(f"The Prefect server does not answer ({error}).", _lost_server_hint(), code=1, as_json=as_json)
        hint = "Set LLM2VEC_DEBUG=1 for the traceback; please report it as a bug."
        return _fail(f"{type(error).__name__}: {error}", hint, code=1, as_json=as_json)
    return result if isinstance(result, int) else 0


def _is_without_answer(error: BaseException) -> bool:
    """Whether a request got no answer: the server is not there, or went away with a run that was being stopped."""
    httpx = sys.modules.get("httpx")  # Prefect's, once it is in use
    causes = (error, error.__cause__)
    return httpx is not None and any(isinstance(each, httpx.TransportError) for each in causes)


def _lost_server_hint() -> str:
    again = "Run the same command again: it goes on where it stopped."
    url = os.environ.get("PREFECT_API_URL")
    if url is None:
        return f"The embedded one ends when a run is stopped. {again}"
    return f"See that it is up at {mask_credentials(url)}, or unset PREFECT_API_URL to use the embedded one. {again}"


def _prepare_prefect(request: RunRequest) -> None:
    """Environment of the embedded server, set before prefect is imported; what the user set stands."""
    if "PREFECT_API_URL" not in os.environ:
        embedded = request.settings().store().machine.local_path("prefect")
        embedded.mkdir(exist_ok=True)
        os.environ.setdefault("PREFECT_HOME", str(embedded))
        if not os.environ.get("LLM2VEC_DEBUG"):  # an error is told once, in one sentence, and not by tracebacks before
            os.environ.setdefault("PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL", "CRITICAL")
            os.environ.setdefault("PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL", "CRITICAL")
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(_PACKAGES),
        "DO_NOT_TRACK": "1",
    }.items():
        os.environ.setdefault(name, value)


def _configure_logging() -> None:
    """Our packages at INFO on stderr; libraries only when something is wrong."""
    handler: logging.Handler
    if STDERR.is_terminal:
        handler = RichHandler(console=STDERR, show_path=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    level = logging.DEBUG if os.environ.get("LLM2VEC_DEBUG") else logging.INFO
    for name in _PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = [handler]
        logger.propagate = False
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' own bars; ours are rich
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # processes are forked after a tokenizer was used
    if not os.environ.get("LLM2VEC_DEBUG"):
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # between libraries
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # an unreadable PDF is in the quarantine already


def _fail(message: str, hint: str, *, code: int, as_json: bool, details: dict[str, Any] | None = None) -> int:
    message = mask_credentials(message)
    if as_json:
        _print_json({"error": message, "hint": hint, **(details or {})})
    sys.stderr.write(f"l2v: {message}{' ' + hint if hint else ''}\n")
    return code


def _show(result: dict[str, Any], *, as_json: bool, title: str) -> None:
    if as_json:
        _print_json(result)
    else:
        _print_table(title, ["", ""], [(name, _cell(value)) for name, value in result.items()])


def _print_json(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result, default=str) + "\n")


def _print_table(title: str, columns: list[str], rows: Any) -> None:  # noqa: ANN401 - rows of cells
    table = Table(title=escape(title), title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(
            column, justify="right" if column in ("seconds", "main score", "95 % interval", "rank") else "left"
        )
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    Console().print(table)


def _leg(hit: dict[str, Any], leg: str) -> str:
    """What a leg said of a hit: its score and, behind #, its rank."""
    score, rank = hit[f"{leg}_score"], hit[f"{leg}_rank"]
    return "" if rank is None else f"{score:.2f} #{rank}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value[:6])
    return "" if value is None else str(value)

"""Commands that run the pipeline: a whole night, or one stage."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.command import (
    AllowShrinkOption,
    BaseModelOption,
    Call,
    PreviewOption,
    WaitOption,
    command,
    writing_overrides,
)
from flows.cli.environment import prepare_prefect
from flows.cli.output import REFUSED, print_json, print_table, show
from flows.cli.preview import show_night, without_prefect_home
from llm2vec_core.model.modes import Stage
from tasks.errors import SettingsError

if TYPE_CHECKING:
    from data.config import SourceConfig
    from data.documents.preview import SourcePreview

app = typer.Typer()

_PREVIEW_CHARS = 1000
KindOption = Annotated[Literal["job", "resume"], typer.Option("--kind", help="Kind of documents.")]


@command(app)
def nightly(
    call: Call, allow_shrink: AllowShrinkOption = None, wait: WaitOption = None, preview: PreviewOption = False
) -> None:
    """Run the whole chain: ingest, train, evaluate, embed, match, export."""
    request = call.request(writing_overrides(allow_shrink, wait))
    if preview:
        with without_prefect_home():
            from tasks.preview.night import preview_night

            show_night(preview_night(request.settings()), as_json=call.as_json)
        return
    prepare_prefect(request, "nightly")
    from flows.nightly import night_rows
    from flows.nightly import nightly as nightly_flow

    report = nightly_flow(request)
    if call.as_json:
        print_json(report.summary())
        _exit_refused(report.refusal)
        return
    rows = [(stage, what, f"{seconds:,.1f}") for stage, what, seconds in night_rows(report)]
    print_table(f"Night {report.run_id}: {report.seconds:,.1f} s", ["stage", "what it did", "seconds"], rows)
    made = [
        ("serving", f"{report.embedded.generation} (checkpoint {report.embedded.checkpoint[:12]})"),
        ("report", report.report_path),
        ("exports", report.exported.path),
        ("home", request.settings().home_location),
    ]
    if report.refusal:
        made.append(("refused", f"{report.refusal} The night continued with the served encoder."))
    print_table("Results", ["", ""], made)
    _exit_refused(report.refusal)


def _exit_refused(refusal: str | None) -> None:
    """Exit with code 3 if a gate refused a new encoder, even though the night finished."""
    if refusal:
        raise typer.Exit(REFUSED)


@command(app)
def ingest(
    call: Call,
    kind: KindOption,
    source: Annotated[str, typer.Option("--source", help="File, folder or glob, or bundled:sample.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the source (default: the file or folder name).")
    ] = None,
    id_field: Annotated[
        str, typer.Option("--id-field", help="Field that holds the id; '#row' or '#content' if there is none.")
    ] = "id",
    title_field: Annotated[str, typer.Option("--title-field", help="Field that holds the title.")] = "title",
    text_field: Annotated[
        str | None,
        typer.Option("--text-field", help="Field that holds the text (default: 'text', then 'description')."),
    ] = None,
    source_format: Annotated[
        str | None,
        typer.Option("--format", help="Known format of the records, such as json-resume or greenhouse."),
    ] = None,
    records: Annotated[
        str | None, typer.Option("--records", help="Path to the records of a JSON file, or name of an XML element.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Encoding of text files (default: detected).")
    ] = None,
    separator: Annotated[
        str | None, typer.Option("--separator", help="Separator of CSV cells (default: detected).")
    ] = None,
    mode: Annotated[
        Literal["replace", "newest"],
        typer.Option("--mode", help="Read all files as one delivery, or dated files of which the newest row counts."),
    ] = "replace",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show how the source would be read; write nothing.")
    ] = False,
    allow_shrink: AllowShrinkOption = None,
    wait: WaitOption = None,
) -> None:
    """Read one source. Its documents replace those of its previous ingest."""
    request = call.request(writing_overrides(allow_shrink, wait))
    from tasks.run.settings import make_source

    read = make_source(
        kind=kind,
        path=source,
        id_field=id_field,
        title_field=title_field,
        text_field=text_field,
        format=source_format,
        records=records,
        encoding=encoding,
        separator=separator,
        mode=mode,
    )
    if dry_run:
        _show_preview(call, read)
        return
    prepare_prefect(request, "ingest")
    from flows.ingest import ingest as ingest_flow

    source_name = name or re.sub(r"\W+", "-", Path(source).stem).strip("-") or "source"
    (report,) = ingest_flow(request, kind=kind, sources={source_name: read})
    result = report.model_dump(exclude={"kind", "seconds"})
    show(result, as_json=call.as_json, title=report.sentence())


def _show_preview(call: Call, source: SourceConfig) -> None:
    """Print how a source would be read."""
    from data.documents.preview import preview_source

    settings = call.request({}).settings()
    preview = preview_source(source, clean=settings.clean, redact=settings.redact, ocr=settings.ingest.ocr)
    fault = preview.refused
    if call.as_json:
        print_json({**({"error": fault.error, "hint": fault.hint} if fault else {}), **preview.model_dump()})
    else:
        _print_preview(source, preview)
    if fault is not None:
        sys.stderr.write(f"l2v: {fault.error} {fault.hint}\n")
        raise typer.Exit(2)


def _print_preview(source: SourceConfig, preview: SourcePreview) -> None:
    """Print the files of a refused source and the proposed settings; then the rows."""
    for each in preview.refused.files if preview.refused is not None else ():
        lines = [("format", each.format), ("encoding", each.encoding or ""), ("begins", "\n".join(each.first_lines))]
        print_table(each.file, ["", ""], [line for line in lines if line[1]])
    if preview.refused is not None and preview.refused.proposed:
        proposed = [(name, json.dumps(value)) for name, value in preview.refused.proposed.items()]
        print_table(f"{source.path} is refused; proposed settings of the source", ["", ""], proposed)
    elif preview.refused is not None:
        return
    facts = [(name, _listed(getattr(preview, name))) for name in ("formats", "fields", "notes", "marks", "skipped")]
    counted = f"{preview.rows_kept:,} of {preview.rows_in:,} rows would be kept"
    facts += [("quarantine", _listed(preview.quarantine_reasons))]
    print_table(f"{source.path}: {counted}; nothing was written", ["", ""], [fact for fact in facts if fact[1]])
    for document in preview.documents:
        rows = [("title", document.title), ("text", document.text[:_PREVIEW_CHARS]), ("metadata", document.metadata)]
        print_table(f"Document {document.id}", ["", ""], rows)
    if preview.rejected:
        lost = [(each.file, each.row, each.reason, each.detail) for each in preview.rejected]
        print_table("First rows that would be quarantined", ["file", "row", "reason", "detail"], lost)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


@command(app)
def train(
    call: Call,
    stage: Annotated[
        Literal[Stage, "all"],
        typer.Option("--stage", help="Train one stage (default: all).", show_default=False),
    ] = "all",
    base_model: BaseModelOption = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="TOML file with a table [train], and [judgments] if it needs some."),
    ] = None,
) -> None:
    """Train the recipe on the newest snapshots. A killed run resumes from its last save."""
    overrides: dict[str, Any] = {}
    if stage != "all":
        overrides["train.stages"] = [stage]
    if base_model is not None:
        overrides["train.base_model"] = base_model
    request = call.request(overrides, recipe=recipe)
    prepare_prefect(request, "train")
    from flows.train import train as train_flow

    report = train_flow(request, newest=True)
    show(report.model_dump(), as_json=call.as_json, title=report.sentence())


@command(app)
def embed(
    call: Call,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="Fingerprint of the checkpoint (default: the served one).")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Encode every document again.")] = False,
    engine: Annotated[
        Literal["local", "ray"] | None,
        typer.Option("--engine", help="Encode in this process (local) or on a Ray cluster."),
    ] = None,
    preview: PreviewOption = False,
) -> None:
    """Encode new and changed documents, and serve them."""
    request = call.request({"encode.engine": engine} if engine else {})
    if preview:
        with without_prefect_home():
            from tasks.preview.night import preview_embed

            show_night(preview_embed(request.settings(), checkpoint, full=full), as_json=call.as_json)
        return
    prepare_prefect(request, "embed")
    from flows.embed import embed as embed_flow
    from tasks.encoders.checkpoints import find_checkpoint
    from tasks.queries.served import served

    store = request.settings().store()
    fingerprint = find_checkpoint(store, checkpoint).fingerprint if checkpoint else served(store).checkpoint
    report = embed_flow(fingerprint, request, full=full)
    show(report.model_dump(), as_json=call.as_json, title=report.sentence())


@command(app)
def match(
    call: Call,
    where: Annotated[
        str | None, typer.Option("--where", help="SQL filter of the jobs to match (default: match.where.job).")
    ] = None,
    where_resumes: Annotated[
        str | None,
        typer.Option("--where-resumes", help="SQL filter of the resumes to match (default: match.where.resume)."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="Match in this process (local) or on a Ray cluster (ray).")
    ] = None,
) -> None:
    """Rank resumes for every job and jobs for every resume."""
    filters = {"match.where.job": where, "match.where.resume": where_resumes, "match.engine": engine}
    # as JSON strings, which are TOML strings: a filter such as `true` stays a text
    request = call.request({key: json.dumps(value) for key, value in filters.items() if value is not None})
    prepare_prefect(request, "match")
    from flows.match import match as match_flow

    report = match_flow(request)
    path = request.settings().store().location(f"matches/{report.match}")
    show({**report.model_dump(), "path": path}, as_json=call.as_json, title=report.sentence())


@command(app)
def export(
    call: Call,
    to: Annotated[str | None, typer.Option("--to", help="Directory or URI (default: exports/ in the home).")] = None,
) -> None:
    """Publish documents, matches and evaluation results as Parquet."""
    request = call.request({"export.to": to if "://" in to else str(Path(to).resolve())} if to else {})
    prepare_prefect(request, "export")
    from flows.export import export as export_flow

    report = export_flow(request)
    show(report.model_dump(), as_json=call.as_json, title=report.sentence())


@command(app)
def backfill(
    call: Call,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="Start date (inclusive).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="End date (exclusive).")
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only documents of this source.")] = None,
    date_field: Annotated[
        str | None,
        typer.Option(
            "--date-field", help="Document field that holds the date (default: when the document was ingested)."
        ),
    ] = None,
    wait: WaitOption = None,
    preview: PreviewOption = False,
) -> None:
    """Encode unchanged documents again. A killed backfill resumes where it stopped."""
    if since is None and until is None and source is None:
        raise SettingsError(
            "No documents are selected.",
            hint="Pass --since, --until or --source. `l2v embed --full` encodes every document again.",
        )
    request = call.request(writing_overrides(None, wait))
    chosen = {
        "since": since.date() if since else None,
        "until": until.date() if until else None,
        "source": source,
        "date_field": date_field,
    }
    if preview:
        with without_prefect_home():
            from tasks.preview.night import preview_backfill
            from tasks.stages.backfill import BackfillRequest

            found = preview_backfill(request.settings(), BackfillRequest.model_validate(chosen))
        show_night(found, as_json=call.as_json)
        return
    prepare_prefect(request, "backfill")
    from flows.backfill import backfill as backfill_flow
    from tasks.stages.backfill import BackfillRequest

    meant = BackfillRequest.model_validate(chosen)
    report = backfill_flow(meant, request)
    show(report.model_dump(), as_json=call.as_json, title=report.sentence())

"""Commands that administer a home: generations, maintenance, erasure, alerts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.command import Call, PreviewOption, WaitOption, command, writing_overrides
from flows.cli.environment import prepare_prefect
from flows.cli.output import cell, print_json, print_table, show
from flows.cli.preview import show_upkeep, without_prefect_home
from tasks.errors import SettingsError
from tasks.queries.server_api import is_embedded

app = typer.Typer()
generations_app = typer.Typer(
    help="List, promote and roll back generations: the tables that are or were served.", no_args_is_help=True
)
app.add_typer(generations_app, name="generations")


@command(app)
def maintain(call: Call, wait: WaitOption = None, preview: PreviewOption = False) -> None:
    """Compact the served tables and remove files that nothing needs any more."""
    request = call.request(writing_overrides(None, wait))
    if preview:
        with without_prefect_home():
            from tasks.preview.upkeep import preview_maintenance

            show_upkeep(preview_maintenance(request.settings()), as_json=call.as_json)
        return
    prepare_prefect(request, "maintain")
    from flows.maintain import maintain as maintain_flow

    report = maintain_flow(request)
    show(
        {**report.model_dump(), "failed": report.failed},
        as_json=call.as_json,
        title=report.sentence(),
        columns=["step", "objects", "bytes freed", "error"],
        rows=lambda: [(step.step, f"{step.count:,}", f"{step.freed_bytes:,}", step.error) for step in report.steps],
    )
    if report.failed:
        raise typer.Exit(1)


@command(app)
def doctor(
    call: Call,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", help="Also write checks, versions and settings (secrets masked) to this Markdown file."
        ),
    ] = None,
    prefect_file: Annotated[
        Path | None,
        typer.Option("--prefect-file", help="Deployments that the server should have (default: prefect.yaml)."),
    ] = None,
) -> None:
    """Check environment, Prefect server, disk, clock, store, base model and sources. Exits 1 if a check fails."""
    from tasks.doctor.environment import render_report
    from tasks.doctor.examine import examine

    found = examine(call.request().settings(), prefect_file=prefect_file)
    if report is not None:
        report.write_text(render_report(found), encoding="utf-8")
    if call.as_json:
        print_json({"healthy": found.is_healthy, **found.model_dump()})
    else:
        sys.stdout.write("\n".join([*found.lines(), found.sentence(), ""]))
    if not found.is_healthy:
        raise typer.Exit(1)


@command(app)
def erase(
    call: Call,
    doc_id: Annotated[list[str] | None, typer.Option("--doc-id", help="Document to erase. Can be repeated.")] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file", help="File that the document came from, named below its source's path. Can be repeated."
        ),
    ] = None,
    former_versions: Annotated[
        bool,
        typer.Option(
            "--former-versions",
            help="In a versioned bucket, also remove all older object versions below the home. Cannot be undone.",
        ),
    ] = False,
    preview: PreviewOption = False,
) -> None:
    """Remove a person's documents from all stored data, and verify the removal."""
    doc_ids, files, settings = doc_id or [], file or [], call.request().settings()
    if preview:
        with without_prefect_home():
            from tasks.preview.upkeep import preview_erasure

            show_upkeep(preview_erasure(settings, doc_ids, files=files), as_json=call.as_json)
        return
    from tasks.queries.erase import erase as erase_documents
    from tasks.ui.embedded import end_server

    end_server(settings.store().machine.local_path("prefect"))  # its database may name the documents
    report = erase_documents(settings, doc_ids, files=files, former_versions=former_versions)
    show(report.model_dump(), as_json=call.as_json, title=report.sentence())


@command(app)
def automations(
    call: Call,
    webhook: Annotated[
        str | None,
        typer.Option("--webhook", envvar="LLM2VEC_WEBHOOK", help="URL to post alerts to (default: no alerts)."),
    ] = None,
) -> None:
    """Create alerts and automatic restarts on the Prefect server. They replace all of earlier calls.

    With LLM2VEC_WEBHOOK_SECRET in the environment, alerts are signed.
    """
    call.request()
    if is_embedded():
        raise SettingsError(
            "There is no Prefect server to create automations on.", hint="Set PREFECT_API_URL; see docs/operate.md."
        )
    from pydantic import SecretStr

    from flows.server import AutomationSettings, apply_automations

    secret = os.environ.get("LLM2VEC_WEBHOOK_SECRET")
    names = apply_automations(
        AutomationSettings(
            webhook=SecretStr(webhook) if webhook else None, secret=SecretStr(secret) if secret else None
        )
    )
    show(
        {"automations": names},
        as_json=call.as_json,
        title="Automations",
        columns=[""],
        rows=lambda: [(name,) for name in names],
    )


@command(generations_app, "list")
def list_generations(call: Call) -> None:
    """List generations, oldest first, and the states that a rollback can go to."""
    from tasks.queries.states import former_states
    from tasks.queries.status import generations

    settings = call.request().settings()
    found, states = generations(settings), former_states(settings)
    if call.as_json:
        print_json({"generations": found, "states": states})
        return
    print_table(
        "Generations",
        ["generation", "checkpoint", "created", ""],
        [
            (each["generation"], str(each["checkpoint"])[:12], each["created_at"], "served" if each["served"] else "")
            for each in found
        ],
    )
    print_table(
        "States",
        ["rollbacks", "served since", "generation", "encoder", "jobs", "resumes", "run"],
        [
            (
                each["rollbacks"] or "served",
                each["promoted_at"],
                each["generation"],
                each["label"] or str(each["checkpoint"])[:12],
                *(cell(count) for count in each["documents"].values()),
                each["run_id"],
            )
            for each in states
        ],
    )


@command(app)
def checkpoints(call: Call) -> None:
    """List stored checkpoints, newest first, with the reasons why `l2v maintain` keeps them."""
    from tasks.queries.states import checkpoints as stored

    found = stored(call.request().settings())
    show(
        {"checkpoints": [each.model_dump(mode="json") for each in found]},
        as_json=call.as_json,
        title="Checkpoints",
        columns=["checkpoint", "encoder", "stored", "MB", "kept because"],
        rows=lambda: [
            (
                each.fingerprint[:12],
                each.label,
                f"{each.stored_at:%Y-%m-%d %H:%M}",
                f"{each.size_bytes / 1e6:,.1f}",
                "; ".join(each.kept_because) or "nothing: the next maintenance removes it",
            )
            for each in found
        ],
    )


@command(generations_app, "promote")
def promote_generation(
    call: Call,
    generation: Annotated[str, typer.Argument(help="Name of the generation.")],
) -> None:
    """Serve this generation again, in the state it was last served in."""
    from tasks.queries.promotion import promote

    pointer = promote(call.request().settings(), generation)
    show(pointer.model_dump(mode="json"), as_json=call.as_json, title=f"Serving {pointer.generation}")


@command(generations_app, "rollback")
def rollback_generation(call: Call) -> None:
    """Serve the previous state again."""
    from tasks.queries.promotion import rollback

    pointer = rollback(call.request().settings())
    show(pointer.model_dump(mode="json"), as_json=call.as_json, title=f"Serving {pointer.generation}")


@command(app)
def config(call: Call) -> None:
    """Show the effective settings, and where each one comes from. Secrets are masked."""
    from dataclasses import asdict

    from tasks.run.origins import effective_settings, settings_without_effect

    layers = call.request().layers()
    found, notes = effective_settings(layers), settings_without_effect(layers)
    show(
        {"settings": [asdict(each) for each in found], "notes": notes},
        as_json=call.as_json,
        title="Settings",
        columns=["setting", "value", "from"],
        rows=lambda: (
            [(each.key, json.dumps(each.value, ensure_ascii=False), each.origin) for each in found]
            + [("note", note, "") for note in notes]
        ),
    )

"""Commands that keep and show what people say about pairs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.command import Call, command
from flows.cli.output import cell, print_json, print_table, show
from tasks.errors import SettingsError

app = typer.Typer()

_KEYS = {"y": "yes", "n": "no", "u": "unsure"}


@command(app)
def judge(
    call: Call,
    job: Annotated[str | None, typer.Argument(help="Served job: its doc_id, or its id in the source.")] = None,
    resume: Annotated[str | None, typer.Argument(help="Served resume, likewise.")] = None,
    answer: Annotated[str | None, typer.Argument(metavar="[yes|no|unsure]", help="Whether the resume fits.")] = None,
    by: Annotated[str, typer.Option("--by", help="Name or initials of the person who judges.")] = "",
) -> None:
    """Say whether a resume fits a job. Without ids, pairs of the latest matches are shown one by one."""
    from data.outputs.feedback import ANSWERS
    from data.vectors.lance import import_without_pandas
    from tasks.queries.judge import judge as keep

    import_without_pandas()
    if not by.strip():
        raise SettingsError("Nobody judges: --by is missing.", hint="Pass --by with a name or initials.")
    settings = call.request().settings()
    if job is None:
        if call.as_json or not sys.stdin.isatty():
            raise SettingsError(
                "Pairs are shown one by one only in a terminal, without --json.",
                hint="Write l2v judge JOB RESUME yes --by NAME.",
            )
        _ask_for_pairs(settings, by)
        return
    if resume is None or answer not in ANSWERS:
        raise SettingsError(
            f"Found the answer '{answer or ''}'; expected a resume and one of {', '.join(ANSWERS)}.",
            hint="Write l2v judge JOB RESUME yes --by NAME.",
        )
    said = keep(settings, job=job, resume=resume, answer=answer, by=by)
    show(said.model_dump(mode="json"), as_json=call.as_json, title="Kept")


def _ask_for_pairs(settings: Any, by: str) -> None:  # noqa: ANN401 - settings are loaded on demand
    """Show pairs and ask, until the person stops or no pair is left."""
    from tasks.queries.explain import explain, explanation_tables, fit_sentence
    from tasks.queries.judge import judge as keep
    from tasks.queries.judge import pair_texts, unjudged_pairs

    for job, resume in unjudged_pairs(settings, by):
        texts = pair_texts(settings, job, resume)
        if texts is None:
            continue
        for title, text in texts:
            print_table(title, [""], [[text]])
        found = explain(settings, job=job, resume=resume)
        typer.echo(fit_sentence(found))
        _, _, *evidence = explanation_tables(found)
        for title, columns, rows in evidence:
            print_table(title, columns, rows)
        key = ""
        while key not in (*_KEYS, "s", "q"):
            key = typer.prompt("Does it fit? y(es), n(o), u(nsure), s(kip), q(uit)").strip().lower()[:1]
        if key == "q":
            return
        if key in _KEYS:
            keep(settings, job=job, resume=resume, answer=_KEYS[key], by=by)  # type: ignore[arg-type]
    typer.echo("No pair of the latest matches is left to judge.")


@command(app)
def judgments(
    call: Call,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            help="Also write judgments for training and an evaluation task to this new folder. `l2v erase` does not "
            "reach it.",
        ),
    ] = None,
) -> None:
    """Show who judged how many pairs, and how far people agree."""
    from data.vectors.lance import import_without_pandas
    from tasks.queries.judge import export_judgments, judgments_report

    import_without_pandas()
    settings = call.request().settings()
    report = judgments_report(settings)
    if export is not None:
        report["exported"] = export_judgments(settings, export)
    if call.as_json:
        print_json(report)
        return
    people = [[name, *(str(count) for count in counts.values())] for name, counts in report["people"].items()]
    print_table(
        f"{report['answers']} answers on {report['pairs']} pairs", ["by", "pairs", "yes", "no", "unsure"], people
    )
    agreement = [
        [" and ".join(each["judges"]), str(each["pairs"]), f"{each['same']:.0%}", cell(each["kappa"])]
        for each in report["agreement"]
    ]
    print_table("Agreement", ["judges", "common pairs", "same answer", "Cohen's kappa"], agreement)
    if export is not None:
        print_table(
            f"Exported to {export}", ["", ""], [[name, str(count)] for name, count in report["exported"].items()]
        )

"""Commands that read the served state."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows.cli.command import Call, command
from flows.cli.output import cell, print_json, print_table, show

app = typer.Typer()

CheckpointOption = Annotated[
    str | None, typer.Option("--checkpoint", help="Exit with an error if another checkpoint is served.")
]


@command(app)
def search(
    call: Call,
    text: Annotated[str, typer.Argument(help="Query text.")],
    table: Annotated[Literal["jobs", "resumes"], typer.Option("--in", help="Table to search.")] = "jobs",
    mode: Annotated[
        Literal["hybrid", "dense", "lexical"],
        typer.Option("--mode", help="Rank by words (lexical), by vectors (dense), or by both (hybrid)."),
    ] = "hybrid",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Number of results.")] = 10,
    where: Annotated[str | None, typer.Option("--where", help="SQL filter, applied before ranking.")] = None,
    past: Annotated[
        bool | None,
        typer.Option("--past/--no-past", help="Also find jobs past their valid_through (default: match.past_jobs)."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show scores and ranks of the vector and the keyword search, the matched terms, and the conditions "
            "that a hit fails or leaves unknown.",
        ),
    ] = False,
    checkpoint: CheckpointOption = None,
) -> None:
    """Search the served jobs or resumes."""
    from data.vectors.lance import import_without_pandas
    from tasks.encoders.fit import nobody_fits
    from tasks.queries.search import search as search_served

    import_without_pandas()

    settings = call.request().settings()
    kind: Literal["job", "resume"] = "job" if table == "jobs" else "resume"
    hits = search_served(
        settings, text, kind=kind, mode=mode, limit=limit, where=where, past_jobs=past, checkpoint=checkpoint
    )
    columns = [
        "rank",
        "title",
        "id",
        "score",
        "fit",
        *(["similar"] if any(hit["num_similar"] for hit in hits) else []),
        *(["valid through"] if past else []),
        *(["dense", "lexical", "matched terms", "conditions"] if explain else []),
    ]

    def row(hit: dict[str, Any]) -> list[str]:
        legs = [_leg(hit, "dense"), _leg(hit, "lexical"), cell(hit["matched_terms"]), _worst_conditions(hit)]
        last = [hit.get("valid_through") or ""] if past else []
        return [
            *(cell(hit[name]) for name in ("rank", "title", "source_id", "score")),
            _fit(hit),
            *([cell(hit["num_similar"] or "")] if "similar" in columns else []),
            *last,
            *(legs if explain else []),
        ]

    nobody = nobody_fits(hits)
    title = f"{len(hits)} {table}"
    if nobody:
        title += f": none of them fits, these are the nearest {table}"
    show(
        {"hits": hits, "nobody_fits": nobody},
        as_json=call.as_json,
        title=title,
        columns=columns,
        rows=lambda: map(row, hits),
    )


def _fit(hit: dict[str, Any]) -> str:
    """Class and fit of a hit, such as ``strong 98.4%``; empty if they are not known."""
    return "" if hit["fit"] is None else f"{hit['fit_class'] or ''} {hit['fit']:.1%}".strip()


def _leg(hit: dict[str, Any], leg: str) -> str:
    """Score and rank of a hit in one of the two searches, such as ``0.71 #3``."""
    score, rank = hit[f"{leg}_score"], hit[f"{leg}_rank"]
    return "" if rank is None else f"{score:.2f} #{rank}"


def _worst_conditions(hit: dict[str, Any]) -> str:
    """The verdict on a hit and the conditions that decide it, such as ``fail: licences``; empty if nothing is asked."""
    named = dict.fromkeys(each["condition"] for each in hit["conditions"] if each["outcome"] == hit["verdict"])
    return f"{hit['verdict']}: {', '.join(named)}" if named else ""


@command(app)
def explain(
    call: Call,
    job: Annotated[str, typer.Option("--job", help="Served job: its doc_id, or its id in the source.")],
    resume: Annotated[
        list[str], typer.Option("--resume", help="Served resume: its doc_id, or its id in the source. Can be repeated.")
    ],
    checkpoint: CheckpointOption = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Also write an HTML page to this path. `l2v erase` does not reach it."),
    ] = None,
) -> None:
    """Explain why a job and a resume match: words, sentences, scores, missing skills."""
    from data.vectors.lance import import_without_pandas
    from tasks.conditions.skills import requirements_sentence
    from tasks.queries.explain import explain as explain_pair
    from tasks.queries.explain import explanation_page, explanation_tables, fit_sentence

    import_without_pandas()
    settings = call.request().settings()
    explanations = [explain_pair(settings, job=job, resume=each, checkpoint=checkpoint) for each in resume]
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(explanation_page(explanations), encoding="utf-8")
    if call.as_json:
        print_json(explanations[0] if len(explanations) == 1 else {"explanations": explanations})
        return
    for found in explanations:
        typer.echo(fit_sentence(found))
        if found["shown_instead"]:
            typer.echo(f"Rankings show a newer version of this resume: {found['shown_instead']}.")
        typer.echo(requirements_sentence(found["requirements"]))
        for title, columns, rows in explanation_tables(found):
            print_table(title, columns, rows)


@command(app)
def status(
    call: Call,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Show this run and its settings.")] = None,
) -> None:
    """Show what is served, how fresh it is, what the last night did, and open alerts."""
    from tasks.queries.status import run_rows, run_status, status_rows
    from tasks.queries.status import status as read_status

    settings = call.request().settings()
    if run is not None:
        found = run_status(settings, run)
        show(found, as_json=call.as_json, title=f"Run {run}", rows=lambda: run_rows(found))
    else:
        state = read_status(settings)
        show(state, as_json=call.as_json, title="Status", rows=lambda: status_rows(state))


@command(app)
def trace(
    call: Call,
    doc_id: Annotated[str, typer.Option("--doc-id", help="doc_id of the document (32 hex digits).")],
) -> None:
    """Trace a served document back to its run, checkpoint, training data, report and source."""
    from tasks.queries.trace import trace as trace_document
    from tasks.queries.trace import trace_rows

    found = trace_document(call.request().settings(), doc_id)
    show(found, as_json=call.as_json, title=f"Document {doc_id}", rows=lambda: trace_rows(found))

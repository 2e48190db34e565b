"""Stored evaluation reports, made from outcomes and kept under a hash of their content.

Never imports prefect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from data.errors import StoreError
from data.sample.eval_tasks import SAMPLE_HEADLINES
from data.schema import sha256_json
from data.store.base import Store
from data.store.records import LATEST_REPORT
from data.vectors.pointer import read_pointer
from llm2vec_core.evaluation.protocols.registry import ScorableTask
from llm2vec_core.evaluation.report import EvaluationReport
from llm2vec_core.evaluation.results import Headline
from tasks.encoders.fit import known_fit
from tasks.run.context import Run


def headlines(eval_tasks: Sequence[ScorableTask]) -> tuple[Headline, ...]:
    """The bundled tasks that get their own section in the report."""
    names = [eval_task.name for eval_task in eval_tasks]
    return tuple(Headline(task=name, **SAMPLE_HEADLINES[name]) for name in names if name in SAMPLE_HEADLINES)


def keep_report(store: Store, report: EvaluationReport) -> str:
    """Store a report, with the fit of what is served, and make it the latest. Its id is a hash of its content."""
    pointer = read_pointer(store)
    fit = None if pointer is None else known_fit(store, pointer.generation)
    if fit is not None:
        report = report.model_copy(update={"fit_limits": fit.limits.sentence(), "fit": tuple(fit.held_back)})
    name = sha256_json(report.model_dump(mode="json", exclude={"created_at", "run_id", "machine", "headlines"}))[:16]
    if store.read(f"reports/{name}/report.json") is None:
        for file, content in report.files().items():
            store.put_if_absent(f"reports/{name}/{file}", content)
    LATEST_REPORT.put(store, name)
    return name


def report_location(store: Store, report: str, suffix: str) -> str:
    """Location of a stored report as ``html``, ``md`` or ``json``."""
    return store.location(f"reports/{report}/report.{suffix}")


def report_url(run: Run, report: str) -> str:
    """URL of a report: below ``evaluate.reports_url``, or of its file."""
    served_at = run.settings.evaluate.reports_url
    if served_at is not None:
        return f"{served_at.rstrip('/')}/{report}/report.html"
    location = report_location(run.store, report, "html")
    return location if "://" in location else Path(location).as_uri()


def report_plots(store: Store, report: str) -> Iterator[tuple[str, bytes]]:
    """Name and PNG file of each plot of a kept report."""
    for key in store.list(f"reports/{report}"):
        path = PurePosixPath(key)
        if path.suffix == ".png" and (png := store.read(key)) is not None:
            yield path.stem, png


def report_markdown(store: Store, report: str) -> str:
    """A kept report as Markdown.

    Raises:
        StoreError: The report no longer exists.
    """
    kept = store.read(f"reports/{report}/report.md")
    if kept is None:
        raise StoreError(f"The report {report} no longer exists.", hint="Run `l2v evaluate` again.")
    return kept.decode()

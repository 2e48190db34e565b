"""Encoders to scores, a decision, and a report."""

from __future__ import annotations

from prefect import flow

from data.errors import GateRefusedError, InputError
from flows.names import run_name
from flows.request import RunRequest
from tasks.encoders.evaluation_reports import report_location
from tasks.run.reports import CheckpointRef, EvaluateReport
from tasks.stages.evaluate import SERVED, evaluate_named, evaluate_recipe
from tasks.stages.train import build_base, find_trained, find_unsupervised


@flow(name="evaluate", flow_run_name=run_name)
def evaluate(
    request: RunRequest = RunRequest(),  # noqa: B008 - frozen
    checkpoints: list[str] | None = None,
    trained: CheckpointRef | None = None,
    against: str | None = None,
    gate: bool = False,
    mteb_results: str | None = None,
) -> EvaluateReport:
    """Score encoders side by side.

    Args:
        request: Settings of the run.
        checkpoints: Encoders by name: fingerprints, directories, model names, ``bm25``.
        trained: Without names: the encoder to set beside its untrained base; the recipe's when not given.
        against: Encoder by name that the first of ``checkpoints`` is judged against; ``served`` is the served one.
        gate: Fail when it is worse in any category, beyond chance and by more than ``evaluate.gate_margin``.
        mteb_results: Directory for the results of ``checkpoints`` in mteb's own format.

    Raises:
        InputError: ``against`` or ``gate`` without a candidate.
        GateRefusedError: The gate refused the candidate; the report is kept.
    """
    settings = request.settings()
    if (against or gate or mteb_results) and not checkpoints:
        raise InputError("There is no encoder to compare, or to write results of.", hint="Name it: --checkpoint NAME.")
    with request.recorded("evaluate") as run:
        if not checkpoints:
            chosen = trained or find_trained(settings)
            report = evaluate_recipe(
                settings,
                base=build_base(settings),
                trained=chosen,
                unsupervised=find_unsupervised(settings),
                run_id=run.id,
            )
            return run.did(report)
        report = evaluate_named(
            settings,
            checkpoints,
            run_id=run.id,
            against=against or (SERVED if gate else None),
            mteb_results=mteb_results,
        )
        run.did(report)
    if gate and report.refused:
        path = report_location(settings.store(), report.report, "html")
        raise GateRefusedError(f"{report.reason} {' '.join(report.findings)}", hint=f"The report: {path}")
    return report

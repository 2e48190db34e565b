"""The evaluate flow: from encoders to scores, a decision and a report."""

from __future__ import annotations

from prefect import flow

from data.errors import GateRefusedError, InputError
from flows.request import RunRequest, recorded, run_name
from tasks.encoders.evaluation_reports import report_location
from tasks.encoders.pins import find_trained, find_unsupervised
from tasks.run.reports import CheckpointRef, EvaluateReport
from tasks.stages.evaluate import SERVED, evaluate_named, evaluate_recipe
from tasks.stages.train import build_base


@flow(name="evaluate", flow_run_name=run_name)
def evaluate(
    request: RunRequest | None = None,
    checkpoints: list[str] | None = None,
    trained: CheckpointRef | None = None,
    against: str | None = None,
    gate: bool = False,
    mteb_results: str | None = None,
) -> EvaluateReport:
    """Evaluate encoders side by side and write a report.

    Args:
        request: Settings of the run.
        checkpoints: Names of encoders: fingerprints, directories, model names, ``bm25``.
        trained: Encoder to compare with its untrained base if there are no names (default: the recipe's).
        against: Name of the encoder to compare the first of ``checkpoints`` with, or ``served``.
        gate: Fail if the first is worse in any category, beyond chance and by more than ``evaluate.gate_margin``.
        mteb_results: Directory to write the results of ``checkpoints`` to, in mteb's format.

    Raises:
        InputError: ``against`` or ``gate`` without a candidate.
        GateRefusedError: The gate refused the candidate. The report is kept.
    """
    if (against or gate or mteb_results) and not checkpoints:
        raise InputError("There is no encoder to compare, or to write results for.", hint="Name one with --checkpoint.")
    with recorded("evaluate", request) as record:
        run = record.run
        if not checkpoints:
            chosen = trained or find_trained(run.store, run.settings)
            unsupervised = find_unsupervised(run.store, run.settings)
            report = evaluate_recipe(run, base=build_base(run), trained=chosen, unsupervised=unsupervised)
            return record.did(report)
        against = against or (SERVED if gate else None)
        report = record.did(evaluate_named(run, checkpoints, against=against, mteb_results=mteb_results))
    if gate and report.refused:
        path = report_location(run.store, report.report, "html")
        raise GateRefusedError(f"{report.reason} {' '.join(report.findings)}", hint=f"The report: {path}")
    return report

"""Encoders to scores, a decision, and a report."""

from __future__ import annotations

from prefect import flow

from flows.request import RunRequest
from tasks.evaluate import evaluate_named, evaluate_recipe
from tasks.refs import CheckpointRef, EvaluateReport
from tasks.train import build_base, find_trained
from tasks.writing import writing_run


@flow(name="evaluate")
def evaluate(
    request: RunRequest = RunRequest(),  # noqa: B008 - frozen
    checkpoints: list[str] | None = None,
    trained: CheckpointRef | None = None,
) -> EvaluateReport:
    """Score encoders side by side.

    Args:
        request: Settings of the run.
        checkpoints: Encoders by name: fingerprints, directories, model names, ``bm25``.
        trained: Without names: the encoder to set beside its untrained base; the recipe's when not given.
    """
    settings = request.settings()
    with writing_run(settings.store(), parent=request.parent_run) as run_id:
        if checkpoints:
            return evaluate_named(settings, checkpoints, run_id=run_id)
        chosen = trained or find_trained(settings)
        return evaluate_recipe(settings, base=build_base(settings), trained=chosen, run_id=run_id)

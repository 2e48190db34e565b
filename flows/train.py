"""Snapshots to a checkpoint."""

from __future__ import annotations

from prefect import flow

from flows.names import run_name
from flows.request import RunRequest
from tasks.run.reports import TrainReport
from tasks.stages.train import pin_training_data, train_recipe


@flow(name="train", flow_run_name=run_name)
def train(
    request: RunRequest = RunRequest(),  # noqa: B008 - frozen
    newest: bool = True,
) -> TrainReport:
    """Train the recipe; nothing is done when its checkpoint is there.

    Args:
        request: Settings of the run.
        newest: Train on the newest snapshots and judgments. Otherwise on those that the recipe was trained on before,
            if it was.
    """
    settings = request.settings()
    with request.recorded("train") as run:
        pinned = pin_training_data(settings, newest=newest)
        return run.did(train_recipe(settings, pinned, run_id=run.id))

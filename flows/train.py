"""The train flow: from snapshots to a checkpoint."""

from __future__ import annotations

from prefect import flow

from flows.request import RunRequest, recorded, run_name
from tasks.run.reports import TrainReport
from tasks.stages.train import pin_training_data, train_recipe


@flow(name="train", flow_run_name=run_name)
def train(
    request: RunRequest | None = None,
    newest: bool = True,
) -> TrainReport:
    """Train the recipe, unless its checkpoint exists.

    Args:
        request: Settings of the run.
        newest: Train on the newest snapshots and judgments, not on those pinned by an earlier training of the recipe.
    """
    with recorded("train", request) as record:
        pinned = pin_training_data(record.run, newest=newest)
        return record.did(train_recipe(record.run, pinned))

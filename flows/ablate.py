"""Attention x training x pooling on one base model, side by side."""

from __future__ import annotations

from prefect import flow

from flows.names import run_name
from flows.request import RunRequest
from tasks.run.reports import EvaluateReport
from tasks.stages.ablate import ablation_names, ablation_settings
from tasks.stages.evaluate import evaluate_named
from tasks.stages.train import pin_training_data, train_recipe


@flow(name="ablate", flow_run_name=run_name)
def ablate(
    request: RunRequest = RunRequest(),  # noqa: B008 - frozen
    standardised: bool = False,
) -> EvaluateReport:
    """Train the recipe with every attention and training, and score all of them with every pooling.

    Killed in the middle, the next call goes on: trained encoders and scores are kept.

    Args:
        request: Settings of the run; its recipe says how each stage is trained, its evaluation on what is scored.
        standardised: Score every encoder with standardised vectors, too.
    """
    settings = request.settings()
    with request.recorded("ablate") as run:
        names: list[str] = []
        pinned: dict[str, str] | None = None
        for variant in ablation_settings(settings):
            trained = None
            if variant.train.stages:
                # All learn from what the first of them was pinned to, also when a killed ablation goes on another day.
                pinned = pinned or pin_training_data(variant, newest=False, is_ablation=True)
                trained = train_recipe(variant, pinned, run_id=run.id, is_ablation=True).checkpoint
            names += ablation_names(variant, trained, standardised=standardised)
        return run.did(evaluate_named(settings, names, run_id=run.id))

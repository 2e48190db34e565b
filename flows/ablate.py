"""Compare all combinations of attention, training and pooling on one base model."""

from __future__ import annotations

from dataclasses import replace

from prefect import flow

from flows.request import RunRequest, recorded, run_name
from tasks.encoders.pins import TrainingPin
from tasks.run.reports import EvaluateReport
from tasks.stages.ablate import ablation_names, ablation_settings
from tasks.stages.evaluate import evaluate_named
from tasks.stages.train import pin_training_data, train_recipe


@flow(name="ablate", flow_run_name=run_name)
def ablate(
    request: RunRequest | None = None,
    standardised: bool = False,
) -> EvaluateReport:
    """Train the recipe's ablations, and evaluate each one with every pooling mode.

    A killed ablation resumes at the next call: trained encoders and scores are kept.

    Args:
        request: Settings of the run: the recipe of each stage, and the evaluation tasks.
        standardised: Also evaluate standardised vectors.
    """
    with recorded("ablate", request) as record:
        names: list[str] = []
        pinned: TrainingPin | None = None
        for variant in ablation_settings(record.run.settings):
            run, trained = replace(record.run, settings=variant), None
            if variant.train.stages:
                # All train on the snapshots pinned by the first, even if a killed ablation resumes on another day.
                pinned = pinned or pin_training_data(run, newest=False, of_ablation=True)
                trained = train_recipe(run, pinned).checkpoint
            names += ablation_names(variant, trained, standardised=standardised)
        return record.did(evaluate_named(record.run, names))

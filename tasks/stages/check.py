"""A night's look at its settings before any stage starts. Never imports prefect."""

from __future__ import annotations

from llm2vec_core.evaluation.systems import LEXICAL_NAME
from llm2vec_core.model.modes import parse_encoder_name
from tasks.encoders.tuned_fusion import judged_task
from tasks.run.context import Run
from tasks.stages.chosen_tasks import load_tasks, require_places


def check_night(run: Run) -> None:
    """Refuse settings with which a late stage would fail: an evaluation without tasks, folders that do not exist.

    With ``deployments.gpu_stages`` folders are not looked at: they may lie on the workers of the stages alone.

    Raises:
        InputError: No task, an unknown name of a task or an encoder, or no judgments to tune the fusion on.
        EvalTaskError: A task folder is missing or unusable, or the data of a benchmark is out of reach.
    """
    settings = run.settings
    for name in settings.evaluate.references:
        if name.lower() != LEXICAL_NAME:
            parse_encoder_name(name)
    if settings.deployments.gpu_stages:
        require_places(settings.evaluate)
        return
    load_tasks(run.store, settings.evaluate)
    if settings.match.fusion == "tuned":
        judged_task(run.store, settings)

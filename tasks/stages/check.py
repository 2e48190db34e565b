"""Check the settings of a night before any stage starts. Never imports prefect."""

from __future__ import annotations

from llm2vec_core.evaluation.systems import LEXICAL_NAME
from llm2vec_core.model.modes import parse_encoder_name
from tasks.encoders.tuned_fusion import judged_task
from tasks.run.context import Run
from tasks.stages.chosen_tasks import load_tasks, require_places


def check_night(run: Run) -> None:
    """Refuse settings that would make a late stage fail, such as an evaluation without tasks or a missing folder.

    With ``deployments.gpu_stages`` folders are not checked, because they may exist only on the stages' workers.

    Raises:
        InputError: No task, an unknown name of a task or an encoder, or no judgments to tune the fusion on.
        EvalTaskError: A task folder is missing or unusable, or the data of a benchmark are not available.
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

"""The judgments of a run. Never imports prefect."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from data.documents.judgments import Judgment, read_judgments
from data.errors import InputError
from llm2vec_core.training.settings import TrainingTriple
from tasks.run.settings import EvaluateSettings, JudgmentSettings


def read_all_judgments(chosen: JudgmentSettings) -> list[Judgment]:
    """Every judgment of the sources in the settings.

    Raises:
        InputError: No sources are named, or one cannot be read.
    """
    if not chosen.sources:
        raise InputError(
            "A supervised stage or an expansion needs judgments, but no judgments are named.",
            hint="Set judgments.sources to JSONL files, bundled:sample or bundled:esco-titles.",
        )
    return list(itertools.chain.from_iterable(read_judgments(source) for source in chosen.sources))


def without_evaluated(judgments: Sequence[Judgment], folders: Sequence[str]) -> tuple[list[Judgment], dict[str, int]]:
    """Leave out judgments that overlap with the scored texts of evaluation tasks.

    Args:
        judgments: Any judgments.
        folders: Folders of evaluation tasks, ``judgments.leave_out``.

    Returns:
        The judgments that are left, and the number of those left out by task.

    Raises:
        EvalTaskError: A folder has no task, or a task cannot be read.
    """
    if not folders:
        return list(judgments), {}
    from llm2vec_core.evaluation.tasks.folders import discover_eval_tasks, load_eval_task
    from llm2vec_core.evaluation.tasks.seen import decontaminate

    found = [path for folder in folders for path in discover_eval_tasks(Path(folder).expanduser())]
    triples = [TrainingTriple(each.anchor, each.positive, each.negatives, each.source) for each in judgments]
    clean = decontaminate(triples, [load_eval_task(path) for path in found])
    left = [Judgment(each.anchor, each.positive, each.negatives, each.source) for each in clean.triples]
    return left, clean.left_out


def training_sets(judgments: JudgmentSettings, evaluate: EvaluateSettings) -> dict[str, list[str]]:
    """Texts of every training set that a report has to disclose, by name.

    Files that do not exist are skipped if ``evaluate.skip_missing_tasks_dirs`` says so.

    Raises:
        InputError: A source cannot be read.
    """
    found: dict[str, list[str]] = {}
    for source in dict.fromkeys((*judgments.sources, *evaluate.trained_on)):
        is_missing = not source.startswith("bundled:") and not Path(source).expanduser().is_file()
        if is_missing and evaluate.skip_missing_tasks_dirs:
            continue
        texts = (text for each in read_judgments(source) for text in (each.anchor, each.positive))
        found[Path(source).name] = list(dict.fromkeys(texts))
    return found

"""The work that is left of a night, in one sentence: what there is to do, and how long it took before."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from data.errors import DataError
from data.schema import DocumentKind
from data.snapshots.snapshot import contents_of, open_snapshot
from data.store.digests import DigestIndex, first_of_each
from data.vectors.pointer import read_pointer
from data.vectors.shards import encoded_contents
from llm2vec_core.errors import CoreError
from tasks.encoders.pins import find_trained
from tasks.ledger.runs import latest_summary, read_settings
from tasks.preview.figures import estimate_encoding, estimate_scores, estimate_training, past_figures
from tasks.preview.records import CountRange, StageEstimate
from tasks.preview.scores import plan_scores
from tasks.run.context import Run
from tasks.run.reports import CheckpointRef
from tasks.run.settled import settled_report
from tasks.stages.embed import latest_snapshots
from tasks.ui.console import duration

logger = logging.getLogger(__name__)


def log_outlook(run: Run) -> None:
    """Log what is left to train, score and encode once the sources are read. Nothing is logged if nothing is left.

    Which encoder is served may depend on scores, so the counts are upper bounds.
    """
    if run.settings.deployments.gpu_stages:
        return  # tasks and checkpoints are on other machines
    try:
        sentence = _outlook(run)
    except (DataError, CoreError) as error:  # the stage that it concerns reports it
        logger.debug("no outlook: %s", error)
        return
    if sentence:
        logger.info("%s", sentence)


def _outlook(run: Run) -> str:
    store, settings = run.store, run.settings
    snapshots, pointer, trained = latest_snapshots(store), read_pointer(store), find_trained(store, settings)
    if trained is not None and pointer is not None and settled_report(run, pointer.checkpoint, snapshots) is not None:
        return ""
    stages = () if trained is not None else settings.train.stages
    steps = {str(stage): int(getattr(settings.train, stage).steps) for stage in stages}
    last = latest_summary(store, flow="nightly", state="completed")
    before = (read_settings(store, last["run_id"]) or {}) if last is not None else {}
    known = before.get("evaluate", {}).get("references", [])
    scores = plan_scores(run, trained, is_new=trained is None, known_references=known).scores
    documents = CountRange.of(_num_stale(run, trained, snapshots))
    figures = past_figures(store, settings)
    estimates = [
        estimate_training(figures, steps),
        estimate_scores(figures, scores),
        estimate_encoding(figures, documents),
    ]
    return outlook_sentence(steps, scores.high, documents.high, estimates)


def _num_stale(run: Run, trained: CheckpointRef | None, snapshots: Mapping[DocumentKind, str]) -> int:
    """Distinct contents that the recipe's encoder has not encoded."""
    count = 0
    for kind, snapshot_id in snapshots.items():
        contents = contents_of(open_snapshot(run.store, kind, snapshot_id))
        is_stale = first_of_each(contents)
        if trained is not None:
            encode_key = run.settings.encode.encode_key(kind)
            done = encoded_contents(run.store, fingerprint=trained.fingerprint, encode_key=encode_key)
            is_stale &= ~DigestIndex(done).contains(contents)
        count += int(is_stale.sum())
    return count


def outlook_sentence(
    steps: Mapping[str, int], num_scores: int, num_documents: int, estimates: list[StageEstimate]
) -> str:
    """For the log, such as ``About 6 min: 481 documents to encode, 12 scores``; empty if nothing is left.

    Args:
        steps: Optimizer updates by stage.
        num_scores: Scores to compute.
        num_documents: Documents to encode.
        estimates: Their times, as far as they are known.
    """
    parts = [
        *([f"{sum(steps.values()):,} training steps"] if steps else []),
        *([f"up to {num_scores:,} scores"] if num_scores else []),
        *([f"{num_documents:,} documents to encode"] if num_documents else []),
    ]
    if not parts:
        return ""
    known = [each.seconds_high for each in estimates if each.seconds_high is not None]
    left = f"About {duration(sum(known))}" if len(known) == len(estimates) else "No earlier night says how long"
    return f"{left}: {', '.join(parts)}."

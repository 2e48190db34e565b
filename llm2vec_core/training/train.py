"""Training from Python: a recipe and texts to an encoder in a directory, resumable.

Does not belong here: the stages (``recipe``), and training from a store's snapshots (``tasks.stages.train``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import InputError
from llm2vec_core.model.base_models import base_content, joint_content, user_cache_dir
from llm2vec_core.model.checkpoint import RECORD_NAME, read_record
from llm2vec_core.training.recipe import train_encoder
from llm2vec_core.training.settings import OnStep, Recipe, StepLog, TrainingTriple

JudgedExample = TrainingTriple | Sequence[str] | Mapping[str, Any]
"""One example of the supervised stage: an anchor, a positive, and any number of negatives.

As a mapping: ``{"anchor": ..., "positive": ..., "negatives": [...]}``, where ``negatives`` is optional and
``negative`` is an alternative for one text. As a sequence: anchor, positive, and any number of negatives.
"""

_FORMS_HINT = 'Give {"anchor": ..., "positive": ..., "negatives": [...]} or (anchor, positive, negative, ...).'


def train(
    recipe: Recipe,
    texts: Iterable[str] = (),
    *,
    save_to: str | Path,
    judgments: Iterable[JudgedExample] | str | Path = (),
    on_step: OnStep | None = None,
    show_progress: bool = False,
    cache_dir: str | Path | None = None,
) -> Encoder:
    """Train an encoder and save it: steps 2 and 3 of LLM2Vec, and a supervised stage if the recipe has one.

    If the call is killed, the same call resumes from its last save; the state is kept in ``<save_to>.training``. If
    the encoder already exists, the call returns it at once.

    Args:
        recipe: Stages and their settings.
        texts: Training texts of the unsupervised stages. If there are more than ``recipe.max_documents``, a seeded
            sample is taken.
        save_to: Directory of the encoder; must not exist yet, or contain the result of the same call.
        judgments: Examples of the supervised stage (:data:`JudgedExample`), or the path of a JSONL file with one
            mapping per line.
        on_step: Called after every update.
        show_progress: Show a progress bar.
        cache_dir: Directory of converted base models. Default: ``LLM2VEC_CACHE``, otherwise ``~/.cache/llm2vec``.

    Returns:
        The trained encoder, loaded from ``save_to``.

    Raises:
        InputError: ``save_to`` contains something else, or a judgment cannot be read.
        BaseModelError: The base model cannot be found, or ignores the recipe's attention.
        TrainingError: There is too little text, no judgments for the supervised stage, or a non-finite loss.
    """
    if isinstance(texts, str):
        raise InputError("One string was given as texts; expected a list of texts.", hint="Put it into a list.")
    target = Path(save_to).expanduser()
    chosen = recipe.sample_documents(list(texts)) if recipe.reads_documents else []
    triples = list(_read_judgments(judgments)) if recipe.reads_judgments else []
    key = recipe.key(
        {"texts": _sha256(chosen)},
        _sha256([astuple(triple) for triple in triples]),
        base_content(recipe.base_model),
        teacher_sha256=joint_content(recipe.teachers),
        num_sources=len({triple.source for triple in triples}),
    )
    if not _is_finished(target, recipe_key=key):
        cache = user_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        all_work = target.with_name(f"{target.name}.training")
        with _progress(recipe, show=show_progress, on_step=on_step) as counted:
            work_dir = all_work / key[:32]
            train_encoder(
                recipe, chosen, recipe_key=key, work_dir=work_dir, cache_dir=cache, triples=triples, on_step=counted
            )
        (work_dir / "checkpoint").rename(target)
        shutil.rmtree(all_work)
    return Encoder.load(target)


def _is_finished(target: Path, *, recipe_key: str) -> bool:
    """Whether the encoder already exists.

    Raises:
        InputError: The directory contains something else.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if (target / RECORD_NAME).is_file() and read_record(target).recipe_key == recipe_key:
        return True
    raise InputError(
        f"{target} contains something else, not the encoder of this recipe and these texts.",
        hint="Name another directory, or remove this one.",
    )


def _read_judgments(judgments: Iterable[JudgedExample] | str | Path) -> Iterator[TrainingTriple]:
    if not isinstance(judgments, str | Path):
        for number, judgment in enumerate(judgments):
            yield _as_triple(judgment, where=f"judgments[{number}]", source="")
        return
    path = Path(judgments).expanduser()
    if not path.is_file():
        raise InputError(f"There is no file {path}.", hint="Give the path of a JSONL file with judgments.")
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number} is not JSON: {error}.", hint=_FORMS_HINT) from error
        yield _as_triple(row, where=f"{path}, line {number}", source=path.name)


def _as_triple(judgment: object, *, where: str, source: str) -> TrainingTriple:
    """Parse one judgment of any form.

    Raises:
        InputError: The form is unknown; the message has the place.
    """
    if isinstance(judgment, TrainingTriple):
        return judgment
    parts: list[object] = []
    if isinstance(judgment, Mapping):
        single = [judgment["negative"]] if "negative" in judgment else []
        parts = [judgment.get("anchor"), judgment.get("positive"), *single, *(judgment.get("negatives") or ())]
    elif isinstance(judgment, Sequence) and not isinstance(judgment, str):
        parts = list(judgment)
    texts = [part for part in parts if isinstance(part, str) and part.strip()]
    if len(texts) < 2 or len(texts) < len(parts):
        raise InputError(f"{where} is not a judgment: {str(judgment)[:80]!r}.", hint=_FORMS_HINT)
    anchor, positive, *negatives = texts
    return TrainingTriple(anchor, positive, tuple(negatives), source)


@contextlib.contextmanager
def _progress(recipe: Recipe, *, show: bool, on_step: OnStep | None) -> Iterator[OnStep]:
    """Show every update, including those of an earlier call, and report it."""
    starts, total = {}, 0
    for stage in recipe.stages:
        starts[stage], total = total, total + getattr(recipe, stage).steps
    with tqdm(total=total, unit="step", disable=not show) as bar:

        def counted(step: StepLog) -> None:
            bar.set_description(f"{step.stage}, loss {step.loss:.3f}", refresh=False)
            bar.update(starts[step.stage] + step.step - bar.n)
            if on_step is not None:
                on_step(step)

        yield counted


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()

"""Write results in mteb's folder layout, so that mteb's own tools can compare them with other models.

Word-level tasks are not mteb's and have no such result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llm2vec_core.errors import InputError

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

ORGANISATION = "llm2vec-pipelines"
"""First part of the names of our models in mteb, which asks for ``organisation/name``."""

_FILE_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")


def mteb_model_name(name: str) -> str:
    """The name of a system in mteb, such as ``llm2vec-pipelines/smollm2-135m+causal+mean``.

    Characters other than letters, digits and ``.+-`` become hyphens. So do underscores, because mteb writes a slash in
    a folder name as two underscores.
    """
    return f"{ORGANISATION}/{re.sub(r'[^A-Za-z0-9.+-]+', '-', name).strip('-.') or 'unnamed'}"


def write_mteb_results(
    folder: Path,
    *,
    name: str,
    revision: str,
    task_results: Mapping[str, str],
    description: str = "",
    embed_dim: int | None = None,
) -> list[Path]:
    """Write the results of one system where ``mteb.ResultCache(folder)`` finds them.

    The layout is ``results/<model>/<revision>/<task>.json`` with ``model_meta.json`` beside the tasks. mteb keys
    results by name and revision together. Its tables show one revision per name unless called with
    ``include_model_revision=True``, so give different names to systems that should appear side by side.

    Args:
        folder: Root of the results, created if missing. Results of other systems in it are kept.
        name: Name of the system, such as a checkpoint's label; several systems may share it.
        revision: Fingerprint of the system.
        task_results: mteb's ``TaskResult`` as JSON, by name of the task.
        description: Description of the system, stored as ``description.txt`` because mteb has no field for it.
        embed_dim: Length of a vector; None for a system without vectors.

    Returns:
        The files of the tasks, in the given order.

    Raises:
        InputError: The revision or a task is not a valid file name, or a result is not mteb's or belongs to another
            task. Nothing is written then.
    """
    import mteb
    from mteb.models.model_meta import ModelMeta

    _require_file_name(revision, what="revision")
    results = [_parse_result(task, text) for task, text in task_results.items()]
    meta = ModelMeta.create_empty(
        overwrites={"name": mteb_model_name(name), "revision": revision, "embed_dim": embed_dim}
    )
    cache = mteb.ResultCache(folder)
    # not ResultCache.save_to_cache, which would record today's package versions for older results
    paths = [cache.get_task_result_path(result.task_name, meta) for result in results]
    if paths:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        _write_meta(paths[0].parent, meta, description=description)
    for path, result in zip(paths, results, strict=True):
        result.to_disk(path)
    return paths


def _require_file_name(name: str, *, what: str) -> None:
    """Refuse text that is not a valid file name inside the folder."""
    if not _FILE_NAME.fullmatch(name):
        raise InputError(
            f"The {what} {name!r} is not a valid file name for results.",
            hint="Expected: no slash, no control character, no dot in front.",
        )


def _parse_result(task: str, text: str) -> TaskResult:
    """Parse the result of a task as mteb does."""
    from mteb.results import TaskResult
    from pydantic import ValidationError

    _require_file_name(task, what="task")
    try:
        result = TaskResult.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"The result of {task} is not a TaskResult of mteb: {error}") from None
    if result.task_name != task:
        raise InputError(f"The result given for {task} belongs to the task {result.task_name}.")
    return result


def _write_meta(directory: Path, meta: ModelMeta, *, description: str) -> None:
    """Write the model's metadata like ``ResultCache.save_to_cache``, and its description."""
    (directory / "model_meta.json").write_text(json.dumps(meta.to_dict(), default=str, indent=4), encoding="utf-8")
    if description:
        (directory / "description.txt").write_text(f"{description}\n", encoding="utf-8")

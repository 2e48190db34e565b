"""Resolved settings as data: handed to stages on other workers, and kept in the ledger. Never imports prefect.

Settings hold no passwords: their validators refuse them. The path of the lineage endpoint may be a token, so neither an
orchestrator nor the store receives it. The night sends the lineage events for stages on other workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from data.store.credentials import mask_credentials
from tasks.run.settings import Settings

_WORK_DIR = "L2V_WORK_DIR"


def hand_over(settings: Settings) -> dict[str, Any]:
    """All settings as JSON for a stage on another worker, without the lineage endpoint."""
    return settings.model_copy(update={"lineage": settings.lineage.model_copy(update={"endpoint": None})}).model_dump(
        mode="json"
    )


def take_over(resolved: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Read back the settings that :func:`hand_over` returned.

    The worker's own ``L2V_WORK_DIR`` still applies, because that directory is local to its machine.
    """
    own = {"work_dir": environment[_WORK_DIR]} if _WORK_DIR in environment else {}
    return Settings.model_validate({**resolved, **own})


def shown(settings: Settings) -> dict[str, Any]:
    """All settings as JSON for people: credentials in URLs and the path of the lineage endpoint are masked."""
    found: dict[str, Any] = json.loads(mask_credentials(settings.model_dump_json()))
    endpoint = settings.lineage.endpoint
    if endpoint is not None:
        url = urlsplit(endpoint)
        found["lineage"]["endpoint"] = f"{url.scheme}://{url.hostname or ''}/***"
    return found

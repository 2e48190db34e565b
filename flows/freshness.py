"""Is what is served fresh? A check that fails when it is not, for automations to listen to."""

from __future__ import annotations

from prefect import flow

from data.errors import DataError
from flows.request import RunRequest
from tasks.queries.status import alerts


class StaleError(DataError):
    """What is served is older than ``freshness.max_age_hours``."""


@flow(name="freshness")
def freshness(request: RunRequest = RunRequest()) -> None:  # noqa: B008 - frozen
    """Fail when the last good night is too long ago.

    Args:
        request: Settings of the run.

    Raises:
        StaleError: It is, or nothing was ever served.
    """
    for alert in alerts(request.settings()):
        if alert.kind == "stale":
            raise StaleError(alert.message)

"""Next scheduled run, read over the HTTP API of a Prefect server. Never imports prefect."""

from __future__ import annotations

from tasks.queries.server_api import ask_server, server_url


def next_scheduled_run(deployment: str) -> str | None:
    """Time of a deployment's next run (ISO 8601); None without a server, a response or a schedule."""
    if server_url() is None:
        return None
    query = {
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": 1,
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "deployments": {"name": {"any_": [deployment]}},
    }
    try:
        runs = ask_server("/flow_runs/filter", query).body
    except (OSError, ValueError):
        return None
    return str(runs[0]["expected_start_time"]) if runs else None

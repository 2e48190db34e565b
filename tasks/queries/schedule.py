"""Next scheduled run, read over the HTTP API of a Prefect server. Never imports prefect."""

from __future__ import annotations

import base64
import json
import os
import urllib.request

_TIMEOUT_S = 5.0


def next_scheduled_run(deployment: str) -> str | None:
    """Time of a deployment's next run (ISO 8601); None without a server, a response or a schedule."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return None
    query = {
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": 1,
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "deployments": {"name": {"any_": [deployment]}},
    }
    try:
        request = urllib.request.Request(
            f"{url.rstrip('/')}/flow_runs/filter",
            json.dumps(query).encode(),
            {"Content-Type": "application/json", **_authorization()},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            runs = json.load(answer)
    except (OSError, ValueError):
        return None
    return str(runs[0]["expected_start_time"]) if runs else None


def _authorization() -> dict[str, str]:
    user = os.environ.get("PREFECT_API_AUTH_STRING")
    if user:
        return {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}

"""Requests to the HTTP API of a Prefect server. Never imports prefect."""

from __future__ import annotations

import base64
import json
import os
from typing import Any, NamedTuple

_TIMEOUT_S = 5.0

EMBEDDED_VARIABLE = "LLM2VEC_EMBEDDED_SERVER"
"""Environment variable: URL of the embedded server that this process uses, which is then also Prefect's."""


class ServerAnswer(NamedTuple):
    """The JSON body of a response, and its ``Date`` header in seconds since 1970; None without one."""

    body: Any
    sent_at: float | None


def server_url() -> str | None:
    """URL of the API of an operator's server; None if commands use the embedded one."""
    return None if is_embedded() else os.environ["PREFECT_API_URL"].rstrip("/")


def is_embedded() -> bool:
    """Whether commands use the embedded server."""
    url = os.environ.get("PREFECT_API_URL") or None
    return url is None or url == os.environ.get(EMBEDDED_VARIABLE)


def ask_server(path: str, query: dict[str, Any] | None = None) -> ServerAnswer:
    """Send one request: GET, or POST with ``query`` as JSON.

    Raises:
        OSError: The server does not answer, or refuses the request (``urllib.error.HTTPError``).
        ValueError: The answer is not JSON.
    """
    import urllib.request  # the command line imports this module, and must start fast
    from email.utils import parsedate_to_datetime

    url = server_url()
    assert url is not None, "the caller checks that there is a server"
    body = None if query is None else json.dumps(query).encode()
    request = urllib.request.Request(f"{url}{path}", body, {"Content-Type": "application/json", **_authorization()})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        sent = answer.headers.get("Date")
        return ServerAnswer(json.load(answer), None if sent is None else parsedate_to_datetime(sent).timestamp())


def _authorization() -> dict[str, str]:
    user = os.environ.get("PREFECT_API_AUTH_STRING")
    if user:
        return {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}

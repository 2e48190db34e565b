"""A webhook block that signs its calls. The Prefect server loads it by the entry point in ``pyproject.toml``.

Belongs here: what a receiver needs to trust an alert. Does not belong here: which alerts there are (``flows.server``).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

from httpx import Response
from prefect.blocks.webhook import Webhook
from prefect.types import SecretDict
from pydantic import Field, SecretStr

TIMESTAMP_HEADER = "X-L2V-Timestamp"
SIGNATURE_HEADER = "X-L2V-Signature"

MAX_AGE_S = 300.0
"""A receiver refuses older calls, which somebody may have recorded and repeated."""


class SignedWebhook(Webhook):
    """A webhook whose calls carry a timestamp, and an HMAC-SHA256 of timestamp and body."""

    _block_type_name = "Signed Webhook of llm2vec-pipelines"

    secret: SecretStr = Field(description="Secret that the receiver knows, too.")

    async def call(self, payload: dict[str, Any] | str | None = None) -> Response:
        """Send the payload with its signature.

        Args:
            payload: A JSON object, or its text.
        """
        body = payload if isinstance(payload, str) else json.dumps(payload)
        timestamp = str(int(time.time()))
        signed = {
            **self.headers.get_secret_value(),
            "Content-Type": "application/json",
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(self.secret.get_secret_value(), timestamp, body.encode()),
        }
        call = Webhook(
            **{
                **self.model_dump(include={"method", "url", "allow_private_urls", "verify"}),
                "headers": SecretDict(signed),
            }
        )
        return await call.call(body)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of the signature header: ``sha256=`` and the HMAC of ``TIMESTAMP.BODY`` in hex."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def is_authentic(secret: str, headers: dict[str, str], body: bytes, *, now: float | None = None) -> bool:
    """Return whether a call comes from someone who knows the secret, and is not older than five minutes.

    Args:
        secret: The shared secret.
        headers: Headers of the request.
        body: Body of the request, as it was received.
        now: Time of the receiver in seconds since 1970 (default: the current time).
    """
    timestamp = headers.get(TIMESTAMP_HEADER, "")
    expected = signature(secret, timestamp, body)
    is_recent = timestamp.isdigit() and abs((time.time() if now is None else now) - int(timestamp)) <= MAX_AGE_S
    return is_recent and hmac.compare_digest(expected, headers.get(SIGNATURE_HEADER, ""))

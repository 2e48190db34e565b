"""The guard before the application: host, token, size of a request, and searches at once.

Every refusal is a JSON object with ``error`` and ``hint``, as ``--json`` prints it. A refused request costs no search.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 262_144
"""Maximum size of a request body: the longest query, with every character as a JSON escape."""

MAX_DRAINED_BYTES = 64 * 1024 * 1024
"""Bytes of a body that is too large that are read and dropped, so that its sender reads the answer."""

MAX_SECONDS_OF_BODY = 20.0
"""Time in which a request body must arrive."""

MAX_WAITING = 200
"""Maximum number of searches that wait. Further ones are refused at once."""

OPEN_PATHS = frozenset({"/", "/page.js", "/judge.js", "/page.css", "/health", "/docs", "/openapi.json"})
"""Paths without data of documents. They need no token."""

WRITING_PATHS = frozenset({"/judge"})
"""Paths that write. A page of another site must not reach them through somebody's browser."""

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Refusal(Exception):
    """A request that is not answered with a result.

    Attributes:
        status: HTTP status.
        error: What was found and what was expected.
        hint: What to do.
    """

    def __init__(self, status: int, error: str, hint: str) -> None:
        """Keep the parts of the answer."""
        super().__init__(error)
        self.status, self.error, self.hint = status, error, hint


class Guard:
    """ASGI application that lets only acceptable requests through to another one."""

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Collection[str] | None) -> None:
        """Guard an application.

        Args:
            app: The application.
            token: Token that callers must send; None if nobody needs one.
            hosts: Host names that a request may be sent to; None for any. They keep a web page elsewhere from reaching
                a server without a token through a name that it controls (DNS rebinding).
        """
        self._app, self._token, self._hosts = app, token, hosts
        self._searches = asyncio.Semaphore(num_searches_at_once())
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in _HEADERS.items()),
                ]
            await send(message)

        try:
            self._require_host(scope)
            if scope["path"] in OPEN_PATHS:
                await self._app(scope, receive, send_safely)
                return
            self._require_token(scope)
            if scope["path"] in WRITING_PATHS:
                self._require_own_page(scope)
            body = await _read_body(scope, receive)
            await self._search(scope, _replayed(body, receive), send_safely)
        except Refusal as refusal:
            await _refuse(refusal, send_safely)

    async def _search(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on when its turn comes."""
        if self._waiting >= MAX_WAITING:
            raise Refusal(
                503, f"The server is busy: {self._waiting} searches are waiting.", "Ask again in a few seconds."
            )
        self._waiting += 1
        try:
            await self._searches.acquire()
        finally:
            self._waiting -= 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._searches.release()

    def _require_host(self, scope: Scope) -> None:
        host = _header(scope, b"host")
        name = urlsplit(f"//{host}").hostname if host else None
        if self._hosts is not None and name not in self._hosts:
            raise Refusal(
                421,
                f"This server does not answer for the host '{(host or '')[:100]}'.",
                f"Open it as one of: {', '.join(sorted(self._hosts))}; or give the server a token.",
            )

    def _require_token(self, scope: Scope) -> None:
        if self._token is None:
            return
        scheme, _, sent = (_header(scope, b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), self._token.encode()):
            raise Refusal(
                401,
                "The request has no token, or another one.",
                "Send the header `Authorization: Bearer TOKEN` with the token of the server.",
            )

    def _require_own_page(self, scope: Scope) -> None:
        """Refuse requests that a browser sends for a page of another site (CSRF); programs name no page.

        Without a token, the page must also have the host that the request is sent to. A proxy may change that host, and
        another site cannot send the token.
        """
        site, origin, host = (_header(scope, name) for name in (b"sec-fetch-site", b"origin", b"host"))
        is_own = site in (None, "same-origin", "none")
        if self._token is None and origin is not None:
            is_own = is_own and urlsplit(origin).netloc == host
        if not is_own:
            raise Refusal(
                403,
                f"The request comes from a page of another site: {(origin or site or '')[:100]}.",
                "Open the page of this server, and answer there.",
            )
        kind = (_header(scope, b"content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, f"The body is '{kind[:100]}'; expected application/json.", "Send the answer as JSON.")


def num_searches_at_once() -> int:
    """Number of searches that run at the same time. Each one uses several cores for a moment."""
    return min(8, max(2, os.cpu_count() or 1))


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body of a request.

    Raises:
        Refusal: It is too large, takes too long, or its sender left.
    """
    declared = _header(scope, b"content-length")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(MAX_SECONDS_OF_BODY):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "The request ended before its body was complete.", "Send it again.")
                part = message.get("body", b"")
                size += len(part)
                if size <= MAX_BODY_BYTES:
                    parts.append(part)
                else:
                    parts.clear()
                if not message.get("more_body", False) or size > MAX_DRAINED_BYTES:
                    break
    except TimeoutError:
        raise Refusal(
            408, f"The request did not arrive within {MAX_SECONDS_OF_BODY:.0f} seconds.", "Send it again."
        ) from None
    if size > MAX_BODY_BYTES:
        raise Refusal(
            413,
            f"The request has {declared or f'{size} or more'} bytes; expected {MAX_BODY_BYTES:,} or fewer.",
            "Search for a part of the text, or ingest it as a document and run `l2v match`.",
        )
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A channel that returns a body that was read, and then whatever follows it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _refuse(refusal: Refusal, send: Send) -> None:
    content = json.dumps({"error": refusal.error, "hint": refusal.hint}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if refusal.status == 503:
        headers.append((b"retry-after", b"2"))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)

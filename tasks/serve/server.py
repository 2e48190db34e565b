"""Address, port and token of ``l2v serve``, and the loop that serves until it is stopped."""

from __future__ import annotations

import errno
import ipaddress
import logging
import resource
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from data.errors import InputError
from tasks.queries.judge import judge_name
from tasks.queries.served import NothingServedError, served
from tasks.run.settings import Settings

TOKEN_VARIABLE = "LLM2VEC_SERVE_TOKEN"
"""Environment variable with the token that callers must send."""

MIN_TOKEN_CHARS = 16
"""Minimum length of a token."""

_MAX_HEADER_BYTES = 65_536
_WANTED_FILES = 8_192
_CLOSING_SECONDS = 30
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

logger = logging.getLogger(__name__)


class Started(NamedTuple):
    """A server whose port is open.

    Attributes:
        url: Address of its page.
        stop: Makes it answer the requests under way, and end.
    """

    url: str
    stop: Callable[[], None]


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    environment: Mapping[str, str],
    judge: str | None = None,
    on_start: Callable[[Started], None] = lambda _: None,
) -> None:
    """Serve search until SIGTERM or Ctrl-C. Requests under way are answered first.

    Args:
        settings: Settings with the store to read.
        host: Address to listen on. Any other than loopback needs a token.
        port: Port; 0 for a free one.
        environment: Environment variables, of which one is the token.
        judge: Name under which the page keeps answers on pairs (default: it keeps none, and the server reads only).
        on_start: Called when the port is open.

    Raises:
        InputError: The address or port cannot be used, the token is missing or short, or the name is empty or long.
    """
    token = _token(environment, host)
    by = None if judge is None else judge_name(judge)
    listener = _listen(host, port)
    try:
        import uvicorn

        from tasks.serve.api import build_api
        from tasks.serve.judging import Judging

        _allow_many_connections()
        hosts = None if token is not None else _LOOPBACK_NAMES | {host}
        config = uvicorn.Config(
            build_api(settings, token=token, hosts=hosts, judging=None if by is None else Judging(settings, by)),
            http="h11",  # it bounds the size of addresses and headers
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
            ws="none",
            access_log=False,  # addresses contain queries
            log_config=None,
            server_header=False,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=_CLOSING_SECONDS,
        )
        url = _url(listener)
        logger.info("Serving %s at %s. Stop with Ctrl-C.", settings.home_location, url)
        if by is not None:
            logger.info("Answers on pairs are kept under the name %s.", by)
        try:
            served(settings.store())
        except NothingServedError as error:
            logger.warning("%s %s", error, error.hint)
        server = uvicorn.Server(config)
        on_start(Started(url, lambda: setattr(server, "should_exit", True)))
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn passes the signal on after it has closed
            logger.info("Stopped.")
    finally:
        listener.close()


def _token(environment: Mapping[str, str], host: str) -> str | None:
    """The token of the environment, which an address outside this machine must have."""
    token = environment.get(TOKEN_VARIABLE) or None
    advice = f"Set {TOKEN_VARIABLE} to a random text, such as from `openssl rand -hex 32`"
    if token is None and not _is_loopback(host):
        raise InputError(
            f"Others can reach {host}, so serving on it needs a token; {TOKEN_VARIABLE} is not set.",
            hint=f"{advice}; or leave --host out, to serve this machine only.",
        )
    if token is not None and (len(token) < MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable()):
        raise InputError(
            f"{TOKEN_VARIABLE} has {len(token)} characters; expected {MIN_TOKEN_CHARS} or more, printable ASCII.",
            hint=f"{advice}.",
        )
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """Open the port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"'{host}' is no address of this machine: {error}.", hint="For example: 127.0.0.1.") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        hints = {
            errno.EADDRINUSE: "Another program uses it, maybe another `l2v serve`. Choose another --port.",
            errno.EACCES: "Ports below 1024 belong to the administrator. Choose another --port.",
            errno.EADDRNOTAVAIL: "It is no address of this machine. Choose another --host.",
        }
        raise InputError(
            f"Port {port} of {host} cannot be opened: {error.strerror}.",
            hint=hints.get(error.errno or 0, "Choose another --host or --port."),
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _allow_many_connections() -> None:
    """Raise the limit of open files of this process, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

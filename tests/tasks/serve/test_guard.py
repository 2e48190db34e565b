"""The guard: hosts, tokens, large and slow requests, and a thousand at once."""

import http.client
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.serve import api as api_module
from tasks.serve import guard
from tasks.serve.server import TOKEN_VARIABLE
from tests.tasks.serve.conftest import running

TOKEN = "0123456789abcdef0123"


def test_a_token_is_needed_for_data_and_not_for_the_page(served_home):
    with running(served_home.settings, {TOKEN_VARIABLE: TOKEN}) as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            for path in ("/search", "/explain", "/nowhere"):
                answer = server.ask("POST", path, {"query": "sql"}, **headers)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert set(answer.json) == {"error", "hint"}
        answer = server.ask("POST", "/search", {"query": "sql"}, Authorization=f"Bearer {TOKEN}")
        assert (answer.status, len(answer.json["hits"])) == (200, 3)
        assert [server.ask("GET", path).status for path in ("/", "/page.js", "/health", "/docs")] == [200] * 4
        named = server.ask("POST", "/search", {"query": "sql"}, Authorization=f"Bearer {TOKEN}", Host="board.example")
        assert named.status == 200, "a proxy in front of it keeps the name that people use"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_without_a_token_a_foreign_name_reaches_nothing(server, host):
    for path in ("/", "/health", "/search?query=sql"):
        answer = server.ask("GET", path, Host=host)
        assert answer.status == 421, answer.text
        assert "localhost" in answer.json["hint"]


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:80"])
def test_names_of_this_machine_are_answered(server, host):
    assert server.ask("GET", "/health", Host=host).status == 200


def test_answers_are_for_this_page_only(server):
    answer = server.search("sql")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def test_ten_megabytes_are_refused_and_the_sender_reads_why(server):
    answer = server.ask("POST", "/search", b'{"query": "' + b"x" * 10_000_000 + b'"}')
    assert answer.status == 413
    assert f"{guard.MAX_BODY_BYTES:,}" in answer.json["error"]
    assert server.search("sql").status == 200


def test_ten_megabytes_in_pieces_of_no_stated_length_are_refused(server):
    connection = http.client.HTTPConnection(server.address, timeout=200)
    connection.request(
        "POST", "/search", iter([b"x" * 100_000] * 100), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    assert connection.getresponse().status == 413
    connection.close()
    assert server.search("sql").status == 200


def test_an_address_of_ten_megabytes_is_refused(server):
    with socket.create_connection(server.address.split(":"), timeout=200) as connection:
        try:
            connection.sendall(b"GET /search?query=" + b"x" * 10_000_000)
        except OSError:
            pass  # it was closed already
        else:
            assert b" 400 " in connection.recv(100)
    assert server.search("sql").status == 200


def test_a_request_that_never_ends_is_given_up(server, monkeypatch):
    monkeypatch.setattr(guard, "MAX_SECONDS_OF_BODY", 0.2)
    with socket.create_connection(server.address.split(":"), timeout=200) as connection:
        connection.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in connection.recv(1000)


def test_the_longest_query_fits_as_escapes(server):
    body = b'{"mode": "lexical", "query": "' + b"\\u6570" * 20_000 + b'"}'
    assert len(body) <= guard.MAX_BODY_BYTES
    assert server.ask("POST", "/search", body).status == 200


def test_a_thousand_requests_at_once_get_an_answer_each(server, monkeypatch):
    """Some are found, the others are told that the server is busy; then it goes on."""
    at_once, most, lock = 0, 0, threading.Lock()

    def find(*_, **__):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.005)
        with lock:
            at_once -= 1
        return []

    monkeypatch.setattr(api_module, "search", find)
    monkeypatch.setattr(guard, "MAX_WAITING", 50)
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: server.search("sql"), range(1_000)))
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 50
    busy = next(answer for answer in answers if answer.status == 503)
    assert "busy" in busy.json["error"]
    assert busy.headers["retry-after"]
    assert most <= guard.num_searches_at_once()
    monkeypatch.undo()
    assert len(server.search("sql").json["hits"]) == 3


def test_searches_at_the_same_time_find_what_one_alone_finds(server):
    queries = ["SQL", "cook", "Haskell and SQL", "a garden " * 40]
    alone = {query: server.search(query).json for query in queries}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda query: (query, server.search(query).json), queries * 5))
    assert all(found == alone[query] for query, found in together)

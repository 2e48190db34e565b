"""Search and explanations over HTTP: the same answers as on the command line, a clear error for each mistake."""

import json
import logging
import threading
from urllib.parse import quote

import pytest

from tasks.queries.explain import explain
from tasks.queries.search import MAX_QUERY_CHARS, search
from tasks.run.settings import Settings
from tasks.serve import api as api_module
from tests.tasks.serve.conftest import make_home, running


def test_search_finds_what_the_command_line_finds(server, served_home):
    found = server.search("SQL and Haskell", limit=2)
    expected = search(served_home.settings, "SQL and Haskell", kind="resume", limit=2)
    assert (found.status, found.json) == (200, {"hits": json.loads(json.dumps(expected)), "nobody_fits": None})
    by_address = server.ask("GET", f"/search?query={quote('SQL and Haskell')}&limit=2")
    assert by_address.json == found.json
    jobs = server.search("hadoop", table="jobs", mode="lexical").json["hits"]
    assert [(hit["source_id"], hit["matched_terms"]) for hit in jobs] == [("j1", ["hadoop"])]
    assert [hit["source_id"] for hit in server.search("SQL", where="source_id = 'r2'").json["hits"]] == ["r2"]


def test_a_served_job_and_a_text_are_explained(server, served_home):
    pair = server.ask("POST", "/explain", {"job": "j1", "resume": "r1"})
    assert pair.json == json.loads(json.dumps(explain(served_home.settings, job="j1", resume="r1")))
    assert server.ask("GET", "/explain?job=j1&resume=r1").json == pair.json
    text = server.ask("POST", "/explain", {"query": "Writes SQL and Haskell.", "resume": "r1"})
    assert text.status == 200
    assert text.json["job"] == {"doc_id": None, "source": None, "source_id": None, "title": None}
    assert [term["term"] for term in text.json["terms"]] == ["sql"]
    hits = server.search("Writes SQL and Haskell.").json["hits"]
    (hit,) = [hit for hit in hits if hit["source_id"] == "r1"]
    match = text.json["match"]
    assert (match["rank"], match["dense_rank"], match["lexical_rank"]) == (
        hit["rank"],
        hit["dense_rank"],
        hit["lexical_rank"],
    )
    assert match["dense_score"] == pytest.approx(hit["dense_score"], abs=1e-5)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/search", {"query": " "}, 400, "The query is empty"),
        ("/search", {"query": "x" * (MAX_QUERY_CHARS + 1)}, 422, "query"),
        ("/search", {"query": "sql", "limit": 101}, 422, "limit"),
        ("/search", {"query": "sql", "table": "people"}, 422, "table"),
        ("/search", {"query": "sql", "board": "jobs"}, 422, "board"),
        ("/search", {"query": "sql", "where": "nowhere = 1"}, 400, "nowhere"),
        ("/search", {"query": "sql", "where": "doc_id = '' OR; DROP TABLE jobs"}, 400, "filter"),
        ("/search", {}, 422, "query: Field required"),
        ("/search", b'{"query": "\\ud800"}', 422, "query"),
        ("/search", b"no JSON", 422, "JSON"),
        ("/search", b"", 422, "body"),
        ("/explain", {"job": "nobody", "resume": "r1"}, 400, "No served job has the id 'nobody'"),
        ("/explain", {"resume": "r1"}, 400, "a job or a query"),
        ("/explain", {"resume": "r1", "job": "j1", "query": "x"}, 400, "a job or a query"),
        ("/explain", {"resume": "r1", "query": " "}, 400, "empty"),
        ("/nowhere", {}, 404, "/nowhere"),
        ("/health", {}, 405, "POST /health"),
    ],
)
def test_a_mistake_gets_an_error_and_a_hint(server, path, body, status, said):
    answer = server.ask("POST", path, body)
    assert answer.status == status, answer.text
    assert set(answer.json) == {"error", "hint"}
    assert said.lower() in answer.json["error"].lower()
    assert answer.json["hint"]
    assert len(answer.text) < 1_000, "the answer does not repeat what was sent"


def test_health_names_the_served_state(server, served_home):
    state = server.ask("GET", "/health").json
    assert (state["status"], state["generation"], state["checkpoint"]) == ("ok", "first", served_home.checkpoint)
    assert state["age_hours"] > 0


def test_nothing_served_is_said_until_something_is(tmp_path, served_home):
    with running(Settings(home=str(tmp_path / "empty"))) as server:
        for answer in (server.search("sql"), server.ask("GET", "/health")):
            assert answer.status == 503
            assert "Nothing is served yet" in answer.json["error"]
            assert "l2v nightly" in answer.json["hint"]
        assert server.ask("GET", "/").status == 200


def test_a_bug_is_no_secret_and_kills_nothing(server, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("of s3://user:password@bucket")

    monkeypatch.setattr(api_module, "search", fail)
    answer = server.search("sql")
    assert (answer.status, "ZeroDivisionError" in answer.json["error"]) == (500, True)
    assert "password" not in answer.text
    monkeypatch.undo()
    assert server.search("sql").status == 200


def test_the_request_after_a_promotion_sees_it_and_one_under_way_ends_on_the_old_state(
    tmp_path, tiny_base, make_pointer, monkeypatch
):
    home = make_home(tmp_path, tiny_base, make_pointer)
    is_under_way, may_go_on = threading.Event(), threading.Event()
    loader = api_module.search.__globals__["load_query_encoder"]

    def slow(*arguments):
        if threading.current_thread().name != "quick":
            is_under_way.set()
            assert may_go_on.wait(200)
        return loader(*arguments)

    answers = {}
    with running(home.settings) as server:
        monkeypatch.setattr("tasks.queries.search.load_query_encoder", slow)
        first = threading.Thread(target=lambda: answers.update(first=server.search("SQL")))
        first.start()
        assert is_under_way.wait(200)
        home.promote("second", {"r9": ("Newcomer", "I know SQL.")})
        monkeypatch.setattr("tasks.queries.search.load_query_encoder", loader)
        answers["second"] = server.search("SQL")
        may_go_on.set()
        first.join(200)
        assert server.ask("GET", "/health").json["generation"] == "second"
    found = {name: {hit["source_id"] for hit in answer.json["hits"]} for name, answer in answers.items()}
    assert found == {"first": {"r1", "r2", "r3"}, "second": {"r9"}}


def test_a_checkpoint_without_a_query_encoder_is_searched_by_torch(
    tmp_path, tiny_base, make_pointer, monkeypatch, server, caplog
):
    monkeypatch.setattr("tests.tasks.serve.conftest.keep_query_encoder", lambda *_: None)
    caplog.set_level(logging.INFO, "tasks.encoders.query_encoder")
    home = make_home(tmp_path, tiny_base, make_pointer)
    with running(home.settings) as other:
        answer = other.search("SQL and Haskell")
    assert answer.status == 200
    assert "no query encoder" in caplog.text
    expected = server.search("SQL and Haskell").json["hits"]
    assert [hit["source_id"] for hit in answer.json["hits"]] == [hit["source_id"] for hit in expected]


def test_the_api_describes_itself_without_another_server(server):
    schema = server.ask("GET", "/openapi.json").json
    assert set(schema["paths"]) == {"/search", "/explain", "/health"}
    page = server.ask("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    for name in ("POST /search", "past", "missing_skills", "promoted_at"):
        assert name in page.text
    for path in ("/", "/docs", "/page.js", "/page.css"):
        answer = server.ask("GET", path)
        assert (answer.status, "://" in answer.text) == (200, False), path
        assert "default-src 'none'" in answer.headers["content-security-policy"]

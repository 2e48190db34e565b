"""Judging pairs over HTTP: off by default, appended as the command does, and closed to pages of other sites."""

import json

import pytest

from data.errors import InputError
from data.outputs.feedback import read_answers
from flows.cli.app import run
from tasks.serve.server import TOKEN_VARIABLE, serve
from tests.tasks.serve.conftest import make_home, running

TOKEN = "0123456789abcdef0123"
PAIR = {"job": "j1", "resume": "r1", "answer": "yes"}


def test_without_a_judge_nothing_is_kept(server, served_home):
    assert server.ask("POST", "/judge", PAIR).status == 404
    assert server.ask("POST", "/judge/next", {}).status == 404
    assert server.ask("GET", "/health").json["judging"] is False
    assert read_answers(served_home.settings.store()) == []


def test_pairs_are_shown_and_answers_appended(judged_home):
    store = judged_home.settings.store()
    with running(judged_home.settings, judge=" Ada  L.") as server:
        assert server.ask("GET", "/health").json["judging"] is True
        assert {"/judge", "/judge/next"} < set(server.ask("GET", "/openapi.json").json["paths"])
        shown = []
        after = None
        while (found := server.ask("POST", "/judge/next", {"after": after}).json)["pair"] is not None:
            pair = found["pair"]
            assert found["by"] == "Ada L." and pair["job"]["text"].startswith("Moves data")
            assert pair["fit"] and "skills" in pair["requirements"] and pair["explanation"]["sentences"]
            after = {kind: pair[kind]["doc_id"] for kind in ("job", "resume")}
            shown.append(after["resume"])
        assert len(set(shown)) == len(shown) == 3, "skipped pairs are not shown again"
        for answer in ("unsure", "no"):
            said = server.ask("POST", "/judge", {**after, "answer": answer})
            assert (said.status, said.json["by"], said.json["answer"]) == (200, "Ada L.", answer)
        assert [each.answer for each in read_answers(store)] == ["unsure", "no"]
        again = server.ask("POST", "/judge/next", {}).json["pair"]
        assert again["resume"]["doc_id"] == shown[0]
        for wrong in ({**PAIR, "answer": "maybe"}, {**PAIR, "by": "Bob"}, {**PAIR, "job": "x" * 501}):
            assert server.ask("POST", "/judge", wrong).status == 422
        assert server.ask("POST", "/judge", {**PAIR, "job": "nobody"}).status == 400
        assert server.ask("GET", "/judge").status == 405
    assert len(read_answers(store)) == 2


@pytest.fixture(scope="module")
def judging(tmp_path_factory, tiny_base, make_pointer):
    """A server that keeps answers, and its store."""
    home = make_home(tmp_path_factory.mktemp("judging"), tiny_base, make_pointer)
    with running(home.settings, judge="Ada") as server:
        yield server, home.settings.store()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": "evil.example"}, 421),
        ({}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
    ],
)
def test_pages_of_other_sites_write_nothing(judging, headers, status):
    server, store = judging
    before = len(read_answers(store))
    answer = server.ask("POST", "/judge", PAIR, **headers)
    assert answer.status == status, answer.text
    assert len(read_answers(store)) == before + (status == 200)


def test_the_own_page_writes(judging):
    server, _ = judging
    assert server.ask("POST", "/judge", PAIR, Origin=server.url.rstrip("/")).status == 200


def test_with_a_token_only_its_owner_writes(judged_home):
    with running(judged_home.settings, {TOKEN_VARIABLE: TOKEN}, judge="Ada") as server:
        assert server.ask("POST", "/judge", PAIR).status == 401
        assert server.ask("POST", "/judge/next", {}).status == 401
        named = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://board.example"}
        assert server.ask("POST", "/judge", PAIR, **named).status == 200, "a proxy changes the host"
        assert server.ask("POST", "/judge", PAIR, **named, Sec_Fetch_Site="cross-site").status == 403
    assert len(read_answers(judged_home.settings.store())) == 1


def test_a_judge_needs_a_name(served_home):
    with pytest.raises(InputError, match="0 characters"):
        serve(served_home.settings, host="127.0.0.1", port=0, environment={}, judge=" ")


def test_the_command_passes_the_name_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["serve", "--judge", " ", "--json", "--set", f"home={tmp_path / 'home'}"]) == 2
    assert "name of the judge" in json.loads(capsys.readouterr().out)["error"]

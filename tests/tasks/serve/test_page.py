"""The page in a real browser: a search, its reasons, hostile text and the token, on phone and desktop."""

from collections.abc import Iterator
from typing import Any

import pytest

from data.outputs.feedback import read_answers
from tasks.serve import api as api_module
from tasks.serve.server import TOKEN_VARIABLE
from tests.tasks.serve.conftest import Server, running

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
TOKEN = "0123456789abcdef0123"
PATIENCE_MS = 200_000


@pytest.fixture(params=[PHONE, DESKTOP], ids=["phone", "desktop"])
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty window; a fault of a script, a blocked resource or a dialog fails the test."""
    context = browser.new_context(viewport=request.param)
    found = context.new_page()
    found.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on("dialog", lambda dialog: faults.append(dialog.message))
    found.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    yield found
    context.close()
    assert faults == []


def fits(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_people_are_found_with_the_reasons(page: Any, server: Server) -> None:
    page.goto(server.url)
    page.get_by_label("Type some words").fill("I write SQL and Haskell, and I garden.")
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector("#hits > li")
    cards = page.locator("#hits > li")
    assert cards.count() == 3
    first = cards.filter(has_text="r1")
    assert "words: place" in first.inner_text()
    assert "sql" in first.locator(".chips").inner_text()
    first.get_by_role("button", name="Why?").click()
    first.get_by_role("heading", name="Nearest sentences").wait_for()
    assert "I gardened." in first.inner_text()
    assert fits(page)


def test_text_of_documents_is_never_markup(page: Any, server: Server) -> None:
    page.goto(server.url)
    page.get_by_label("Type some words").fill("<script>alert(2)</script> Haskell & SQL")
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector("#hits > li")
    hostile = page.locator("#hits > li").filter(has_text="r3")
    assert "<img src=x onerror=alert(1)>" in hostile.inner_text()
    hostile.get_by_role("button", name="Why?").click()
    hostile.get_by_role("heading", name="Nearest sentences").wait_for()
    assert "<b>SQL</b>" in hostile.inner_text()
    assert page.locator("#hits img, #hits script, #hits b").count() == 0


def test_jobs_and_mistakes_are_shown(page: Any, server: Server) -> None:
    page.goto(server.url)
    assert not page.locator("#past-label").is_visible()
    page.get_by_label("Find").select_option("jobs")
    assert page.locator("#past-label").is_visible()
    page.get_by_label("Type some words").fill("Hadoop")
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector("#hits > li")
    assert "Data engineer" in page.locator("#hits").inner_text()
    page.evaluate("byId('query').removeAttribute('maxlength')")
    page.get_by_label("Type some words").fill("x" * 20_001)
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector("#message.error")
    assert "query" in page.locator("#message").inner_text()
    assert page.locator("#hits > li").count() == 0


HIT = {"doc_id": "1", "source": "x", "source_id": "r1", "title": "Cook", "matched_terms": [], "rank": 1}
CONDITIONS = [
    {"condition": "licence", "outcome": "pass", "asked": "class B", "found": "driving licence"},
    {"condition": "years", "outcome": "fail", "asked": "5 years", "found": "2 years"},
    {"condition": "language", "outcome": "unknown", "asked": "<b>German</b>", "found": ""},
]


def test_fit_and_conditions_are_shown(page: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [
        {**HIT, "fit": 0.9844, "fit_class": "strong", "conditions": CONDITIONS, "num_similar": 2},
        {**HIT, "fit": 0.2, "fit_class": "none"},
    ]
    monkeypatch.setattr(api_module, "search", lambda *_, **__: hits)
    page.goto(server.url)
    page.get_by_label("Type some words").fill("cook")
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector("#hits > li")
    first, second = page.locator("#hits > li").all()
    assert "strong fit" in first.inner_text()
    assert "newest of 3 copies or versions" in first.inner_text()
    assert "copies" not in second.inner_text()
    assert "nearer than to 98.4 % of random ones" in first.inner_text()
    conditions = first.locator(".conditions li").all_inner_texts()
    assert conditions == [
        "✓ licence: class B (driving licence)",
        "✗ years: 5 years (2 years)",
        "? language: <b>German</b>",
    ]
    assert "does not fit" in second.inner_text()
    assert page.locator("#message").inner_text() == "The best 2 people"
    monkeypatch.setattr(api_module, "search", lambda *_, **__: hits[1:])
    page.get_by_role("button", name="Search").click()
    page.get_by_text("None of them fits").wait_for()
    assert fits(page)


def test_a_token_is_asked_for_once(page: Any, served_home: Any) -> None:
    with running(served_home.settings, {TOKEN_VARIABLE: TOKEN}) as server:
        page.goto(server.url)
        page.get_by_label("Type some words").fill("SQL")
        page.get_by_role("button", name="Search").click()
        page.get_by_label("This server asks for a token").fill(TOKEN)
        page.get_by_role("button", name="Continue").click()
        page.wait_for_selector("#hits > li")
        assert not page.locator("#access").is_visible()
        page.get_by_role("button", name="Search").click()
        page.wait_for_selector("#hits > li")
        assert page.evaluate("localStorage.length") == 0


def test_pairs_are_judged_on_the_page(page: Any, judged_home: Any) -> None:
    store = judged_home.settings.store()
    with running(judged_home.settings, {TOKEN_VARIABLE: TOKEN}, judge="Ada") as server:
        page.goto(server.url)
        page.get_by_role("button", name="Judge pairs").click()
        page.get_by_label("This server asks for a token").fill(TOKEN)
        page.get_by_role("button", name="Continue").click()
        page.wait_for_selector("#pair article")
        assert not page.locator("#search").is_visible()
        assert "Answers are kept under the name Ada." in page.locator("#judging").inner_text()
        seen = []
        for name in ("Skip", "Yes, it fits", "Unsure"):
            seen.append(page.locator("#pair article").nth(1).inner_text())
            assert fits(page)
            page.get_by_role("button", name=name).click()
            page.wait_for_function(
                "text => document.querySelectorAll('#pair article')[1]?.innerText !== text", arg=seen[-1]
            )
        assert page.locator("#pair img, #pair b").count() == 0, "text of documents is no markup"
        page.get_by_text("Evidence").click()
        assert page.get_by_role("heading", name="Nearest sentences").is_visible()
        page.get_by_role("button", name="No", exact=True).click()
        page.get_by_text("No pair of the latest matches is left").wait_for()
        page.get_by_role("button", name="Back to the search").click()
        assert page.locator("#search").is_visible()
    assert sorted(each.answer for each in read_answers(store)) == ["no", "unsure", "yes"]
    assert {each.by for each in read_answers(store)} == {"Ada"}


def test_without_a_judge_the_page_offers_no_judging(page: Any, server: Server) -> None:
    page.goto(server.url)
    page.get_by_text("State of").wait_for()
    assert not page.locator("#to-judging, #judging").first.is_visible()


def test_the_reference_fits_a_phone_and_loads_from_here_only(page: Any, server: Server) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}docs")
    assert page.get_by_role("heading", name="POST /search").is_visible()
    assert fits(page)
    assert all(url.startswith((server.url, "data:")) for url in asked)

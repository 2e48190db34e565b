"""The report page in a real browser: phone, desktop and print."""

import io
import re
from pathlib import Path
from typing import Any

import pypdf
import pytest

from llm2vec_core.evaluation.report import EvaluationReport, render_html

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
A4_TEXT = {"width": 688, "height": 1016}
"""A4 within margins of 14 mm, in CSS pixels."""


@pytest.fixture(scope="module")
def address(rich_report: EvaluationReport, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_html(rich_report), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def open_page(browser: Any, address: str) -> Any:
    """Opens the page in a window of a size, as on screen or on paper."""
    pages: dict[tuple[int, str, str], Any] = {}

    def open_it(viewport: dict[str, int], *, media: str = "screen", scheme: str = "light") -> Any:
        key = (viewport["width"], media, scheme)
        if key not in pages:
            page = browser.new_page(viewport=viewport, color_scheme=scheme)
            page.emulate_media(media=media)
            page.goto(address)
            pages[key] = page
        return pages[key]

    return open_it


VIEWS = [(PHONE, "screen"), (DESKTOP, "screen"), (A4_TEXT, "print")]


@pytest.mark.parametrize(("viewport", "media"), VIEWS)
def test_the_page_never_scrolls_sideways(open_page: Any, viewport: dict[str, int], media: str) -> None:
    page = open_page(viewport, media=media)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.parametrize(("viewport", "media"), VIEWS)
def test_every_heading_table_and_plot_is_there_to_see(open_page: Any, viewport: dict[str, int], media: str) -> None:
    page = open_page(viewport, media=media)
    selector = (
        "h1, h2, table, svg, summary" if media == "print" else "h1, h2, summary, section > :not(details) table, svg"
    )
    sizes = page.evaluate(
        """selector => [...document.querySelectorAll(selector)]
            .filter(one => !one.parentElement.closest('svg'))
            .map(one => [one.tagName, one.getBoundingClientRect().width, one.getBoundingClientRect().height])""",
        selector,
    )
    assert len(sizes) > 25
    assert all(width > 50 and height > 10 for _, width, height in sizes), sizes


@pytest.mark.parametrize(("viewport", "media"), VIEWS)
def test_no_cell_is_clipped(open_page: Any, viewport: dict[str, int], media: str) -> None:
    page = open_page(viewport, media=media)
    clipped = page.evaluate(
        """() => [...document.querySelectorAll('th, td')]
            .filter(one => one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1)
            .map(one => one.innerText)"""
    )
    assert clipped == []


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
def test_a_row_keeps_its_name_while_its_table_scrolls(open_page: Any, viewport: dict[str, int]) -> None:
    page = open_page(viewport)
    moved = page.evaluate(
        """() => [...document.querySelectorAll('.table')].filter(box => box.scrollWidth > box.clientWidth + 40)
            .map(box => {
                box.scrollLeft = 40;
                const name = box.querySelector('tbody th[scope=row]').getBoundingClientRect();
                const shift = name.left - box.getBoundingClientRect().left;
                box.scrollLeft = 0;
                return shift;
            })"""
    )
    assert all(abs(shift) < 3 for shift in moved), moved
    assert moved or viewport is DESKTOP


@pytest.mark.parametrize(("viewport", "media"), VIEWS)
def test_the_text_of_the_plots_is_drawn(open_page: Any, viewport: dict[str, int], media: str) -> None:
    page = open_page(viewport, media=media)
    texts = page.evaluate(
        """() => [...document.querySelectorAll('svg text')]
            .map(one => [one.textContent, one.getBoundingClientRect().width, one.getBoundingClientRect().height])"""
    )
    assert any(text == "SciFact" for text, _, _ in texts)
    assert all(width > 0 and height > 3 for text, width, height in texts if text.strip())


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP])
def test_the_numbers_are_in_the_visible_text(
    open_page: Any, rich_report: EvaluationReport, viewport: dict[str, int]
) -> None:
    text = open_page(viewport).inner_text("body")
    for system in rich_report.systems:
        assert system.name in text
        for score in system.scores:
            assert f"{score.main_score:.2f}" in text
    for average in rich_report.averages:
        assert f"{average.score:.2f}" in text


def test_folded_parts_are_closed_on_screen(open_page: Any) -> None:
    page = open_page(DESKTOP)
    assert page.locator("details").count() >= 3
    assert "Supervised LLM2Vec (w/o SimCSE)" not in page.inner_text("body")


def test_paper_holds_everything(open_page: Any, rich_report: EvaluationReport) -> None:
    page = open_page(A4_TEXT, media="print")
    pdf = pypdf.PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    text = re.sub(r"\s+", " ", " ".join(sheet.extract_text() for sheet in pdf.pages))
    assert 10 < len(pdf.pages) < 80
    for heading in page.locator("h2").all_inner_texts():
        assert heading in text
    for published in ("10.59", "55.36 / 55.56", "Every comparison by category and task"):
        assert published in text
    for system in rich_report.systems:
        for score in system.scores:
            assert f"{score.main_score:.2f}" in text


def test_no_table_is_cut_off_on_paper(open_page: Any) -> None:
    page = open_page(A4_TEXT, media="print")
    rights = page.evaluate(
        "() => [...document.querySelectorAll('table, svg[role]')].map(one => one.getBoundingClientRect().right)"
    )
    assert max(rights) <= A4_TEXT["width"] + 1


def test_nothing_is_fetched(browser: Any, address: str) -> None:
    page = browser.new_page(viewport=DESKTOP)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, wait_until="networkidle")
    assert asked == [address]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_text_stands_out_from_the_page(open_page: Any, scheme: str) -> None:
    page = open_page(DESKTOP, scheme=scheme)
    for selector in ("body", ".small", "td.best", "td .note", "tr.group th", "summary"):
        ink, paper = page.evaluate(
            """selector => {
                const one = document.querySelector(selector);
                let box = one;
                while (getComputedStyle(box).backgroundColor === 'rgba(0, 0, 0, 0)') box = box.parentElement;
                return [getComputedStyle(one).color, getComputedStyle(box).backgroundColor];
            }""",
            selector,
        )
        assert contrast(ink, paper) >= 4.5, (selector, ink, paper)


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two CSS colours (WCAG 2)."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [channel / 12.92 if channel <= 0.03928 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

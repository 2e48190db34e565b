import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from llm2vec_core.evaluation.metrics import RANKING_METRICS
from llm2vec_core.evaluation.report import EvaluationReport, plot_files, render_html, render_markdown
from llm2vec_core.evaluation.results import Decision, Headline

EVIL = "<script>alert('x')</script> | **bold** $x$ & [link](http://evil.example) `code`"


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self._hidden = 0
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden += tag == "style"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag == "style"
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data
            if self._in_cell:
                self.rows[-1][-1] += data


def markdown_page(markdown: str) -> Page:
    return Page(MarkdownIt("commonmark").enable("table").render(markdown))


@pytest.fixture(scope="module")
def rich_html(rich_report: EvaluationReport) -> str:
    return render_html(rich_report)


def headings(report: EvaluationReport) -> list[str]:
    return re.findall(r"^## (.*)$", render_markdown(report), flags=re.MULTILINE)


def test_the_page_fetches_nothing(rich_html: str) -> None:
    page = Page(rich_html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "img", "image", "object", "embed"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), tag
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                assert (value or "").startswith("#"), (tag, value)
    assert "@import" not in rich_html
    assert not re.findall(r"url\((?!#)", rich_html)


def test_no_two_elements_share_an_id(rich_html: str) -> None:
    ids = [attributes["id"] for _, attributes in Page(rich_html).tags if "id" in attributes]
    assert ids
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(#|href="#)([^")]+)', rich_html)
    assert set(used) <= set(ids)


def test_what_reads_the_page_aloud_finds_its_way(rich_html: str) -> None:
    tags = Page(rich_html).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    assert all(attributes.get("scope") for tag, attributes in tags if tag == "th")
    count = [tag for tag, _ in tags].count
    assert count("caption") == count("table") > 10
    drawings = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(drawings) > 5
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)


@pytest.mark.parametrize("render", [render_html, render_markdown])
def test_every_system_score_and_stage_is_there(report: EvaluationReport, render: Any) -> None:
    text = render(report)
    expected = [
        "Nightly evaluation", "20261122-1f3a", "Trained", "BM25", "71.12", "44.44", "30.00", "41.00", "35.50",
        "43.44", "45.44", "22.22", "100 job descriptions", "it ranks resumes best", "mntp", "simcse", "12,345", "988",
        "So little training", "2 cores", "69.0 to 73.3", "1.2", "c0ffee", "1,976 tokens/s", "not worse than BM25",
    ]  # fmt: skip
    for part in expected:
        assert part in text, part


def test_what_comes_first(rich_report: EvaluationReport, rich_html: str) -> None:
    order = [
        "100 job descriptions",
        "By category",
        "Attention, training and pooling",
        "All tasks",
        "Word-level tasks",
        "Which differences are real",
        "Query by query",
        "Training",
        "Time",
        "Notes",
        "How to read this",
        "Where the figures come from",
    ]
    assert re.findall(r"<h2>(.*?)</h2>", rich_html) == order
    assert headings(rich_report) == order
    only_plots = rich_report.model_copy(update={"slices": (), "worst": ()})
    assert headings(only_plots) == [title for title in order if title != "Query by query"]


def test_the_lead_says_who_is_ahead_and_what_was_decided(rich_report: EvaluationReport) -> None:
    lead = render_markdown(rich_report).split("\n\n")[2]
    assert lead.startswith("12 systems were compared on 13 tasks. Over all 10 sentence-level tasks, ")
    assert "is ahead with" in lead
    assert "can't tell" in lead
    assert lead.endswith(" is served: it is better over all tasks, and worse in no category.")


@pytest.mark.parametrize(
    ("left_out", "heading"),
    [
        ({"comparisons": ()}, "Which differences are real"),
        ({"training": ()}, "Training"),
        ({"notes": ()}, "Notes"),
        ({"averages": ()}, "By category"),
        ({"averages": ()}, "Attention, training and pooling"),
    ],
)
def test_a_section_without_data_is_left_out(
    rich_report: EvaluationReport, left_out: dict[str, Any], heading: str
) -> None:
    assert heading in headings(rich_report)
    assert heading not in headings(rich_report.model_copy(update=left_out))


def test_sections_of_tasks_follow_the_tasks(rich_report: EvaluationReport, report: EvaluationReport) -> None:
    assert "Word-level tasks" in headings(rich_report)
    assert "Word-level tasks" not in headings(report)
    assert "Attention, training and pooling" not in headings(report)
    last = report.systems[0].scores[0]
    without_jobs = report.model_copy(update={"systems": (report.systems[0].model_copy(update={"scores": (last,)}),)})
    assert headings(without_jobs)[0] == "By category"


def test_tables_of_the_markdown_are_tables(report: EvaluationReport) -> None:
    page = markdown_page(render_markdown(report))
    assert ["OtherRetrieval (ndcg_at_10)", "30.00", "35.50"] in page.rows
    assert ["BM25", "41.00", "40.00", "42.00", *["20.50"] * 4] in page.rows
    assert "|" not in page.text
    assert page.rows.count(["System", *RANKING_METRICS]) == 1


def test_marks_of_the_markdown(report: EvaluationReport) -> None:
    markdown = render_markdown(report)
    assert "| OtherRetrieval (ndcg\\_at\\_10) | 30.00 | **35.50** |" in markdown
    assert "| JobResumeRetrieval (ndcg\\_at\\_10) | **44.44** | *41.00* |" in markdown
    assert "| Average of 2 | *37.22* (35.0 to 39.4) | **38.25** |" in markdown


def evil(report: EvaluationReport) -> EvaluationReport:
    system = report.systems[0].model_copy(update={"name": EVIL, "description": EVIL})
    return report.model_copy(
        update={
            "title": EVIL,
            "run_id": EVIL,
            "systems": (system, *report.systems[1:]),
            "averages": tuple(
                one.model_copy(update={"system": EVIL}) if one.system == "Trained" else one for one in report.averages
            ),
            "comparisons": tuple(one.model_copy(update={"better": EVIL}) for one in report.comparisons),
            "decision": Decision(served=EVIL, reason=EVIL, candidate=EVIL, incumbent=EVIL, findings=(EVIL,)),
            "training": (report.training[0].model_copy(update={"stage": EVIL}),),
            "notes": (EVIL,),
            "machine": {EVIL: EVIL},
        }
    )


def test_text_from_data_is_only_text_on_the_page(report: EvaluationReport) -> None:
    page = Page(render_html(evil(report)))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) >= 12


def test_text_from_data_is_only_text_in_markdown(report: EvaluationReport) -> None:
    page = markdown_page(render_markdown(evil(report)))
    assert not {tag for tag, _ in page.tags} & {"script", "a", "code"}
    assert page.text.count(EVIL) >= 12
    assert ["JobResumeRetrieval (ndcg_at_10)", "44.44", "41.00"] in page.rows


def test_a_bare_report_is_a_report() -> None:
    bare = EvaluationReport(title="Empty", created_at=datetime(2026, 1, 1, tzinfo=UTC), run_id="r", systems=())
    assert "Empty" in render_html(bare)
    assert "There was no decision to make." in render_markdown(bare)
    assert plot_files(bare) == {}


def test_a_report_survives_json(rich_report: EvaluationReport) -> None:
    assert EvaluationReport.model_validate_json(rich_report.model_dump_json()) == rich_report


def test_the_page_of_many_systems_and_tasks_is_complete(
    make_large_report: Callable[[int, int], EvaluationReport],
) -> None:
    large = make_large_report(20, 60)
    page = markdown_page(render_markdown(large))
    text = page.text
    for system in large.systems:
        for score in system.scores:
            assert f"{score.main_score:.2f}" in text
    widest = max(len(row) for row in page.rows)
    assert widest <= 17


def test_a_report_saves_its_pages_its_record_and_its_plots(report: EvaluationReport, tmp_path: Path) -> None:
    page = report.save(tmp_path / "new" / "report")
    assert page.name == "report.html"
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == report.files()
    assert set(report.files()) == {"report.html", "report.md", "report.json", *plot_files(report)}
    assert "100 job descriptions" in page.read_text(encoding="utf-8")
    assert page.with_suffix(".md").read_text(encoding="utf-8") == render_markdown(report)
    assert EvaluationReport.model_validate_json(page.with_suffix(".json").read_bytes()) == report


def test_a_headline_task_is_whatever_the_caller_names(report: EvaluationReport) -> None:
    """The core knows no task of the job board: title, caption and note come from the caller."""
    wards = Headline(task="OtherRetrieval", title="{count} wards", caption="Nurses ranked for each of {count} wards")
    assert headings(report)[0] == "100 job descriptions"
    assert headings(report.model_copy(update={"headlines": ()}))[0] == "By category"
    given = report.model_copy(update={"headlines": (wards,)})
    assert headings(given)[0] == "100 wards"
    assert "Nurses ranked for each of 100 wards:" in render_markdown(given)
    assert "job" not in render_markdown(given).replace("JobResumeRetrieval", "").lower()

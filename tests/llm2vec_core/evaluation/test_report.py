import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from markdown_it import MarkdownIt

from llm2vec_core.evaluation.report import (
    Decision,
    EvaluationReport,
    SystemReport,
    plot_main_scores,
    render_html,
    render_markdown,
)
from llm2vec_core.evaluation.sentence import TaskScore
from llm2vec_core.training.settings import StageCurve

EVIL = "<script>alert('x')</script> | **bold** $x$ & [link](http://evil.example) `code`"


def curve(stage: Any, losses: list[float], *, tokens: int, seconds: float) -> StageCurve:
    return StageCurve(
        stage=stage,
        num_steps=len(losses),
        tokens=tokens,
        seconds=seconds,
        losses=losses,
        learning_rates=[1e-4] * len(losses),
    )


def score(task: str, task_type: str, value: float, **more: Any) -> TaskScore:
    fields: dict[str, Any] = {
        "main_score_name": "ndcg_at_10" if task_type == "Retrieval" else "cosine_spearman",
        "metrics": {"ndcg_at_10": value, "map_at_1000": value - 1, "mrr_at_10": value + 1, "precision_at_5": value / 2},
        "seconds": 1.25,
        "num_items": 100,
        "num_texts": 300,
        "content_sha256": "c0ffee" * 10,
        "system_fingerprint": "f" * 64,
    }
    return TaskScore(task=task, type=task_type, main_score=value, **(fields | more))


@pytest.fixture
def report() -> EvaluationReport:
    dense = SystemReport(
        name="Trained",
        description="bidirectional, mean pooling",
        fingerprint="aaaa1111" * 8,
        mode="dense",
        scores=(
            score("STSSmall", "STS", 71.119, ci_low=69.04, ci_high=73.26),
            score("JobResumeRetrieval", "Retrieval", 44.444),
            score("OtherRetrieval", "Retrieval", 30.0),
        ),
    )
    words = SystemReport(
        name="BM25",
        fingerprint="bm25-1",
        mode="lexical",
        scores=(score("JobResumeRetrieval", "Retrieval", 41.0), score("OtherRetrieval", "Retrieval", 35.5)),
    )
    return EvaluationReport(
        title="Nightly evaluation",
        created_at=datetime(2026, 11, 22, 2, 30, tzinfo=UTC),
        run_id="20261122-1f3a",
        systems=(dense, words),
        decision=Decision(served="Trained", reason="it ranks resumes best", candidate="Trained", incumbent="BM25"),
        training=(
            curve("mntp", [5.0, 4.0, 3.5], tokens=12_345, seconds=12.5),
            curve("simcse", [2.0, 1.5], tokens=6_000, seconds=12.0),
        ),
        notes=("So little training shows that the chain works.",),
        machine={"CPU": "2 cores"},
    )


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


def test_the_page_fetches_nothing(report: EvaluationReport) -> None:
    html = render_html(report)
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "img", "object", "embed"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), tag
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                assert (value or "").startswith("#"), (tag, value)
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)


@pytest.mark.parametrize("render", [render_html, render_markdown])
def test_every_system_score_and_stage_is_there(report: EvaluationReport, render: Any) -> None:
    text = render(report)
    expected = [
        "Nightly evaluation", "20261122-1f3a", "Trained", "BM25", "71.12", "44.44", "30.00", "41.00", "35.50",
        "43.44", "45.44", "22.22", "100 job descriptions", "it ranks resumes best", "mntp", "simcse", "12,345", "988",
        "So little training", "2 cores", "69.0 to 73.3", "1.2", "c0ffee",
    ]  # fmt: skip
    for part in expected:
        assert part in text, part


def test_what_comes_first(report: EvaluationReport) -> None:
    page = Page(render_html(report)).text
    order = [
        "Trained is served: it ranks resumes best.",
        "100 job descriptions",
        "All tasks",
        "At a glance",
        "Training",
    ]
    order += ["Notes", "How to read this", "Where the figures come from"]
    places = [page.index(heading) for heading in order]
    assert places == sorted(places)


def test_the_best_of_a_row_is_marked_and_averages_compare_like_with_like(report: EvaluationReport) -> None:
    markdown = render_markdown(report)
    assert "| JobResumeRetrieval | ndcg\\_at\\_10 | **44.44** | 41.00 |" in markdown
    assert "| OtherRetrieval | ndcg\\_at\\_10 | 30.00 | **35.50** |" in markdown
    assert "| *Average of 2* | | 37.22 | **38.25** |" in markdown
    assert "| STSSmall | cosine\\_spearman | 71.12 (69.0 to 73.3) | – |" in markdown
    assert "| **Average of 3 tasks** | | 48.52 | – |" in markdown


def test_tables_of_the_markdown_are_tables(report: EvaluationReport) -> None:
    html = MarkdownIt("commonmark").enable("table").render(render_markdown(report))
    rows = Page(html).rows
    assert html.count("<table>") == 5
    assert ["OtherRetrieval", "ndcg_at_10", "30.00", "35.50"] in rows
    assert ["BM25", "41.00", "40.00", "42.00", "20.50"] in rows
    assert "|" not in Page(html).text


def evil(report: EvaluationReport) -> EvaluationReport:
    system = report.systems[0].model_copy(update={"name": EVIL, "description": EVIL})
    return report.model_copy(
        update={
            "title": EVIL,
            "run_id": EVIL,
            "systems": (system, *report.systems[1:]),
            "decision": Decision(served=EVIL, reason=EVIL, candidate=EVIL, incumbent=EVIL),
            "training": (report.training[0].model_copy(update={"stage": EVIL}),),
            "notes": (EVIL,),
            "machine": {EVIL: EVIL},
        }
    )


def test_text_from_data_is_only_text_on_the_page(report: EvaluationReport) -> None:
    page = Page(render_html(evil(report)))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) >= 10


def test_text_from_data_is_only_text_in_markdown(report: EvaluationReport) -> None:
    page = Page(MarkdownIt("commonmark").enable("table").render(render_markdown(evil(report))))
    assert not {tag for tag, _ in page.tags} & {"script", "a", "code"}
    assert page.text.count(EVIL) >= 10
    assert ["JobResumeRetrieval", "ndcg_at_10", "44.44", "41.00"] in page.rows


def test_plots_are_files_of_their_kind(report: EvaluationReport) -> None:
    plots = plot_main_scores(report)
    assert set(plots) == {"main_scores.png", "main_scores.svg", "training_loss.png", "training_loss.svg"}
    assert plots["main_scores.png"].startswith(b"\x89PNG")
    drawn = plots["main_scores.svg"].decode()
    assert all(name in drawn for name in ("Trained", "BM25", "OtherRetrieval", "STSSmall"))
    assert plots == plot_main_scores(report)


def test_a_bare_report_is_a_report() -> None:
    bare = EvaluationReport(title="Empty", created_at=datetime(2026, 1, 1, tzinfo=UTC), run_id="r", systems=())
    assert "Empty" in render_html(bare)
    assert "Nothing was to be decided." in render_markdown(bare)
    assert plot_main_scores(bare) == {}


def test_a_report_survives_json(report: EvaluationReport) -> None:
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_results_on_other_data_have_a_row_of_their_own(report: EvaluationReport) -> None:
    other = score("OtherRetrieval", "Retrieval", 99.0, content_sha256="d" * 64)
    changed = report.systems[1].model_copy(update={"scores": (other,)})
    markdown = render_markdown(report.model_copy(update={"systems": (report.systems[0], changed)}))
    assert "| OtherRetrieval | ndcg\\_at\\_10 | 30.00 | – |" in markdown
    assert "| OtherRetrieval | ndcg\\_at\\_10 | – | 99.00 |" in markdown

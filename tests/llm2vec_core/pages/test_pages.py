"""Pages: one template renders as Markdown and as HTML, data is escaped, and tables explain their marks."""

import sys
from pathlib import Path

import jinja2
import pytest

from llm2vec_core.pages import NOTHING, Cell, Column, Group, Table, TableRow, render_page
from llm2vec_core.pages.rendering import PageForm

EVIL = "<b>bold</b> | *x* [link](http://evil.example)"


@pytest.fixture
def render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Renders the body of a page that is written in the test."""
    package = tmp_path / "made_up_pages"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "made_up_pages", raising=False)

    def make(body: str, form: PageForm, **values: object) -> str:
        frame = "{% import macros as page %}{% call page.document('Title', 'eyebrow', 'lead') %}\n"
        (package / "page.j2").write_text(f"{frame}{body}\n{{% endcall %}}", encoding="utf-8")
        return render_page("made_up_pages", "page.j2", form, **values)

    return make


def table(best_of: str = "its column") -> Table:
    rows = (TableRow("one", (Cell("1.0", "best", ("10.9 to 11.1",)), NOTHING)), TableRow("two", (Cell("0.5"), NOTHING)))
    return Table("Scores", "System", (Column("a"), Column("b")), (Group("", rows),), best_of)


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_every_macro_is_there_in_both_forms(render, form):
    body = """
    {% call page.section("Heading") %}
    {% call page.paragraph() %}Words.{% endcall %}
    {% call page.small() %}Small print.{% endcall %}
    {{ page.list_of(["first", "second"]) }}
    {{ page.meanings([("term", "meaning")]) }}
    {{ page.table(table) }}
    {{ page.figure("label", "caption", "drawing") }}
    {% call page.folded("Summary") %}{{ page.note_of }}{% endcall %}
    {% endcall %}"""
    page = render(body, form, table=table())
    parts = ["Title", "eyebrow", "lead", "Heading", "Words.", "Small print.", "first", "second", "term", "meaning"]
    assert all(part in page for part in [*parts, "Scores", "10.9 to 11.1", "the best of its column", "Summary"])
    assert ("caption" in page.replace("<caption>", "").replace("figcaption", "")) == (form == "html")


def test_a_section_without_content_is_left_out(render):
    body = '{% call page.section("Plots") %}{{ page.figure("label", "caption", "drawing") }}{% endcall %}'
    assert "<h2>Plots</h2>" in render(body, "html")
    assert "Plots" not in render(body, "markdown")
    assert "Empty" not in render('{% call page.section("Empty") %} {% endcall %}', "html")


def test_text_from_data_is_only_text(render):
    body = "{% call page.paragraph() %}{{ text }}{% endcall %}"
    assert "&lt;b&gt;bold&lt;/b&gt; | *x*" in render(body, "html", text=EVIL)
    assert r"&lt;b>bold&lt;/b> \| \*x\* \[link\]" in render(body, "markdown", text=EVIL)


def test_an_unknown_name_in_a_template_is_an_error(render):
    with pytest.raises(jinja2.UndefinedError, match="nobody"):
        render("{{ nobody }}", "html")


def test_a_table_knows_its_marks_and_its_width():
    assert table().has_mark("best") and not table().has_mark("tied")
    assert table().column_groups == () and not table().is_wide
    columns = tuple(Column(name, group="STS" if name < "d" else "") for name in "abcde")
    wide = Table("Scores", "System", columns, ())
    assert wide.column_groups == (("STS", 3), ("", 2))
    assert wide.is_wide

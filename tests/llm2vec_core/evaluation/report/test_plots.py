import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from llm2vec_core.evaluation.report import EvaluationReport, plot_files
from llm2vec_core.evaluation.report.plots import plots, save


def drawn_text(svg: bytes) -> str:
    tree = ElementTree.fromstring(svg)
    return "\n".join("".join(one.itertext()) for one in tree.iter("{http://www.w3.org/2000/svg}text"))


def test_plots_are_files_of_their_kind_and_the_same_every_time(report: EvaluationReport) -> None:
    files = plot_files(report)
    names = ("main_scores", "heat_map", "training_loss")
    assert set(files) == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert all(content.startswith(b"\x89PNG") for name, content in files.items() if name.endswith("png"))
    text = drawn_text(files["main_scores.svg"])
    assert all(name in text for name in ("Trained", "BM25", "OtherRetrieval", "STSSmall"))
    assert files == plot_files(report)


def test_there_is_a_plot_for_everything_there_is_data_for(rich_report: EvaluationReport) -> None:
    every = {name.split("_2")[0].split("_3")[0] for name in plots(rich_report)}
    assert every == {"radar", "ablation", "main_scores", "heat_map", "distributions", "training_loss"}


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        ({"averages": ()}, {"radar", "ablation"}),
        ({"distributions": ()}, {"distributions"}),
        ({"training": ()}, {"training_loss"}),
    ],
)
def test_no_plot_without_data(rich_report: EvaluationReport, left_out: dict[str, object], missing: set[str]) -> None:
    assert set(plots(rich_report)) - set(plots(rich_report.model_copy(update=left_out))) == missing


def test_the_heat_map_prints_its_values(rich_report: EvaluationReport) -> None:
    text = drawn_text(save(plots(rich_report)["heat_map"].draw(), "svg"))
    for system in rich_report.systems:
        for score in system.scores:
            assert f"{score.main_score:.1f}" in text


def test_distributions_name_the_share_of_zeros(rich_report: EvaluationReport) -> None:
    text = drawn_text(save(plots(rich_report)["distributions"].draw(), "svg"))
    for one in rich_report.distributions:
        assert f"{one.share_zero:.0%}" in text
        assert one.task in text


def test_figure_3_has_a_panel_a_base_model(rich_report: EvaluationReport) -> None:
    text = drawn_text(save(plots(rich_report)["ablation"].draw(), "svg"))
    for word in ("smollm2-135m", "tiny-llama", "EOS", "Mean", "W. mean", "Bi + MNTP + SimCSE", "Uni, echo"):
        assert word in text


def test_a_radar_needs_three_categories_and_shows_few_systems(rich_report: EvaluationReport) -> None:
    assert "the 6 best of the 10 systems" in plots(rich_report)["radar"].caption
    two = tuple(one for one in rich_report.averages if one.scope in ("Retrieval", "STS", "all"))
    assert "radar" not in plots(rich_report.model_copy(update={"averages": two}))


def test_a_large_plot_goes_on_in_a_further_figure(make_large_report: Callable[[int, int], EvaluationReport]) -> None:
    large = make_large_report(20, 14)
    found = [plot for name, plot in plots(large).items() if name.startswith("main_scores")]
    assert len(found) > 1
    figures = [plot.draw() for plot in found]
    titles = [axes.get_title(loc="left") for figure in figures for axes in figure.axes if axes.get_visible()]
    assert len(titles) == 14
    assert all(figure.get_figheight() < 10 for figure in figures)


def test_names_that_mean_something_to_the_drawing_are_drawn_as_they_are(report: EvaluationReport) -> None:
    odd = report.systems[0].model_copy(update={"name": "_a $x_1$ & <b>"})
    files = plot_files(report.model_copy(update={"systems": (odd, report.systems[1])}))
    assert "a $x_1$ & <b>" in drawn_text(files["main_scores.svg"]).replace("\n", " ")

import pytest

from llm2vec_core.errors import CoreError
from llm2vec_core.evaluation.published import (
    MTEB_15,
    MTEB_56,
    PAPER_ROWS,
    SUBSET_15,
    canonical_model,
    find_published,
    parse_published,
    published_scores,
    row_of,
)
from llm2vec_core.evaluation.results import ALL_SCOPE, PublishedScore
from llm2vec_core.evaluation.systems import SystemTraits
from llm2vec_core.evaluation.tasks.types import EVAL_TASK_TYPES

TABLE_1 = {
    "BERT": ("BERT", "BERT + SimCSE"),
    "S-LLaMA-1.3B": ("Uni + w. Mean", "LLM2Vec (w/o SimCSE)", "LLM2Vec", "Echo"),
    "LLaMA-2-7B": ("Uni + w. Mean", "LLM2Vec (w/o SimCSE)", "LLM2Vec", "Echo"),
    "Mistral-7B": ("Uni + w. Mean", "Bi + Mean", "LLM2Vec (w/o SimCSE)", "LLM2Vec", "Echo"),
    "Meta-LLaMA-3-8B": ("Uni + w. Mean", "Bi + Mean", "LLM2Vec (w/o SimCSE)", "LLM2Vec", "Echo"),
}
FIGURES = {(figure.model, figure.system, figure.scope): figure for figure in published_scores()}
ROWS = list(dict.fromkeys((figure.model, figure.system) for figure in published_scores()))
SUPERVISED = "Supervised LLM2Vec (w/o SimCSE)"


def only(model: str, scope: str, system: str) -> PublishedScore:
    (figure,) = find_published(model, scope, system)
    return figure


def known(model: str, system: str, scopes: tuple[str, ...]) -> list[float] | None:
    """The figures of all scopes, or none if one is missing."""
    figures = [FIGURES.get((model, system, scope)) for scope in scopes]
    return None if None in figures else [figure.score for figure in figures if figure]


def test_table_1_is_whole() -> None:
    for model, systems in TABLE_1.items():
        for system in systems:
            assert known(model, system, (*MTEB_56, ALL_SCOPE)), (model, system)
    assert only("BERT", "Retrieval", "BERT").score == 10.59
    assert only("Meta-LLaMA-3-8B", "Clustering", "Bi + Mean").score == 14.27
    assert only("Mistral-7B", ALL_SCOPE, "Echo").score == 50.26


def test_table_5_is_whole() -> None:
    cells = [row for row in PAPER_ROWS if "," in row]
    assert len(cells) == 6 * 3
    for model in ("S-LLaMA-1.3B", "LLaMA-2-7B", "Mistral-7B"):
        for cell in cells:
            assert only(model, SUBSET_15, cell).source.endswith("Table 5")
    assert only("S-LLaMA-1.3B", SUBSET_15, "Uni + SimCSE, weighted_mean").score == 47.13
    assert only("Mistral-7B", SUBSET_15, "Uni, eos").score == 22.12


def test_averages_follow_from_the_categories() -> None:
    weights = [len(MTEB_56[category]) for category in MTEB_56]
    compared = 0
    for model, system in ROWS:
        scores = known(model, system, tuple(MTEB_56))
        if scores is not None:
            compared += 1
            recomputed = sum(score * weight for score, weight in zip(scores, weights, strict=True)) / 56
            assert recomputed == pytest.approx(only(model, ALL_SCOPE, system).score, abs=0.02), (model, system)
    assert compared == sum(map(len, TABLE_1.values())) + 4


def test_categories_follow_from_their_tasks() -> None:
    compared = 0
    for model, system in ROWS:
        for category, tasks in MTEB_56.items():
            scores = known(model, system, tasks)
            if scores is not None:
                compared += 1
                recomputed = sum(scores) / len(tasks)
                assert recomputed == pytest.approx(only(model, category, system).score, abs=0.02), (model, category)
    assert compared == 6 * 7 + 5  # six models have every task, supervised Mistral those of five categories


def test_the_unsupervised_models_have_every_task() -> None:
    tasks = tuple(task for names in MTEB_56.values() for task in names)
    for model in ("S-LLaMA-1.3B", "LLaMA-2-7B", "Mistral-7B", "Meta-LLaMA-3-8B"):
        assert known(model, "LLM2Vec", tasks) is not None
    for model in ("S-LLaMA-1.3B", "Meta-LLaMA-3-8B"):
        assert known(model, SUPERVISED, tasks) is not None


def test_ablation_averages_follow_from_the_fifteen_tasks() -> None:
    """The stored scores give the paper's Table 5 to a tenth of a point, not to the hundredth."""
    for model in ("S-LLaMA-1.3B", "LLaMA-2-7B", "Mistral-7B", "Meta-LLaMA-3-8B"):
        scores = known(model, "LLM2Vec", MTEB_15)
        assert scores is not None
        figure = only(model, SUBSET_15, "Bi + MNTP + SimCSE, mean")
        assert sum(scores) / 15 == pytest.approx(figure.score, abs=0.1)
        if figure.other_score is not None:
            assert sum(scores) / 15 == pytest.approx(figure.other_score, abs=0.01)


@pytest.mark.parametrize(
    ("model", "system", "scope", "paper", "poster"),
    [
        ("LLaMA-2-7B", "LLM2Vec", ALL_SCOPE, 55.36, 55.56),
        ("Mistral-7B", "LLM2Vec", "STS", 78.50, 78.80),
        ("Meta-LLaMA-3-8B", "LLM2Vec (w/o SimCSE)", "Summarization", 25.59, 25.99),
    ],
)
def test_figures_that_two_sources_give_differently_carry_both(
    model: str, system: str, scope: str, paper: float, poster: float
) -> None:
    figure = only(model, scope, system)
    assert (figure.score, figure.other_score) == (paper, poster)
    assert "paper" in figure.source
    assert figure.other_source is not None and "poster" in figure.other_source


def test_every_figure_names_its_source() -> None:
    for figure in published_scores():
        assert figure.source
        assert (figure.other_score is None) == (figure.other_source is None)
        assert figure.other_score != figure.score


def test_minilm_has_its_published_figures() -> None:
    figures = {figure.scope: figure.score for figure in published_scores() if figure.model == "all-MiniLM-L6-v2"}
    assert figures == {"STSBenchmark": 82.03, "STS13": 80.60, "STS14": 75.59, "Banking77Classification": 80.04}


def test_figures_are_found_by_any_name_of_the_model() -> None:
    figures = find_published("bundled:all-minilm-l6-v2", "STSBenchmark")
    assert [(figure.system, figure.score) for figure in figures] == [("all-MiniLM-L6-v2", 82.03)]
    systems = [figure.system for figure in find_published("LLaMA-2-7B", "CQADupstackRetrieval")]
    assert systems == ["LLM2Vec", SUPERVISED]
    assert find_published("LLaMA-2-7B", "SomeOtherTask") == ()
    assert find_published("smollm2-135m", ALL_SCOPE) == ()


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("princeton-nlp/Sheared-LLaMA-1.3B", "S-LLaMA-1.3B"),
        ("meta-llama/Llama-2-7b-chat-hf", "LLaMA-2-7B"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "Mistral-7B"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "Meta-LLaMA-3-8B"),
        ("/models/Meta-Llama-3-8B-Instruct/", "Meta-LLaMA-3-8B"),
        ("bert-base-uncased", "BERT"),
        ("google-bert/bert-base-uncased", "BERT"),
        ("bundled:all-minilm-l6-v2", "all-MiniLM-L6-v2"),
        ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("LLaMA-2-7B", "LLaMA-2-7B"),
        ("meta-llama/Llama-2-7b-hf", None),
        ("meta-llama/Meta-Llama-3-8B", None),
        ("mistralai/Mistral-7B-Instruct-v0.3", None),
        ("bundled:smollm2-135m", None),
        ("", None),
    ],
)
def test_names_of_the_same_weights_mean_one_model(name: str, model: str | None) -> None:
    assert canonical_model(name) == model


def traits(base_model: str, suffix: str) -> SystemTraits:
    """The traits that the modes of an encoder's name give."""
    modes = suffix.removeprefix("+").split("+")
    echo = "echo" in modes
    attention, *stages, pooling_mode = [mode for mode in modes if mode != "echo"]
    return SystemTraits.model_validate(
        {
            "base_model": base_model,
            "attention": attention,
            "stages": tuple(stages),
            "pooling_mode": pooling_mode,
            "echo": echo,
        }
    )


@pytest.mark.parametrize(("row", "suffix"), PAPER_ROWS.items())
def test_a_system_built_as_a_row_says_is_in_that_row(row: str, suffix: str) -> None:
    rows = row_of(traits("bundled:smollm2-135m", suffix))
    assert row in rows
    assert all(PAPER_ROWS[name] == suffix for name in rows)


def test_rows_of_both_tables_meet() -> None:
    assert row_of(traits("LLaMA-2-7B", "+bidirectional+mntp+simcse+mean")) == ("LLM2Vec", "Bi + MNTP + SimCSE, mean")
    assert row_of(traits("LLaMA-2-7B", "+causal+echo+mean")) == ("Echo",)


def test_a_configuration_of_no_table_is_in_no_row() -> None:
    assert row_of(traits("LLaMA-2-7B", "+causal+mntp+mean")) == ()
    assert row_of(traits("LLaMA-2-7B", "+causal+last")) == ()
    assert row_of(traits("LLaMA-2-7B", "+bidirectional+simcse+mntp+mean")) == ()
    assert row_of(traits("LLaMA-2-7B", "+bidirectional+echo+mean")) == ()


def test_encoder_only_models_have_rows_of_their_own() -> None:
    assert row_of(traits("google-bert/bert-base-uncased", "+bidirectional+mean")) == ("BERT",)
    assert row_of(traits("bert-base-uncased", "+bidirectional+simcse+mean")) == ("BERT + SimCSE",)
    assert row_of(traits("all-minilm-l6-v2", "+bidirectional+mean")) == ("all-MiniLM-L6-v2",)
    assert row_of(traits("all-minilm-l6-v2", "+bidirectional+simcse+mean")) == ()


def test_modes_of_rows_are_readable_as_names_of_encoders() -> None:
    from llm2vec_core.model.modes import parse_encoder_name

    for suffix in PAPER_ROWS.values():
        name = parse_encoder_name(f"some-base{suffix}")
        assert traits("some-base", suffix).stages == (name.stages or ())


ROW = '[by_system.rows."BERT"]\n"BERT" = [1.0, 2.0]\n'
BLOCK = f'[[by_system]]\nsource = "s"\nscopes = ["STS", "all"]\n{ROW}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[by_system", "cannot be read"),
        (BLOCK + 'colour = "blue"\n', "cannot be read"),
        (BLOCK.replace("2.0", '"2.0"'), "cannot be read"),
        (BLOCK.replace("2.0", "200.0"), "cannot be read"),
        (BLOCK.replace("2.0", "nan"), "cannot be read"),
        (BLOCK.replace(", 2.0", ""), "'BERT, BERT' of the published figures has 1 cells for 2 columns"),
        (BLOCK.replace('rows."BERT"', 'rows."GPT"'), "unknown model"),
        (BLOCK.replace('"STS"', '"Haiku"'), "unknown scope"),
        (BLOCK + BLOCK, "appears twice"),
        (
            BLOCK + '[[other]]\nmodel = "BERT"\nsystem = "BERT"\nscope = "STS12"\nscore = 3.0\nsource = "t"\n',
            "have no first figure",
        ),
    ],
)
def test_a_file_with_a_fault_is_refused(text: str, message: str) -> None:
    with pytest.raises(CoreError, match=message):
        parse_published(text)


def test_a_dash_is_no_figure() -> None:
    (figure,) = parse_published(BLOCK.replace("2.0", '"-"'))
    assert (figure.scope, figure.score) == ("STS", 1.0)


def test_the_lists_of_tasks_are_those_of_mteb() -> None:
    import mteb

    found: dict[str, set[str]] = {}
    for task in mteb.get_benchmark("MTEB(eng, v1)").tasks:
        found.setdefault(task.metadata.type, set()).add(task.metadata.name)
    assert {category: set(names) for category, names in MTEB_56.items()} == found


def test_the_lists_of_tasks_have_the_sizes_of_the_paper() -> None:
    assert [len(tasks) for tasks in MTEB_56.values()] == [15, 4, 11, 3, 12, 10, 1]
    assert list(MTEB_56) == list(EVAL_TASK_TYPES[:7])
    names = [name for tasks in MTEB_56.values() for name in tasks]
    assert len(set(names)) == len(names) == 56
    assert list(MTEB_15) == [name for name in names if name in MTEB_15]
    assert len(MTEB_15) == 15

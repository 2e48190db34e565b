import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2vec_core.errors import InputError
from llm2vec_core.model.modes import (
    ATTENTIONS,
    POOLING_MODES,
    RANKING_MODES,
    STAGES,
    EncoderName,
    EncoderView,
    parse_encoder_name,
    view_fingerprint,
)

views = st.builds(
    EncoderView,
    st.none() | st.sampled_from(ATTENTIONS),
    st.none() | st.sampled_from(POOLING_MODES),
    st.booleans(),
    st.booleans(),
)
stages = st.sets(st.sampled_from(STAGES), min_size=1).map(lambda named: tuple(each for each in STAGES if each in named))
names = st.builds(
    EncoderName,
    st.from_regex(r"[a-z0-9:/._-]+", fullmatch=True).filter(lambda source: source.strip("./")),
    views,
    st.none() | stages,
    st.sampled_from(["cut", "parts", "sections"]),
    st.booleans(),
    st.booleans(),
    st.none() | st.sampled_from(RANKING_MODES),
)


@given(names, st.randoms())
def test_a_name_is_read_back_in_any_order_of_its_modes(name, random):
    source, *modes = str(name).split("+")
    assert parse_encoder_name(str(name)) == name
    random.shuffle(modes)
    assert parse_encoder_name("+".join((source, *modes))) == name


def test_all_parts_of_a_name():
    name = parse_encoder_name("bundled:smollm2-135m+echo+simcse+causal+hybrid+mntp+weighted_mean")
    assert name.source == "bundled:smollm2-135m"
    assert name.view == EncoderView("causal", "weighted_mean", echo=True)
    assert name.stages == ("mntp", "simcse")
    assert name.ranking == "hybrid"
    assert str(name) == "bundled:smollm2-135m+causal+mntp+simcse+weighted_mean+echo+hybrid"


def test_a_plain_name_changes_nothing():
    name = parse_encoder_name("org/model")
    assert name == EncoderName("org/model")
    assert name.stages is None
    assert not name.view


def test_an_unknown_mode_is_refused_and_all_modes_are_listed():
    with pytest.raises(InputError, match="wmean") as raised:
        parse_encoder_name("x+wmean")
    for mode in (*ATTENTIONS, *POOLING_MODES, *STAGES, "echo", "standardised", *RANKING_MODES):
        assert mode in raised.value.hint


@pytest.mark.parametrize("modes", ["causal+bidirectional", "mean+last", "mean+mean", "mntp+mntp", "echo+echo"])
def test_a_kind_named_twice_is_refused(modes):
    with pytest.raises(InputError, match="more than once") as raised:
        parse_encoder_name(f"x+{modes}")
    assert modes.replace("+", ", ") in str(raised.value)


@pytest.mark.parametrize("name", ["", "+causal"])
def test_a_name_without_a_source_is_refused(name):
    with pytest.raises(InputError, match="source"):
        parse_encoder_name(name)


def test_a_directory_may_have_a_plus_sign_in_its_name(tmp_path):
    directory = tmp_path / "c+mean"
    directory.mkdir()
    assert parse_encoder_name(str(directory)) == EncoderName(str(directory))
    name = parse_encoder_name(f"{directory}+last+echo")
    assert name == EncoderName(str(directory), EncoderView(None, "last", echo=True))
    assert parse_encoder_name(str(name)) == name


@given(views, st.sampled_from(ATTENTIONS), st.none() | st.sampled_from(POOLING_MODES))
def test_a_view_is_true_where_it_changes_something(view, attention, pooling_mode):
    changes = view.changes(attention=attention, pooling_mode=pooling_mode)
    assert changes.changes(attention=attention, pooling_mode=pooling_mode) == changes
    assert bool(view) == (view != EncoderView()) == bool(str(view))
    assert (view_fingerprint("f", changes) == "f") == (not changes)


def test_a_standardisation_stands_as_long_as_nothing_else_changes():
    saved = {"attention": "causal", "pooling_mode": "mean", "standardised": True}
    assert not EncoderView(standardised=True).changes(**saved)
    assert not EncoderView().changes(**saved)
    assert EncoderView(pooling_mode="last", standardised=True).changes(**saved).standardised, "measured anew"
    assert not EncoderView(pooling_mode="last").changes(**saved).standardised, "taken out"


def test_what_a_standardisation_was_measured_on_is_part_of_its_identity():
    view = EncoderView(standardised=True)
    assert view_fingerprint("f", view, calibration=["a"]) != view_fingerprint("f", view, calibration=["b"])
    plain = EncoderView("causal")
    assert view_fingerprint("f", plain, calibration=["a"]) == view_fingerprint("f", plain)


def test_the_identity_of_a_view_is_that_of_its_canonical_form():
    """Frozen: scores and vectors of former runs are kept under it."""
    view = EncoderView("causal", "eos", echo=True)
    identity = view_fingerprint("f" * 64, view)
    assert str(view) == "causal+eos+echo"
    assert identity == "2b1b1ba6c5230d4868b590d6e38ed34e1885ede9bc844114536b03f95ec28ca8"


def test_names_and_encodings_load_no_torch():
    script = "import sys; import llm2vec_core.model.modes, llm2vec_core.encoding.result; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

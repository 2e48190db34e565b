"""System names: each system occurs once, equal encoders are shared, and names are unique."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.encoding.result import Encoding
from llm2vec_core.encoding.views import encode_together
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.model.modes import EncoderView, LongTexts, parse_encoder_name
from llm2vec_core.training.settings import Recipe
from tasks.encoders.checkpoints import cached_views, store_checkpoint
from tasks.encoders.names import resolve_encoder
from tasks.encoders.systems import NamedSystem, resolve_systems
from tasks.run.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, tiny_base: Path) -> Settings:
    return Settings(home=str(tmp_path / "home"), train=Recipe(base_model=str(tiny_base), max_tokens=64))


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a model was loaded to answer for a name")

    monkeypatch.setattr("tasks.encoders.systems.cached_views", fail)


def names(systems: list[NamedSystem]) -> list[str]:
    return [named.system.name for named in systems]


def test_keyword_search_has_a_name_of_its_own(settings: Settings) -> None:
    (found,) = resolve_systems(settings.store(), settings, ["BM25"])
    assert (found.system.name, found.system.mode, found.system.encoder) == ("BM25", "lexical", None)
    assert found.description == "keyword search"


def test_a_dense_system_and_its_hybrid_encode_every_text_once(settings: Settings, tiny_base: Path) -> None:
    hybrid, dense, other = resolve_systems(
        settings.store(), settings, [f"{tiny_base}+hybrid", f"{tiny_base}", f"{tiny_base}+mean"]
    )
    assert dense.system.encoder is not None
    assert hybrid.system.encoder is dense.system.encoder is not other.system.encoder
    assert (hybrid.system.mode, dense.system.mode) == ("hybrid", "dense")
    assert names([hybrid, dense]) == [f"{tiny_base.name} Uni, w. mean, hybrid", f"{tiny_base.name} Uni, w. mean"]
    assert hybrid.description == f"BM25 and {dense.description}"
    assert hybrid.system.traits == dense.system.traits
    assert len({each.system.fingerprint for each in (hybrid, dense, other)}) == 3


def test_long_texts_are_read_as_they_would_be_served(
    settings: Settings, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.encoders.systems.cached_views", cached_views)
    text = "Summary: " + "cooks " * 100 + "\nSkills:\nknives"
    asked = [f"{tiny_base}{modes}" for modes in ("", "+cut", "+parts", "+sections", "+sections+hybrid")]
    cut, parts, sections, hybrid = resolve_systems(settings.store(), settings, asked)
    assert [each.system.mode for each in (cut, parts, sections, hybrid)] == ["dense", "dense", "dense", "hybrid"]
    encoders = [each.system.encoder for each in (cut, parts, sections, hybrid)]
    assert len({each.fingerprint for each in encoders if each}) == 3
    directory = resolve_encoder(settings.store(), settings, parse_encoder_name(str(tiny_base))).directory
    (encoder,) = cached_views(directory, settings.encode, (EncoderView(),))
    ways: tuple[LongTexts, ...] = ("cut", "parts", "sections")
    for found, long_texts in zip(encoders, ways, strict=False):
        assert found is not None
        np.testing.assert_allclose(found.encode([text]), encoder.encode([text], long_texts=long_texts), atol=1e-5)


def test_an_instructed_system_is_another_one_of_the_same_encoder(settings: Settings, tiny_base: Path) -> None:
    asked = [f"{tiny_base}{modes}" for modes in ("", "+instructed", "+instructed+hybrid")]
    plain, instructed, hybrid = resolve_systems(settings.store(), settings, asked)
    assert plain.system.encoder is instructed.system.encoder is hybrid.system.encoder
    assert [each.system.instructed for each in (plain, instructed, hybrid)] == [False, True, True]
    title = f"{tiny_base.name} Uni, w. mean"
    assert names([instructed, hybrid]) == [f"{title}, instructed", f"{title}, instructed, hybrid"]
    assert len({each.system.fingerprint for each in (plain, instructed, hybrid)}) == 3


def test_a_fusion_is_that_of_the_settings(settings: Settings, tiny_base: Path) -> None:
    match = settings.match.model_copy(update={"candidates": 7})
    asked = [f"{tiny_base}{modes}" for modes in ("", "+hybrid", "+tuned")]
    dense, *fused = resolve_systems(settings.store(), settings.model_copy(update={"match": match}), asked)
    assert [found.system.candidates for found in (dense, *fused)] == [100, 7, 7]
    parts = ["legs 7 5 4", "hybrid", "bm25-okapi-k1.5-b0.75-words4", dense.system.fingerprint]
    stored = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    assert fused[0].system.fingerprint == stored, "stored outcomes keep their keys"


def test_a_system_that_is_named_several_times_comes_once(settings: Settings, tiny_base: Path) -> None:
    asked = [
        *("bm25", "BM25", f"{tiny_base}", f"{tiny_base}+weighted_mean+causal", f"{tiny_base}"),
        *(f"{tiny_base}+hybrid", f"{tiny_base}+causal+hybrid"),
    ]
    assert [found.system.mode for found in resolve_systems(settings.store(), settings, asked)] == [
        "lexical",
        "dense",
        "hybrid",
    ]


def test_systems_of_one_title_are_told_apart_by_their_fingerprints(
    settings: Settings, tiny_base: Path, tmp_path: Path
) -> None:
    refs = []
    for max_tokens in (32, 64):
        directory = tmp_path / f"made-{max_tokens}"
        write_checkpoint(
            directory,
            backbone=tiny_base,
            spec=EncoderSpec(
                base_model=str(tiny_base),
                attention="bidirectional",
                pooling_mode="mean",
                max_tokens=max_tokens,
                stages=("mntp",),
            ),
        )
        refs.append(store_checkpoint(settings.store(), directory))
    asked = [f"{ref.fingerprint}{mode}" for ref in refs for mode in ("", "+hybrid")]
    found = resolve_systems(settings.store(), settings, ["bm25", *asked])
    assert set(Counter(names(found)).values()) == {1}
    title = f"{tiny_base.name} Bi + MNTP, mean"
    assert names(found)[0] == "BM25"
    assert names(found)[1::2] == [f"{title} ({ref.fingerprint[:6]})" for ref in refs]
    assert all(name.startswith(f"{title}, hybrid (") for name in names(found)[2::2])
    for dense, hybrid in (found[1:3], found[3:5]):
        assert hybrid.system.encoder is dense.system.encoder
    assert names(resolve_systems(settings.store(), settings, asked[:2])) == [title, f"{title}, hybrid"]


def test_one_name_that_leads_nowhere_is_a_mistake(settings: Settings, tiny_base: Path) -> None:
    with pytest.raises(InputError, match="abcdef012345"):
        resolve_systems(settings.store(), settings, ["bm25", f"{tiny_base}", "abcdef012345"])


def test_encoders_that_differ_in_pooling_alone_encode_in_one_pass(
    settings: Settings, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    passes: list[tuple[list[str], int]] = []

    def counted(encoders: list[Encoder], texts: list[str], **kwargs: object) -> list[Encoding]:
        passes.append((texts, len(encoders)))
        return encode_together(encoders, texts, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("llm2vec_core.encoding.views.encode_together", counted)
    modes = ("mean", "last", "mean+standardised", "bidirectional+mean", "eos")
    names = [f"{tiny_base}+{mode}" for mode in modes]
    for named in resolve_systems(settings.store(), settings, names):
        assert named.system.encoder is not None
        named.system.encoder.encode(["nurse", "cook"])
    assert [count for texts, count in passes if "nurse" in texts] == [3, 1, 1], "three poolings, other attention, EOS"

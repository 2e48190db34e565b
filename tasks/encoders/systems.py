"""Resolve names of systems: find the encoder, its view, and its name in reports.

Never imports prefect. Encoders are loaded only when a task needs to encode a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import InputError
from data.schema import sha256_json
from data.store.base import Store
from llm2vec_core.encoding.result import Encoding
from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce, share_passes
from llm2vec_core.evaluation.systems import HOW_LONG_TEXTS_ARE_READ, LEXICAL_NAME, OVERLAP_NAME, System
from llm2vec_core.evaluation.tasks.expansion import Expansion
from llm2vec_core.model.modes import EncoderView, LongTexts, RankingMode, parse_encoder_name
from llm2vec_core.ranking.reranking import Reranking
from tasks.encoders.checkpoints import base_models_dir, cached_views, load_reranker
from tasks.encoders.judged import read_all_judgments
from tasks.encoders.names import ResolvedEncoder, resolve_encoder
from tasks.run.settings import EncodeSettings, Settings

if TYPE_CHECKING:
    from llm2vec_core.encoding.encoder import Encoder


EXPANDED_NAME = f"{LEXICAL_NAME}+expanded"
"""Name of BM25 over documents with their training texts."""


@dataclass(frozen=True)
class NamedSystem:
    """A system with its description for reports."""

    system: System
    description: str


def lexical_system() -> NamedSystem:
    """Keyword search."""
    return NamedSystem(System("BM25", "lexical"), "keyword search")


def overlap_system() -> NamedSystem:
    """Word overlap of pairs."""
    return NamedSystem(System("Word overlap", "overlap"), "shared words of two texts (Jaccard)")


def expanded_system(settings: Settings) -> NamedSystem:
    """Keyword search over documents with the training texts of the judgments behind them.

    Raises:
        InputError: The settings name no judgments.
    """
    return _expanded(settings, lexical_system())


def _expanded(settings: Settings, plain: NamedSystem) -> NamedSystem:
    """The same system, which finds documents by the training texts that belong to them, too."""
    judged = read_all_judgments(settings.judgments)
    expansion = Expansion.of_pairs((each.anchor, each.positive) for each in judged)
    system = replace(
        plain.system, name=f"{plain.system.name}, documents with their training texts", expansion=expansion
    )
    return NamedSystem(system, f"{plain.description}; {len(judged):,} judgments expand the documents")


def dense_system(settings: Settings, encoder: ResolvedEncoder, *, name: str | None = None) -> NamedSystem:
    """Return a system that ranks by the vectors of an encoder."""
    (remembering,) = _remembering(settings, [encoder]).values()
    return _dense(encoder, remembering, name=name or encoder.title)


def instructed_system(dense: NamedSystem) -> NamedSystem:
    """The same system with each task's instruction before its texts. Vectors without instruction are shared."""
    system = replace(dense.system, name=f"{dense.system.name}, instructed", instructed=True)
    return NamedSystem(system, f"{dense.description}, with the instruction of each task")


def hybrid_system(settings: Settings, dense: NamedSystem, *, name: str | None = None) -> NamedSystem:
    """The fusion of a dense system with BM25, as in matching and search; it shares the dense system's vectors."""
    system = replace(
        dense.system, name=name or f"{dense.system.name}, hybrid", mode="hybrid", candidates=settings.match.candidates
    )
    return NamedSystem(system, f"BM25 and {dense.description}")


def tuned_system(settings: Settings, dense: NamedSystem, *, name: str | None = None) -> NamedSystem:
    """The fusion of a dense system with BM25, with a weight tuned on judged queries."""
    system = replace(
        dense.system, name=name or f"{dense.system.name}, tuned", mode="tuned", candidates=settings.match.candidates
    )
    description = (
        f"BM25 and {dense.description}, weighted; the weight of each half of the queries is tuned on the other"
    )
    return NamedSystem(system, description)


def reranked_system(store: Store, settings: Settings, dense: NamedSystem, *, name: str | None = None) -> NamedSystem:
    """The fusion of a dense system with BM25; the cross-encoder of the settings reranks its first documents.

    Raises:
        InputError: The settings name no cross-encoder.
        BaseModelError: Its weights are not available.
    """
    if settings.match.reranker is None:
        raise InputError(
            "match.reranker names no cross-encoder.", hint="Set it to a directory or a hub name of a cross-encoder."
        )
    reranker = load_reranker(settings.match.reranker, base_models_dir(store))
    reranking = Reranking(reranker)
    fused = hybrid_system(settings, dense, name=name or f"{dense.system.name}, re-ranked")
    system = replace(fused.system, mode="reranked", reranking=reranking)
    return NamedSystem(system, f"{fused.description}, re-ranked by {settings.match.reranker}")


def resolve_systems(store: Store, settings: Settings, names: Sequence[str]) -> list[NamedSystem]:
    """Systems by name: fingerprints, directories, model names, ``bm25``, ``jaccard``; ``NAME+hybrid`` and so on fuse.

    With ``+expanded``, documents are found by the training texts of ``judgments.sources``, too.

    Raises:
        InputError: A name matches no encoder, or reranking has no cross-encoder.
    """
    distinct = list(dict.fromkeys(names))
    by_words: dict[str, Callable[[], NamedSystem]] = {
        LEXICAL_NAME: lexical_system,
        OVERLAP_NAME: overlap_system,
        EXPANDED_NAME: partial(expanded_system, settings),
    }
    parsed = {name: parse_encoder_name(name) for name in distinct if name.lower() not in by_words}
    encoders = {name: resolve_encoder(store, settings, each) for name, each in parsed.items()}
    remembering = _remembering(settings, list(encoders.values()))
    systems: list[NamedSystem] = []
    for name in distinct:
        if name not in parsed:
            systems.append(by_words[name.lower()]())
            continue
        encoder = encoders[name]
        long_texts = parsed[name].long_texts
        if long_texts == "cut":
            found = _dense(encoder, remembering[encoder.fingerprint], name=encoder.title)
        else:
            found = _long_text_system(settings, encoder, long_texts)
        if parsed[name].instructed:
            found = instructed_system(found)
        if parsed[name].expanded:
            found = _expanded(settings, found)
        systems.append(_ranked(store, settings, found, parsed[name].ranking))
    return _distinct(systems)


def _long_text_system(settings: Settings, encoder: ResolvedEncoder, long_texts: LongTexts) -> NamedSystem:
    """A system that encodes long texts as ``encode.long_texts`` says."""
    load = partial(_load_one, encoder.directory, settings.encode, (encoder.view,), 0)
    fingerprint = sha256_json([encoder.fingerprint, long_texts])
    remembering = EncodeOnce(fingerprint, lambda: load().with_long_texts(long_texts))
    how = HOW_LONG_TEXTS_ARE_READ[long_texts]
    system = System(f"{encoder.title}, {how}", "dense", remembering, encoder.traits)
    return NamedSystem(system, f"{encoder.label}, long texts {how}")


def _ranked(store: Store, settings: Settings, dense: NamedSystem, ranking: RankingMode | None) -> NamedSystem:
    if ranking == "hybrid":
        return hybrid_system(settings, dense)
    if ranking == "tuned":
        return tuned_system(settings, dense)
    return dense if ranking is None else reranked_system(store, settings, dense)


def _dense(encoder: ResolvedEncoder, remembering: EncodeOnce, *, name: str) -> NamedSystem:
    return NamedSystem(System(name, "dense", remembering, encoder.traits), encoder.label)


def _remembering(settings: Settings, encoders: Sequence[ResolvedEncoder]) -> dict[str, EncodeOnce]:
    """Encoders that load on first use and encode each text once, by fingerprint. They share forward passes."""
    groups: dict[tuple[object, ...], dict[str, ResolvedEncoder]] = {}
    for encoder in encoders:
        view = encoder.view
        alike = (encoder.directory, view.attention, view.echo, view.prompted, view.pooling_mode == "eos")
        groups.setdefault(alike, {})[encoder.fingerprint] = encoder
    found: dict[str, EncodeOnce] = {}
    for group in groups.values():
        views = tuple(encoder.view for encoder in group.values())
        together = {
            fingerprint: EncodeOnce(fingerprint, partial(_load_one, encoder.directory, settings.encode, views, number))
            for number, (fingerprint, encoder) in enumerate(group.items())
        }
        share_passes(list(together.values()), _encode_together)
        found |= together
    return found


def _load_one(directory: Path, encode: EncodeSettings, views: tuple[EncoderView, ...], number: int) -> Encoder:
    return cached_views(directory, encode, views)[number]


def _encode_together(
    encoders: Sequence[Encoder], texts: Sequence[str], *, prompt: str | None = None, pool_prompt: bool = True
) -> Sequence[Encoding]:
    from llm2vec_core.encoding.views import encode_together

    return encode_together(encoders, texts, prompt=prompt, pool_prompt=pool_prompt)


def _distinct(systems: list[NamedSystem]) -> list[NamedSystem]:
    """Drop repeated systems, and add a fingerprint prefix to names that several systems share."""
    once = {(each.system.mode, each.system.fingerprint): each for each in systems}
    names = [each.system.name for each in once.values()]
    return [
        each
        if names.count(each.system.name) == 1
        else replace(each, system=replace(each.system, name=f"{each.system.name} ({each.system.fingerprint[:6]})"))
        for each in once.values()
    ]

"""Modes of an encoder (attention, stages, pooling, …), and names such as ``minilm+mean+echo``.

Belongs here: views of an encoder and their identity, without torch. Does not belong here: applying a view
(``encoding.encoder``), and defaults of omitted modes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from llm2vec_core.errors import InputError

Attention = Literal["causal", "bidirectional"]
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)

PoolingMode = Literal["mean", "weighted_mean", "last", "eos"]
POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)

Stage = Literal["mntp", "simcse", "distil", "supervised"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""Training stages, in the order in which they are trained."""


class StageTitle(NamedTuple):
    """Names of a training stage for readers.

    Attributes:
        short: Its name in tables, such as ``MNTP``.
        full: Its name where it is explained, as on a model card.
    """

    short: str
    full: str


_STAGE_TITLES: Mapping[str, StageTitle] = {
    "mntp": StageTitle("MNTP", "MNTP (masked next token prediction)"),
    "simcse": StageTitle("SimCSE", "SimCSE (unsupervised contrastive learning)"),
    "distil": StageTitle("distilled", "distillation from a teacher"),
    "supervised": StageTitle("supervised", "supervised contrastive learning"),
}


def stage_title(stage: str) -> StageTitle:
    """Title of a stage; the name itself for a stage of another toolkit."""
    return _STAGE_TITLES.get(stage, StageTitle(stage, stage))


ECHO = "echo"
PROMPTED = "prompted"
PROMPT_WORDING = 'This sentence : "{text}" means in one word:"'
"""Wording of ``prompted``: PromptEOL (Jiang et al. 2023, arXiv 2307.16645), which needs no training."""

STANDARDISED = "standardised"
INSTRUCTED = "instructed"
EXPANDED = "expanded"
LongTexts = Literal["cut", "parts", "sections"]
"""Long texts are cut at ``max_tokens``, or encoded as the mean of their parts or of their sections."""

Precision = Literal["fp32", "bf16"]
"""Number format of a forward pass."""

RankingMode = Literal["hybrid", "tuned", "reranked"]
RANKING_MODES: tuple[RankingMode, ...] = get_args(RankingMode)

# The order of the kinds is that of the canonical name.
_MODES_BY_KIND: dict[str, tuple[str, ...]] = {
    "attention": ATTENTIONS,
    "stages": STAGES,
    "pooling": POOLING_MODES,
    "reading": (ECHO, PROMPTED),
    "scaling": (STANDARDISED,),
    "long texts": get_args(LongTexts),
    "prompt": (INSTRUCTED,),
    "documents": (EXPANDED,),
    "search": RANKING_MODES,
}
_MODES = tuple(mode for modes in _MODES_BY_KIND.values() for mode in modes)


@dataclass(frozen=True)
class EncoderView:
    """Changes to a saved encoder when it is read. A view without changes is falsy.

    Attributes:
        attention: Replaces the attention of the saved encoder; None leaves it.
        pooling_mode: Replaces the pooling of the saved encoder; None leaves it. ``last`` is the state of the
            tokenizer's last token; ``eos`` first appends the tokenizer's EOS token to every text, unless the tokenizer
            already does.
        echo: Whether the text is read twice and only the second copy pooled (see ``tokenizing``).
        standardised: Whether every dimension is standardised after pooling (see ``standardisation``), by statistics of
            calibration texts from the caller.
        prompted: Wording around the text, with ``{text}`` in its place (:data:`PROMPT_WORDING`). The vector is the
            state of its last token, in which a causal model sums up the text. Empty: the text is read as it is.
    """

    attention: Attention | None = None
    pooling_mode: PoolingMode | None = None
    echo: bool = False
    standardised: bool = False
    prompted: str = ""

    def __post_init__(self) -> None:
        """Refuse a wording without a place for the text, or together with an echo."""
        if self.prompted and (self.prompted.count("{text}") != 1 or self.echo):
            raise InputError(
                f"The wording {self.prompted!r} cannot be used.",
                hint="Write {text} once, where the text belongs, and leave echo out.",
            )

    def __bool__(self) -> bool:
        """Whether the view changes anything."""
        return bool(self._modes())

    def __str__(self) -> str:
        """Canonical form, such as ``causal+eos+echo``; empty if nothing changes."""
        return "+".join(self._modes())

    def _modes(self) -> tuple[str, ...]:
        reading = PROMPTED if self.prompted else ECHO if self.echo else None
        standardised = STANDARDISED if self.standardised else None
        return tuple(mode for mode in (self.attention, self.pooling_mode, reading, standardised) if mode)

    def changes(
        self, *, attention: Attention, pooling_mode: PoolingMode | None, standardised: bool = False
    ) -> EncoderView:
        """The view without properties that the saved encoder already has.

        Args:
            attention: Attention of the saved encoder.
            pooling_mode: Its pooling; None for one that this package does not name.
            standardised: Whether it is standardised. Its means and deviations are wrong for any other view, so a view
                with other changes removes them or measures them again.
        """
        found = replace(
            self,
            attention=None if self.attention == attention else self.attention,
            pooling_mode=None if self.pooling_mode == pooling_mode else self.pooling_mode,
        )
        reads_alike = not replace(found, standardised=False)
        return replace(found, standardised=self.standardised and not (standardised and reads_alike))


def view_fingerprint(fingerprint: str, changes: EncoderView, *, calibration: Sequence[str] = ()) -> str:
    """Fingerprint of a saved encoder read through a view.

    Args:
        fingerprint: Fingerprint of the saved encoder.
        changes: Changes by the view (:meth:`EncoderView.changes`).
        calibration: Texts to measure a standardised view on.

    Returns:
        ``fingerprint`` itself if the view changes nothing, otherwise a hash of 64 hex digits.
    """
    if not changes:
        return fingerprint
    measured_on = f"\n{_sha256(chr(0).join(calibration))}" if changes.standardised else ""
    wording = f"\n{changes.prompted}" if changes.prompted else ""
    return _sha256(f"{fingerprint}\n{changes}{measured_on}{wording}")


@dataclass(frozen=True)
class EncoderName:
    """A parsed encoder name: its source and its modes.

    Attributes:
        source: Fingerprint, directory, bundled name or hub name.
        view: Changes to the saved encoder.
        stages: Requested training stages, in training order; None if none are named.
        long_texts: Treatment of long texts.
        instructed: Whether the instruction of an evaluation task is put before its texts.
        expanded: Whether documents are found by their training texts, too (``evaluation.tasks.expansion``).
        ranking: Fusion of its ranking with BM25: ``hybrid`` by rank, ``tuned`` by a weight tuned on judged queries,
            ``reranked`` by rank and then by a cross-encoder; None: no fusion.
    """

    source: str
    view: EncoderView = EncoderView()
    stages: tuple[str, ...] | None = None
    long_texts: LongTexts = "cut"
    instructed: bool = False
    expanded: bool = False
    ranking: RankingMode | None = None

    @property
    def modes_of_evaluation(self) -> tuple[str, ...]:
        """Modes that say how an encoder is evaluated, and nothing about the encoder itself."""
        named = (INSTRUCTED if self.instructed else None, EXPANDED if self.expanded else None, self.ranking)
        return tuple(mode for mode in named if mode is not None)

    def __str__(self) -> str:
        """Canonical name, which :func:`parse_encoder_name` parses to an equal object."""
        modes = {self.view.attention, *(self.stages or ()), self.view.pooling_mode}
        modes |= {ECHO} if self.view.echo else set()
        modes |= {PROMPTED} if self.view.prompted else set()
        modes |= {STANDARDISED} if self.view.standardised else set()
        modes |= {self.long_texts} - {"cut"}
        modes |= set(self.modes_of_evaluation)
        return "+".join((self.source, *(mode for mode in _MODES if mode in modes)))


def parse_encoder_name(name: str) -> EncoderName:
    """Parse a source and modes after plus signs, in any order.

    ``SOURCE[+ATTENTION][+STAGE ...][+POOLING][+echo|+prompted][+standardised][+LONG_TEXTS][+instructed][+expanded]``
    ``[+RANKING]``
    A directory may have a plus sign in its name: the longest prefix of ``name`` that is a directory is the source.

    Raises:
        InputError: There is no source, a mode is unknown (the hint lists the known ones), or a kind is named twice.
    """
    source, modes = _split_source(name)
    if not source:
        raise InputError(
            f"The encoder name '{name}' has no source before its modes.",
            hint="Name a fingerprint, a directory, a bundled model or a hub model first, such as "
            "bundled:smollm2-135m+causal.",
        )
    for mode in modes:
        if mode not in _MODES:
            raise InputError(f"'{mode}' in '{name}' is not a mode of an encoder.", hint=_known_modes())
    _refuse_repeats(name, modes)
    return EncoderName(
        source,
        EncoderView(
            next((mode for mode in ATTENTIONS if mode in modes), None),
            next((mode for mode in POOLING_MODES if mode in modes), None),
            ECHO in modes,
            STANDARDISED in modes,
            PROMPT_WORDING if PROMPTED in modes else "",
        ),
        tuple(stage for stage in STAGES if stage in modes) or None,
        long_texts=next((mode for mode in get_args(LongTexts) if mode in modes), "cut"),
        instructed=INSTRUCTED in modes,
        expanded=EXPANDED in modes,
        ranking=next((mode for mode in RANKING_MODES if mode in modes), None),
    )


def _split_source(name: str) -> tuple[str, list[str]]:
    parts = name.split("+")
    for length in range(len(parts), 1, -1):
        beginning = "+".join(parts[:length])
        if Path(beginning).expanduser().is_dir():
            return beginning, parts[length:]
    return parts[0], parts[1:]


def _refuse_repeats(name: str, modes: Sequence[str]) -> None:
    for kind, known in _MODES_BY_KIND.items():
        named = [mode for mode in modes if mode in known]
        # An encoder can have several stages, but only one mode of every other kind.
        if len(named) > (len(set(named)) if kind == "stages" else 1):
            raise InputError(
                f"'{name}' names its {kind} more than once: {', '.join(named)}.",
                hint="Name each stage once, and one mode of every other kind.",
            )


def _known_modes() -> str:
    return " ".join(f"{kind.capitalize()}: {', '.join(modes)}." for kind, modes in _MODES_BY_KIND.items())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

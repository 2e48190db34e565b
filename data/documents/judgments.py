"""Judgments for supervised training: texts that fit an anchor, and texts that do not.

No judgment is skipped silently: a file with bad lines is rejected, and the error lists the lines.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from data.errors import InputError
from data.sample.esco import Occupation, read_occupations
from data.sample.eval_tasks import is_held_out
from data.sample.read import BUNDLED_SAMPLE, read_train_triples

BUNDLED_ESCO_TITLES = "bundled:esco-titles"

_MAX_NAMED_FAULTS = 5
_MAX_EXCERPT_CHARS = 80
_FORMS_HINT = (
    "One JSON object per line: {anchor, positive} with or without negative (a text) or negatives (a list), "
    "{alternate_title, title}, or {description, pos, neg} with lists of texts."
)


@dataclass(frozen=True)
class Judgment:
    """One text that fits an anchor, and texts that do not.

    Attributes:
        anchor: A posting, a query or an alternative title.
        positive: A text that fits.
        negatives: Texts that do not fit, usually near misses. May be empty.
        source: Name of a bundled source or of a file.
    """

    anchor: str
    positive: str
    negatives: tuple[str, ...]
    source: str


def read_judgments(source: str) -> list[Judgment]:
    """Read all judgments of a source.

    Args:
        source: ``bundled:sample`` (the sample's training triples), ``bundled:esco-titles`` (alternative labels of ICT
            occupations and their titles), or the path of a JSONL file. The bundled sources leave out all occupations
            that are held out for evaluation (:func:`~data.sample.eval_tasks.is_held_out`).

    Returns:
        Judgments in the order of the source.

    Raises:
        InputError: The name is unknown, or the file cannot be read, is empty, or has bad lines.
        SamplePackageError: A package with ESCO's texts is missing.
    """
    if source in _BUNDLED:
        return _BUNDLED[source]()
    path = Path(source).expanduser()
    if source.startswith("bundled:") or not path.is_file():
        raise InputError(
            f"No judgments '{source}': it is neither a file nor a bundled source.",
            hint=f"Bundled sources: {', '.join(_BUNDLED)}.",
        )
    return _read_file(path)


def sample_judgments(judgments: Iterable[Judgment], *, max_per_source: int, seed: int) -> list[Judgment]:
    """Keep a random sample of each source. This bounds memory, and large sources do not dominate small ones.

    Args:
        judgments: Judgments from any sources.
        max_per_source: Maximum number of judgments per source.
        seed: Random seed. The sample of one source does not depend on the other sources.

    Returns:
        The sample, in the original order.
    """
    places: dict[str, list[int]] = defaultdict(list)
    listed = list(judgments)
    for place, judgment in enumerate(listed):
        places[judgment.source].append(place)
    kept = [
        place
        for source, all_places in places.items()
        for place in random.Random(f"{seed} {source}").sample(all_places, min(max_per_source, len(all_places)))
    ]
    return [listed[place] for place in sorted(kept)]


def judgments_sha256(judgments: Iterable[Judgment]) -> str:
    """SHA-256 of judgments in hex. It covers texts, sources and order, which determine a training run."""
    digest = hashlib.sha256()
    for judgment in judgments:
        digest.update(f"{json.dumps(astuple(judgment))}\n".encode())
    return digest.hexdigest()


class _Fault(Exception):
    """A bad line, with what was found and what was expected."""


def _read_file(path: Path) -> list[Judgment]:
    judgments: list[Judgment] = []
    faults: list[str] = []
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                judgments.extend(_parse_line(line, source=path.name))
            except _Fault as fault:
                faults.append(f"line {number}: {fault}")
    if faults:
        more = len(faults) - _MAX_NAMED_FAULTS
        named = "; ".join([*faults[:_MAX_NAMED_FAULTS], *([f"and {more} more"] if more > 0 else [])])
        raise InputError(f"{path} has {len(faults)} bad line(s), so nothing was read: {named}.", hint=_FORMS_HINT)
    if not judgments:
        raise InputError(f"{path} holds no judgments; at least one was expected.", hint=_FORMS_HINT)
    return judgments


def _parse_line(line: bytes, *, source: str) -> list[Judgment]:
    """Parse one line of any form. Raises :class:`_Fault` for a bad line."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _Fault(f"found bytes that are not UTF-8 at {error.start}, expected UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise _Fault(f"found {_excerpt(line.decode('utf-8', 'replace').strip())}, expected a JSON object") from error
    if not isinstance(row, dict):
        raise _Fault(f"found {_excerpt(row)}, expected a JSON object")
    forms = [read for keys, read in _FORMS.items() if row.keys() >= set(keys)]
    if len(forms) != 1:
        expected = " or ".join(" + ".join(keys) for keys in _FORMS)
        raise _Fault(f"found the keys {_excerpt(', '.join(row))}, expected those of one form: {expected}")
    judgments = [Judgment(*parts, source=source) for parts in forms[0](row)]
    for judgment in judgments:
        if {judgment.anchor, judgment.positive} & set(judgment.negatives):
            raise _Fault("found a negative that equals the anchor or the positive; expected another text")
    return judgments


_Parts = tuple[str, str, tuple[str, ...]]


def _parse_triple(row: Mapping[str, object]) -> Iterator[_Parts]:
    negatives = (_text(row, "negative"),) if "negative" in row else ()
    yield _text(row, "anchor"), _text(row, "positive"), (*negatives, *_texts(row, "negatives"))


def _parse_titles(row: Mapping[str, object]) -> Iterator[_Parts]:
    """Read an alternative title of an occupation and its title, as in O*NET."""
    yield _text(row, "alternate_title"), _text(row, "title"), ()


def _parse_judged_job(row: Mapping[str, object]) -> Iterator[_Parts]:
    """Read a job description with fitting and unfitting texts: one judgment per fitting text."""
    positives, negatives = _texts(row, "pos"), _texts(row, "neg")
    if not positives:
        raise _Fault("found an empty pos, expected at least one text that fits")
    if both := set(positives) & set(negatives):
        raise _Fault(f"found {_excerpt(min(both))} in pos and neg, expected it in one of them")
    for positive in positives:
        yield _text(row, "description"), positive, negatives


_FORMS: Mapping[tuple[str, ...], Callable[[Mapping[str, object]], Iterator[_Parts]]] = MappingProxyType(
    {
        ("anchor", "positive"): _parse_triple,
        ("alternate_title", "title"): _parse_titles,
        ("description", "pos", "neg"): _parse_judged_job,
    }
)
"""Keys and parser of each form. Other keys are ignored."""


def _text(row: Mapping[str, object], key: str) -> str:
    return _as_text(row[key], key)


def _texts(row: Mapping[str, object], key: str) -> tuple[str, ...]:
    """Distinct texts of an optional list, in order."""
    values = row.get(key, [])
    if not isinstance(values, list):
        raise _Fault(f"found {key} = {_excerpt(values)}, expected a list of texts")
    return tuple(dict.fromkeys(_as_text(value, f"an entry of {key}") for value in values))


def _as_text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Fault(f"found {name} = {_excerpt(value)}, expected a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Fault(f"found an unpaired surrogate in {name}, expected Unicode text") from error
    return value.strip()


def _excerpt(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_EXCERPT_CHARS else f"{text[: _MAX_EXCERPT_CHARS - 1]}…"


def _read_sample() -> list[Judgment]:
    """The sample's triples, except those that mention a held-out occupation by URI or by name."""
    return [
        Judgment(anchor=anchor, positive=positive, negatives=(negative,), source=BUNDLED_SAMPLE)
        for row in read_train_triples()
        for anchor, positive, negative, uri in [
            (str(row["anchor"]), str(row["positive"]), str(row["negative"]), str(row["occupation"]))
        ]
        if not is_held_out(uri) and not any(_names_held_out(text) for text in (anchor, positive, negative))
    ]


def _read_esco_titles() -> list[Judgment]:
    """Alternative labels and titles of the other occupations, except names shared with a held-out occupation."""
    held_out = _held_out_names()
    return [
        Judgment(anchor=label, positive=occupation.label, negatives=(), source=BUNDLED_ESCO_TITLES)
        for occupation in read_occupations()
        if not is_held_out(occupation.uri)
        for label in _alternative_labels(occupation)
        if held_out.isdisjoint([_fold(label), _fold(occupation.label)])
    ]


_BUNDLED: Mapping[str, Callable[[], list[Judgment]]] = MappingProxyType(
    {BUNDLED_SAMPLE: _read_sample, BUNDLED_ESCO_TITLES: _read_esco_titles}
)
BUNDLED_JUDGMENTS: tuple[str, ...] = tuple(_BUNDLED)
"""Names of the bundled judgments."""


def _alternative_labels(occupation: Occupation) -> Sequence[str]:
    """Distinct alternative labels, except case variants of the title."""
    labels = {" ".join(label.split()).casefold(): " ".join(label.split()) for label in occupation.alternatives}
    return [label for folded, label in labels.items() if folded != occupation.label.casefold()]


def _names_held_out(text: str) -> bool:
    folded = f" {_fold(text)} "
    return any(f" {name} " in folded for name in _held_out_names())


@cache
def _held_out_names() -> frozenset[str]:
    """All names of the held-out ICT occupations; needed because triples do not record the negative's occupation."""
    return frozenset(
        _fold(name)
        for occupation in read_occupations()
        if is_held_out(occupation.uri)
        for name in (occupation.label, *occupation.alternatives)
    )


# The generator of the sample spells these words of ESCO's labels differently.
_RESPELLED = MappingProxyType({"ict": "it", "programme": "program"})


def _fold(text: str) -> str:
    """Lower-cased words with single spaces, spelled as in the generated texts."""
    return " ".join(_RESPELLED.get(word, word) for word in re.findall(r"[a-z0-9+#]+", text.casefold()))

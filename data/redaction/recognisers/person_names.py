"""Recognising names of persons: marked names, known names, and names on the repository's lists.

Every repetition in a pattern is bounded, as in ``contacts``.

Does not belong here: the lists (``names``), replacing names (``redact``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator

from data.redaction.labels import is_label, label_before, may_begin_label
from data.redaction.names import name_lists
from data.redaction.placeholders import PII_TYPES
from data.redaction.recognisers.phones import PHONE
from data.redaction.recognisers.spans import Span

_JOINTS = (" ", "  ", ". ", ", ")
_TOKEN = re.compile(r"[A-Z\u00c0-\u024f\u0370-\u052f](?<![^\W_].)(?:[^\W\d_]|['’-](?=[^\W\d_])){0,40}")
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’-](?=[^\W\d_])){0,40}")
_SEQUENCE = r"[^\W\d_][\w'’.-]{0,30}(?:,? {1,2}[^\W\d_][\w'’.-]{0,30}){0,3}"
_SEPARATOR = re.compile(r"[:：|=\t\n ](?:(?<=[:：|=\t])|(?<=\n)[\n \t]{0,7}|(?<=\w )[–-] )")
_LABELLED = re.compile(rf"[ \t\u00a0\"']{{0,4}}(?P<name>{_SEQUENCE})", re.IGNORECASE)
_UNSPACED_NAME = re.compile(
    "[ \u3000\"']{0,4}(?P<name>[\u3400-\u9fff\u30a0-\u30ff\u3041-\u309f\uac00-\ud7af]{1,8}"
    "(?:[ \u3000·・][\u3400-\u9fff\u30a0-\u30ff\u3041-\u309f\uac00-\ud7af]{1,8})?)(?![\u3400-\u9fff]{0,4} ?[:：])"
)
_MAX_LABEL_CHARS = 40
_SEGMENT_STARTS = "\n|\"'{[,;(•*\t·>}"
_ADDRESSED = re.compile(
    r"(?<!\w)(?:Mrs?|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Herrn?|Frau|Mme|Mlle|Madame|Monsieur|Señora?|Sra|Srta|Sig|Signora?|Dott|Dott\.ssa"
    r"|Shri|Smt|Dhr|Mevr|Mevrouw|Meneer|Senhora?|Pana|Panią|господин|госпожа|г-н|г-жа)\.? "
    rf"(?P<name>{_SEQUENCE.replace(',?', '')})"
)
_SUPERVISED = re.compile(  # as forms of employment ask for them
    r"\b(?:[Ss]upervisors?|[Rr]eferences?|[Aa]dvisers?|[Aa]dvisors?)(?:['’]s? name| name)?(?: ?\([^()\n]{1,20}\))? ?: ?"
    r"(?P<name>(?!Yes|No|Available)[A-Z][\w'’-]{1,25}(?: [A-Z]\.?)?(?: [A-Z][\w'’-]{1,25}){1,2})"
    r"(?= ?(?:[\n,;(|[]|$|[+\d]|(?:[Pp]hone|[Tt]el|[Oo]kay)\b))"
)
_HEADER_LINES = 6
_HEADER_CHARS = 60
_CONTACT_LINES = 2
_HEADER_END = re.compile(r"[|,•·–(\t]|  | - ")
_MAX_NAME_TOKENS = 4
_FORM_LINES = 24
_MAX_PARTICLES = 2
_PART = re.compile(r"\S{1,60}")
_MAX_PLACES = 50
_INNER = ("@", ".", "_", "/", "-", ":", "'", "’")
_GOES_ON = re.compile(r"\w|[@_/-]|\.\w")
_INITIAL = re.compile(r"(?<![^\W_])[^\W\d_]$|(?<![^\W_])(?:Jr|Sr|St|Wm)$")
_OTHER_SCRIPT = re.compile("[ ]?[(（][\u3400-\u9fff\u3041-\u30ff\uac00-\ud7af]{2,6}[)）]")
_SPACED_LINES = 3
_SPACED_LETTERS = re.compile(r"(?:[^\W\d_]|['’-])(?: {1,3}(?:[^\W\d_]|['’-])){4,36}")
_HAN_NAME = re.compile(
    "[\u4e00-\u9fff]{2,5}|[\u4e00-\u9fff]{1,3}[\u3041-\u30ff]{1,4}"
    "|[\u4e00-\u9fff]{1,3}[ \u3000][\u4e00-\u9fff\u3041-\u30ff]{1,4}"
)
_LONE_NAME = re.compile(
    r"(?:(?:van|von|de|den|der|di|du|la|le|el|al|van de|van der|da|dos) ){0,1}"
    r"[A-Z\u00c0-\u00de\u0100-\u024f\u0370-\u052f](?:[^\W\d_]|['’-](?=[^\W\d_])){1,30}",
    re.IGNORECASE,
)
_MIN_LONE_CHARS = 3
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n])[\s\"'(*\u2022-]{0,8}\Z")
_SENTENCE_START_CHARS = 9
_PARTICLES = frozenset(
    {"van", "von", "de", "da", "del", "der", "den", "di", "la", "le", "bin", "ibn", "al", "el", "dos", "ter"}
)


def find_stated_names(text: str) -> Iterator[Span]:
    """Find marked names: in the head of a resume, after "Name:", after a title such as "Ms"."""
    yield from _labelled_names(text)
    yield from _header_names(text)
    yield from _split_header_names(text)
    yield from _unmarked_names(text)


def find_parts(names: Iterable[str], text: str) -> Iterator[Span]:
    """Find known names in a text: whole names, forms such as ``jane_doe``, and parts that are not ordinary words."""
    for name in names:
        parts = [match.group() for match in _WORD.finditer(name)]
        if not parts:
            continue
        whole = r"[ ._,-]{1,3}".join(map(re.escape, parts))
        for match in re.finditer(rf"(?<![^\W_]){whole}(?![^\W_])", text, re.IGNORECASE):
            if _names_one(match, text) if len(parts) == 1 else _names_several(match.group()):
                yield Span(match.start(), match.end(), "name")
        for part in parts if len(parts) > 1 else []:
            if len(part) < _MIN_LONE_CHARS or _is_word(part) or _is_written_small(text, part):
                continue
            for match in re.finditer(rf"(?<![^\W_]){re.escape(part)}(?![^\W_])", text, re.IGNORECASE):
                if match.group()[0].isupper():
                    yield Span(match.start(), match.end(), "name")


def _names_several(found: str) -> bool:
    """Return whether several words are a name: "Will Mark" and "will_mark" are, but "will mark" may not be."""
    return not found[0].islower() or " " not in found


def _names_one(match: re.Match[str], text: str) -> bool:
    """Return whether one word is a name: "Grace" is, but "grace" and "An" at the start of a sentence are not."""
    found = match.group()
    if found[0].islower():
        return False
    is_word = len(found) < _MIN_LONE_CHARS or _is_word(found)
    before = max(0, match.start() - _SENTENCE_START_CHARS)
    return not (is_word and _SENTENCE_START.search(text, before, match.start()))


def _labelled_names(text: str) -> Iterator[Span]:
    for separator in _SEPARATOR.finditer(text):
        at = separator.end()
        if text[separator.start()] == "\n" and not _is_label_line(text, separator.start()):
            continue
        start = label_before(text, at, "name")
        if start is None or not (_begins_segment(text, start) or _is_unmistakable(text[start:at])):
            continue
        unspaced = _UNSPACED_NAME.match(text, at)
        if unspaced:
            yield Span(*unspaced.span("name"), "name")
        elif match := _LABELLED.match(text, at):
            yield from _leading_name(text, match.start("name"), match.end("name"))
    for match in _SUPERVISED.finditer(text):
        words = match["name"].split()
        if not any(_is_heading(word.strip(".")) or _is_written_small(text, word) for word in words):
            yield Span(*match.span("name"), "name")
    for match in _ADDRESSED.finditer(text):
        yield from _leading_name(text, match.start("name"), match.end("name"))


def _is_unmistakable(label: str) -> bool:
    """Return whether a label of several words, such as "First name", cannot belong to a company or a product."""
    return len(_WORD.findall(label)) > 1


def _is_label_line(text: str, end: int) -> bool:
    """Return whether the line that ends at a position is nothing but a label, as beside or above a form field."""
    start = text.rfind("\n", max(0, end - _MAX_LABEL_CHARS - 1), end) + 1
    return 1 < end - start <= _MAX_LABEL_CHARS and is_label(text[start:end].strip(" :：*"), "name")


def _begins_segment(text: str, start: int) -> bool:
    """Return whether a label begins its line, cell or clause: "Company name" is no label of a person."""
    before = text[max(0, start - _MAX_LABEL_CHARS) : start].rstrip(" \"'")
    return not before or before[-1] in _SEGMENT_STARTS


def _leading_name(text: str, start: int, end: int) -> Iterator[Span]:
    """Capitalised tokens at the beginning of a part of a text, or tokens in a script without capitals."""
    stop = start
    for match in _WORD.finditer(text, start, end):
        token = match.group()
        if stop > start and _begins_label(text, match.start(), end):
            break
        if (token[0].islower() and token not in _PARTICLES) or _is_heading(token):
            break
        stop = match.end()
        if "\n" in text[start:stop]:
            break
    if stop > start:
        yield Span(start, stop, "name")


def _begins_label(text: str, start: int, end: int) -> bool:
    """Return whether a label of two words begins here: "Quivo First Name: Zantel"."""
    words = text[start : end + _MAX_LABEL_CHARS].split(maxsplit=2)[:2]
    return (
        len(words) == 2
        and may_begin_label(words[0], *PII_TYPES)
        and is_label(" ".join(words).rstrip(" :："), *PII_TYPES)
    )


def _unmarked_names(text: str) -> Iterator[Span]:
    """Find names behind a label with only a blank between them, as forms print them: "Nachname Quivo"."""
    for start, line in _head_lines(text, _FORM_LINES):
        words = list(_PART.finditer(line))
        if len(words) < 2 or not may_begin_label(words[0].group(), "name"):
            continue
        for count in range(min(3, len(words) - 1), 0, -1):
            value, label = line[words[count].start() :].rstrip(), line[: words[count - 1].end()]
            if not value[0].isalnum() or not is_label(label, "name"):
                continue
            found = list(_leading_name(value, 0, len(value)))
            unspaced = _UNSPACED_NAME.match(value)
            if (found and found[0].end == len(value)) or (unspaced and unspaced.end() == len(value)):
                yield Span(start + words[count].start(), start + words[count].start() + len(value), "name")
            break


def _header_names(text: str) -> Iterator[Span]:
    """Find the line of the head that looks like a name: capitalised, not a heading, and on a list or near contacts."""
    lists = name_lists()
    head = list(_head_lines(text))
    has_contact = any("@" in line or PHONE.search(line) for _, line in head)
    for number, (start, line) in enumerate(head):
        candidate = _HEADER_END.split(line, maxsplit=1)[0].strip(" *#\"'_")
        tokens = _WORD.findall(candidate)
        looks_right = (
            2 <= len(tokens) <= _MAX_NAME_TOKENS + _MAX_PARTICLES
            and sum(token.casefold() not in _PARTICLES for token in tokens) <= _MAX_NAME_TOKENS
            and not any(char.isdigit() or char in ":/@&" for char in candidate)
            and all(_is_capitalised(token) or token in _PARTICLES for token in tokens)
            and not any(_is_heading(token) for token in tokens)
            and not is_label(candidate, *PII_TYPES)
        )
        if not looks_right:
            continue
        folded = [token.casefold() for token in tokens]
        is_listed = folded[0] in lists.first or folded[-1] in lists.surnames or folded[-1] in lists.first
        if is_listed or (has_contact and number < _CONTACT_LINES):
            at = start + line.index(candidate)
            yield Span(at, at + len(candidate), "name")
            if other := _OTHER_SCRIPT.match(text, at + len(candidate)):
                yield Span(*other.span(), "name")
            return


def _split_header_names(text: str) -> Iterator[Span]:
    """Find a name in the first lines of a head with contacts: a part a line, letter by letter, or in Han characters."""
    head = list(_head_lines(text))
    if not any("@" in line or PHONE.search(line) for _, line in head):
        return
    for number, (start, line) in enumerate(head[:_SPACED_LINES]):
        if _SPACED_LETTERS.fullmatch(line.strip()) and not _is_made_of_words(line.replace(" ", "").casefold()):
            yield Span(start, start + len(line.rstrip()), "name")
            return
        lone = line.strip()
        is_named = _HAN_NAME.fullmatch(lone) and lone.startswith(name_lists().han_surnames) and not _is_heading(lone)
        if is_named and number < _CONTACT_LINES:
            yield Span(start + line.index(lone), start + line.index(lone) + len(lone), "name")
            return
    if len(head) > 1:
        (first_start, first), (last_start, last) = head[:2]
        parts = [first.strip(" ,"), last.strip(" ,")]
        if all(_is_part_of_name(part) for part in parts):
            yield Span(first_start + first.index(parts[0]), last_start + last.index(parts[1]) + len(parts[1]), "name")


def _is_part_of_name(line: str) -> bool:
    """Return whether a line is one capitalised word, perhaps behind a particle, and no heading or label."""
    return (
        _LONE_NAME.fullmatch(line) is not None
        and _is_capitalised(line.split()[-1])
        and not any(_is_heading(word) for word in line.split())
        and not is_label(line, *PII_TYPES)
    )


def _is_made_of_words(joined: str, parts: int = 3) -> bool:
    """Return whether letters without blanks are headings or occupations: "professionalsummary"."""
    words = name_lists().words
    if joined in words:
        return True
    return parts > 1 and any(
        joined[:at] in words and _is_made_of_words(joined[at:], parts - 1) for at in range(2, len(joined) - 1)
    )


def _head_lines(text: str, limit: int = _HEADER_LINES) -> Iterator[tuple[int, str]]:
    start = seen = 0
    while start < len(text) and seen < limit:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if text[start:end].strip():
            seen += 1
            if end - start <= 4 * _HEADER_CHARS:
                yield start, text[start:end]
        start = end + 1


def find_listed_names(text: str) -> Iterator[Span]:
    """Find names on the repository's lists. Names that are also words ("Will", "May") need a surname beside them."""
    lists = name_lists()
    tokens = [*_TOKEN.finditer(text)]
    if not text.isascii():  # the pattern also has small letters of other alphabets
        tokens = [match for match in tokens if match.group()[0].isupper()]
    taken = -1
    for number, match in enumerate(tokens):
        first = _folded_base(match.group())
        if first not in lists.first or match.start() < taken:
            continue
        before = tokens[number - 1] if number and text[tokens[number - 1].end() : match.start()] in _JOINTS else None
        if before is not None and before.group().casefold() in lists.royals:
            continue
        start = match.start()
        end, has_surname = match.start() + len(_base(match.group())), False
        is_institution = False
        for following in tokens[number + 1 : number + _MAX_NAME_TOKENS]:
            if not _joins(text, end, following.start()):
                break
            token = _base(following.group())
            folded = token.casefold()
            if folded in lists.institutions:
                is_institution = True
                break
            is_surname = folded in lists.surnames
            is_initial = len(token) == 1
            is_unknown = first not in lists.ambiguous and not _is_heading(token) and not _is_written_small(text, token)
            if not (is_surname or is_initial or is_unknown):
                break
            has_surname = has_surname or is_surname
            end = following.start() + len(token)
        if before is not None and text[before.end() : start] == ", " and before.group().casefold() in lists.surnames:
            start, has_surname = before.start(), True  # "Smith, John"
        if (
            is_institution
            or text[start:end].casefold() in lists.phrases
            or (first in lists.ambiguous and not has_surname)
        ):
            continue
        taken = end
        yield Span(start, end, "name")


def _joins(text: str, end: int, start: int) -> bool:
    """Return whether what stands between two tokens belongs to a name. A dot does only behind an initial."""
    between = text[end:start]
    if between == ". ":
        return _INITIAL.search(text, max(0, end - 3), end) is not None
    return between in _JOINTS[:-1] or between.strip(" ") in _PARTICLES


def _is_written_small(text: str, word: str) -> bool:
    """Return whether a word also occurs in lower case, as ordinary words do; not counted in e-mail addresses."""
    small, at = word.lower(), -1
    for _ in range(_MAX_PLACES if word != small else 0):
        at = text.find(small, at + 1)
        if at < 0:
            return False
        before = text[at - 1 : at] if at else ""
        if not (before.isalnum() or before in _INNER) and not _GOES_ON.match(text, at + len(small)):
            return True
    return False


def _base(token: str) -> str:
    """Remove the possessive ending of a token."""
    return token[:-2] if token.endswith(("'s", "’s")) else token


@functools.lru_cache(20_000)
def _folded_base(token: str) -> str:
    return _base(token).casefold()


def _is_capitalised(token: str) -> bool:
    return token[0].isupper()


def _is_heading(token: str) -> bool:
    return _base(token).casefold() in name_lists().words


def _is_word(token: str) -> bool:
    folded = token.casefold()
    return folded in name_lists().ambiguous or folded in name_lists().words or folded in _PARTICLES


NameModel = Callable[[str], Iterable[tuple[int, int]]]
"""Find names of persons in a text; yields (start, end)."""


def load_name_model(name: str) -> NameModel:
    """Load a spaCy pipeline that recognises persons.

    Raises:
        ImportError: spaCy is not installed.
        OSError: The pipeline is not installed.
    """
    import spacy  # type: ignore[import-not-found]  # optional, for redact.name_model

    pipeline = spacy.load(name)

    def find(text: str) -> Iterator[tuple[int, int]]:
        return ((entity.start_char, entity.end_char) for entity in pipeline(text).ents if entity.label_ == "PERSON")

    return find

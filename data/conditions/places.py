"""Places of jobs and resumes: the same place, or within a radius by a given table of coordinates.

Belongs here: the table, distances, the verdict. Does not belong here: how sources write a place (``facets``).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data.conditions.sentences import SplitDocument, quote
from data.conditions.statement import Statement, Verdict
from data.conditions.vocabulary import country_code, known_phrases, plain
from data.errors import InputError

_EARTH_KM = 6371.0088
_COLUMNS = ("place", "country", "latitude", "longitude")
_REFUSED = re.compile(r"\b(?:not|no|never|unable|nicht|keine?|kein|pas|non|ne)\b\W*(?:\w+\W+){0,2}$", re.IGNORECASE)


class Coordinates(NamedTuple):
    """A point on the earth, in degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True)
class Places:
    """Coordinates by place, from a file of the user; no service is asked.

    Attributes:
        by_name: Plain name of a place to country code (or an empty text) and coordinates.
    """

    by_name: Mapping[str, Sequence[tuple[str, Coordinates]]]

    def find(self, place: Place) -> Coordinates | None:
        """Coordinates of a place; None if the table has none, or several that its country does not tell apart."""
        for name in place.names:
            rows = self.by_name.get(plain(name), ())
            fitting = [at for country, at in rows if not country or place.country is None or country == place.country]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                return None
        return None


class Place(NamedTuple):
    """A place: names of it, the most specific first, and the ISO 3166 code of its country, if known."""

    names: tuple[str, ...]
    country: str | None


def read_places(path: str) -> Places:
    """Read a table of coordinates.

    Args:
        path: CSV file with the columns ``place``, ``country`` (code; may be empty), ``latitude`` and ``longitude``.

    Raises:
        InputError: The file cannot be read, lacks a column, or has a row without valid coordinates.
    """
    found: dict[str, list[tuple[str, Coordinates]]] = {}
    hint = f"Set match.conditions.places to a CSV file with the columns {', '.join(_COLUMNS)}."
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ()) and name != "country"]:
                raise InputError(f"The table of places {path} has no column {' or '.join(missing)}.", hint=hint)
            for row in reader:
                at = Coordinates(float(row["latitude"]), float(row["longitude"]))
                if not (abs(at.latitude) <= 90 and abs(at.longitude) <= 180):
                    raise ValueError(f"{at.latitude}, {at.longitude} is no place on the earth")
                found.setdefault(plain(row["place"]), []).append((country_code(row.get("country")) or "", at))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The table of places {path} cannot be read: {error}", hint=hint) from error
    except (ValueError, TypeError) as error:
        line = reader.line_num
        raise InputError(
            f"Line {line} of the table of places {path} has no valid coordinates: {error}", hint=hint
        ) from error
    return Places(found)


def kilometres(first: Coordinates, second: Coordinates) -> float:
    """Great-circle distance in kilometres.

    Source: Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984).
    """
    latitudes = math.radians(first.latitude), math.radians(second.latitude)
    north = math.sin((latitudes[1] - latitudes[0]) / 2) ** 2
    east = math.sin(math.radians(second.longitude - first.longitude) / 2) ** 2
    return 2 * _EARTH_KM * math.asin(math.sqrt(north + math.cos(latitudes[0]) * math.cos(latitudes[1]) * east))


def read_place(document: SplitDocument) -> list[Statement]:
    """The place of the facets, and of a resume whether the person would relocate."""
    facets = document.facets
    location, city, country = (facets.get(name) for name in ("location", "city", "country"))
    found = []
    if (location or city) and ";" not in (location or ""):  # several places are a choice that cannot be read
        parts = [part.strip() for part in (location or "").split(",") if part.strip()]
        names = tuple(dict.fromkeys(part for part in (city, *parts) if part))
        code = country_code(country) or (country_code(parts[-1]) if len(parts) > 1 and len(parts[-1]) != 2 else None)
        shown = location or city
        found.append(Statement(Place(names, code), "mentioned", f"location: {shown}"))
    if document.kind == "resume":
        for sentence, match in document.matches(known_phrases("relocation", "willing")):
            if not _REFUSED.search(sentence.text[: match.start()]):
                found.append(Statement(None, "held", quote(sentence, *match.span())))
    return found


def check_place(
    job: Sequence[Statement],
    resume: Sequence[Statement],
    *,
    places: Places | None,
    radius_km: float,
    remote: Statement | None,
) -> list[Verdict]:
    """Whether a person lives near a job, would relocate, or may work remotely."""
    if not job:
        return []
    need = job[0]
    if remote is not None:
        return [Verdict("place", "pass", need.words, remote.words)]
    home = next((each for each in resume if each.value is not None), None)
    moves = next((each for each in resume if each.value is None), None)
    near, words = (None, "") if home is None else _is_near(need.value, home, places, radius_km)
    if near:
        return [Verdict("place", "pass", need.words, words)]
    if moves is not None:
        return [Verdict("place", "pass", need.words, moves.words)]
    return [Verdict("place", "unknown" if near is None else "fail", need.words, words)]


def _is_near(need: Place, home: Statement, places: Places | None, radius_km: float) -> tuple[bool | None, str]:
    """Whether a home is near, None if nobody can tell; and the words that show it."""
    place: Place = home.value
    points = (None, None) if places is None else (places.find(need), places.find(place))
    if points[0] is not None and points[1] is not None:
        distance = kilometres(points[0], points[1])
        return distance <= radius_km, f"{home.words} ({distance:.0f} km)"
    if need.country is not None and place.country is not None and need.country != place.country:
        return False, home.words
    is_same = bool(need.names and place.names) and plain(need.names[0]) == plain(place.names[0])
    return (True if is_same else None), home.words

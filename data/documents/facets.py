"""Facets: the most common filter fields of the metadata, as columns with a fixed name and type.

Sources use many names for the same field: this module lists the names of schema.org's JobPosting and common variants.
``facet_values`` reads their values. LanceDB's JSON functions filter by all other metadata.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa

from data.documents.facet_values import (
    Salary,
    as_amount,
    as_currency,
    as_day,
    as_employment_type,
    as_remote,
    as_salary,
    as_text,
    as_unit,
)
from data.schema import column

FACET_SCHEMA = pa.schema(
    [
        column("location", pa.string(), "place, such as Leeds, England, GB; several are separated by ;", nullable=True),
        column("city", pa.string(), "city, where the source has a field for it", nullable=True),
        column("region", pa.string(), "state, county or province, where the source has a field for it", nullable=True),
        column("country", pa.string(), "country or its code, where the source has a field for it", nullable=True),
        column(
            "employment_type",
            pa.string(),
            "FULL_TIME, PART_TIME, CONTRACTOR, TEMPORARY, INTERN, VOLUNTEER, PER_DIEM or OTHER, several separated by "
            "a comma; otherwise as the source writes it",
            nullable=True,
        ),
        column("remote", pa.bool_(), "whether the work is done from anywhere; hybrid work is not", nullable=True),
        column("category", pa.string(), "occupation or industry, as the source writes it", nullable=True),
        column("posted_at", pa.string(), "day on which it was published, as 2026-01-31", nullable=True),
        column("valid_through", pa.string(), "last day on which it is open, as 2026-01-31", nullable=True),
        column("salary_min", pa.float64(), "lowest salary, in salary_currency per salary_unit", nullable=True),
        column("salary_max", pa.float64(), "highest salary, in salary_currency per salary_unit", nullable=True),
        column("salary_currency", pa.string(), "ISO 4217 code of the currency, such as EUR", nullable=True),
        column("salary_unit", pa.string(), "hour, day, week, month or year", nullable=True),
    ]
)

# Names without case and punctuation, the most specific first.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "location": ("location", "joblocation"),
    "place": ("locality", "addresslocality", "city", "place"),
    "city": ("city", "addresslocality", "town"),
    "region": ("region", "addressregion", "state", "province"),
    "country": ("country", "countrycode", "addresscountry"),
    "employment_type": ("employmenttype", "jobtype", "contracttype", "worktype"),
    "remote": ("remote", "isremote", "telecommuting", "remotetype", "workplacetype", "locationtype", "joblocationtype"),
    "category": ("category", "occupationalcategory", "jobcategory", "industry", "sector"),
    "posted_at": ("postedat", "dateposted", "posteddate", "posted", "publishedat", "publicationdate"),
    "valid_through": (
        "validthrough", "validuntil", "expirationdate", "expirydate", "expiresat", "closingdate",
        "applicationdeadline", "deadline",
    ),
    "salary_min": ("salarymin", "minsalary", "minimumsalary", "salaryfrom"),
    "salary_max": ("salarymax", "maxsalary", "maximumsalary", "salaryto"),
    "salary": ("salary", "basesalary", "salaryrange", "pay", "wage"),
    "salary_currency": ("salarycurrency", "salarycurrencycode", "currency", "currencycode"),
    "salary_unit": ("salaryunit", "salaryinterval", "salaryperiod", "payperiod"),
}  # fmt: skip

_DAYS_OF_CHANGE = {
    *_NAMES["posted_at"], "updatedat", "updated", "lastupdated", "lastmodified", "modifiedat", "modified",
    "datemodified", "lastchanged", "revisedat",
}  # fmt: skip

_PARSERS: Mapping[str, Callable[[object], object]] = {
    "city": as_text,
    "region": as_text,
    "employment_type": as_employment_type,
    "remote": as_remote,
    "category": as_text,
    "posted_at": as_day,
    "valid_through": as_day,
}


def facet_columns(metadata: Iterable[str]) -> list[pa.Array]:
    """Read the facets of documents from their stored metadata, one JSON object each.

    Returns:
        One array for each column of :data:`FACET_SCHEMA`; null if the facet is missing or unreadable.
    """
    rows = [read_facets(json.loads(text))[0] for text in metadata]
    return [pa.array([row.get(field.name) for row in rows], field.type) for field in FACET_SCHEMA]


def count_unreadable(metadata: Iterable[str]) -> Counter[str]:
    """Number of documents by facet that has a value which cannot be read."""
    return Counter(name for text in metadata if text != "{}" for name in read_facets(json.loads(text))[1])


def last_change(metadata: Mapping[str, Any]) -> str | None:
    """The latest readable day on which a document was changed or published, as ``2026-01-31``; None without any."""
    days = [as_day(value) for name, value in metadata.items() if _key(name) in _DAYS_OF_CHANGE and _is_stated(value)]
    return max((day for day in days if day is not None), default=None)


def standard_json(metadata: str) -> str:
    """Metadata as standard JSON: Python's NaN and Infinity become null."""
    if "NaN" not in metadata and "Infinity" not in metadata:
        return metadata
    return json.dumps(json.loads(metadata, parse_constant=lambda _: None), ensure_ascii=False, separators=(",", ":"))


def read_facets(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Facets of one document by name, and the names of those whose value cannot be read."""
    values = {_key(name): value for name, value in metadata.items() if _is_stated(value)}
    given = {facet: values[name] for facet, name in _chosen_names(tuple(values)).items()}
    found: dict[str, Any] = {name: parse(given[name]) for name, parse in _PARSERS.items() if name in given}
    unreadable = [name for name, value in found.items() if value is None]
    found["country"] = _as_country(given.get("country"))
    found["location"] = _location(values, found)
    salary, faults = _salary(given)
    found |= {
        "salary_min": salary.low,
        "salary_max": salary.high,
        "salary_currency": salary.currency,
        "salary_unit": salary.unit,
    }
    return found, unreadable + faults


@lru_cache(maxsize=10_000)
def _chosen_names(names: tuple[str, ...]) -> dict[str, str]:
    """The most specific name of each facet among the names of a row's fields."""
    chosen = {facet: next((each for each in known if each in names), None) for facet, known in _NAMES.items()}
    return {facet: name for facet, name in chosen.items() if name is not None}


def _salary(given: Mapping[str, Any]) -> tuple[Salary, list[str]]:
    """Salary from fields for both ends, otherwise from a text; with the names of unreadable fields."""
    ends = {name: as_amount(given[name]) for name in ("salary_min", "salary_max") if name in given}
    faults = [name for name, amount in ends.items() if amount is None]
    if ends:
        stated = Salary(ends.get("salary_min"), ends.get("salary_max"))
        if stated.low is not None and stated.high is not None and stated.low > stated.high:
            stated, faults = Salary(), list(ends)
    else:
        stated = as_salary(given.get("salary"))
        # "Competitive" states no amount; a text with digits may state one.
        if stated == Salary() and any(map(str.isdigit, as_text(given.get("salary")) or "")):
            faults.append("salary")
    currency, unit = as_currency(given.get("salary_currency")), as_unit(given.get("salary_unit"))
    read = {"salary_currency": currency, "salary_unit": unit}
    faults += [name for name, value in read.items() if name in given and value is None]
    low, high = stated.low or None, stated.high or None  # zero means that none is stated
    if low is None and high is None:
        return Salary(), faults
    return Salary(low, high, currency or stated.currency, unit or stated.unit), faults


def _location(values: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """The place as the source writes it, otherwise city, region and country."""
    stated = next((text for name in _NAMES["location"] if (text := as_text(values.get(name)))), None)
    if stated is not None:
        return stated
    place = next((text for name in _NAMES["place"] if (text := as_text(values.get(name)))), None)
    parts = dict.fromkeys(part for part in (place, found.get("region"), found.get("country")) if part)
    return ", ".join(parts) or None


def _as_country(value: object) -> str | None:
    text = as_text(value)
    return text.upper() if text is not None and len(text) == 2 else text


_NOTHING = frozenset({"", "nan", "n/a", "none", "null", "-", "unspecified"})


def _is_stated(value: object) -> bool:
    """Return whether a field holds a value. Only the mapping of a known format can read objects."""
    if isinstance(value, list):
        return any(map(_is_stated, value))
    if isinstance(value, str):
        return value.strip().casefold() not in _NOTHING
    return value is not None and not isinstance(value, dict)


@lru_cache(maxsize=10_000)
def _key(name: str) -> str:
    """A field's name without case and punctuation."""
    return re.sub(r"[\W_]", "", name).lower()

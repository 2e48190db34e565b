import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.config import SourceConfig
from data.documents.facet_values import Salary, as_day, as_employment_type, as_salary
from data.documents.facets import FACET_SCHEMA, count_unreadable, facet_columns, read_facets, standard_json
from data.documents.readers.mappings import KNOWN_FORMATS


def facets(**metadata):
    return {
        field.name: values[0].as_py()
        for field, values in zip(FACET_SCHEMA, facet_columns([json.dumps(metadata)]), strict=True)
    }


@pytest.mark.parametrize(
    ("metadata", "facet", "expected"),
    [
        ({"locality": "Leeds"}, "location", "Leeds"),
        ({"City": " Oslo ", "place": "x"}, "location", "Oslo"),
        ({"jobLocation": {"address": "nested"}, "city": "Oslo"}, "location", "Oslo"),
        ({"location": ["Leeds", None, "York"]}, "location", "Leeds, York"),
        ({"location": "", "locality": None}, "location", None),
        ({"employmentType": "FULL_TIME"}, "employment_type", "FULL_TIME"),
        ({"employment-type": "Permanent"}, "employment_type", "Permanent"),
        ({"category": 7}, "category", "7"),
        ({"datePosted": "2020-11-03"}, "posted_at", "2020-11-03"),
        ({"date_posted": "2020-11-03T10:00:00+01:00"}, "posted_at", "2020-11-03"),
        ({"datePosted": "3/4/2020"}, "posted_at", None),
        ({"datePosted": "yesterday"}, "posted_at", None),
        ({"city": "Leeds", "state": "England", "country": "gb"}, "location", "Leeds, England, GB"),
        ({"locality": "Leeds, West Yorkshire"}, "city", None),
        ({"employmentType": ["Full-time", "part time"]}, "employment_type", "FULL_TIME, PART_TIME"),
        ({"job_type": "Vollzeit/Teilzeit"}, "employment_type", "FULL_TIME, PART_TIME"),
        ({"remote": "True"}, "remote", True),
        ({"remote": False}, "remote", False),
        ({"jobLocationType": "TELECOMMUTE"}, "remote", True),
        ({"workplace_type": "hybrid"}, "remote", False),
        ({"workplace_type": "unspecified"}, "remote", None),
        ({"closing_date": "31 January 2026"}, "valid_through", "2026-01-31"),
        ({"salary_min": "30,000"}, "salary_min", 30000.0),
        ({"salary_min": 40, "salary_max": 30}, "salary_max", None),
        ({"salary": "£24,907 - £30,615 per annum"}, "salary_max", 30615.0),
        ({"salary_min": 0, "salary_max": 0}, "salary_min", None),
        ({"salary_min": 12, "salary_interval": "per-hour-wage"}, "salary_unit", "hour"),
        ({"salary": 500, "currency": "€"}, "salary_currency", "EUR"),
        ({}, "location", None),
    ],
)
def test_sources_names_become_one_name(metadata, facet, expected):
    assert facets(**metadata)[facet] == expected


def test_what_json_lacks_becomes_null_and_all_else_stays():
    text = '{"a":NaN,"b":[-Infinity,1.5],"c":"NaN is é"}'
    assert json.loads(standard_json(text)) == {"a": None, "b": [None, 1.5], "c": "NaN is é"}
    assert standard_json('{"z":1, "a":2}') == '{"z":1, "a":2}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("£27,373.50 to £34,510 DOE (Preceptors £22,465)", Salary(27373.5, 34510, "GBP")),
        ("£9.50/hour, 35 hours per week", Salary(9.5, 9.5, "GBP", "hour")),
        ("45.000 - 55.000 € brutto/Jahr", Salary(45000, 55000, "EUR", "year")),
        ("1\u00a0234,50 EUR par mois", Salary(1234.5, 1234.5, "EUR", "month")),
        ("CHF 5'500 im Monat", Salary(5500, 5500, "CHF", "month")),
        ("£20-30k", Salary(20000, 30000, "GBP")),
        ("A$120k–A$140k pa", Salary(120000, 140000, "AUD", "year")),
        ("28000 - 32000 per annum", Salary(28000, 32000, None, "year")),
        ("up to £30,000", Salary(None, 30000, "GBP")),
        ("from £25k", Salary(25000, None, "GBP")),
        ("£30,000+", Salary(30000, None, "GBP")),
        (28000, Salary(28000, 28000)),
        ("Band 5", Salary()),
        ("100 %", Salary()),
        ("Competitive", Salary()),
        (True, Salary()),
    ],
)
def test_salaries_as_sources_write_them(text, expected):
    assert as_salary(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fri, 10 Dec 2025 22:49:39 GMT", "2025-12-10"),
        (1767225600000, "2026-01-01"),
        ("1767225600", "2026-01-01"),
        ("31.01.2026", "2026-01-31"),
        ("January 31st, 2026", "2026-01-31"),
        ("31-Jan-2026", "2026-01-31"),
        ("2026-01-31 10:00:00 UTC", "2026-01-31"),
        ("2026-02-30", None),
        ("0001-01-01", None),
        ("10/01/2026", None),
    ],
)
def test_days_as_sources_write_them(text, expected):
    assert as_day(text) == expected


@given(st.dictionaries(st.sampled_from(["salary", "salary_min", "datePosted", "remote", "x"]), st.text() | st.floats()))
def test_no_value_makes_a_facet_fail_and_those_that_are_read_have_one_form(metadata):
    found, unreadable = read_facets(metadata)
    assert set(unreadable) <= set(FACET_SCHEMA.names) | {"salary"}
    for name in ("salary_min", "salary_max"):
        assert found[name] is None or 0 < found[name] <= 1e9
    assert found.get("posted_at") is None or as_day(found["posted_at"]) == found["posted_at"]


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_ranges_are_read_back(low, more):
    found = as_salary(f"£{low:,} - £{low + more:,} per year")
    assert (found.low, found.high, found.unit) == (low, low + more, "year")


def test_what_cannot_be_read_is_null_and_counted():
    rows = [
        {"salary": "Band 5", "datePosted": "3/4/2020", "remote": "perhaps"},
        {"salary": "Competitive", "datePosted": "", "remote": None},
        {"salary_min": "much", "closing_date": "soon", "currency": "gold"},
        {"salary": {"nested": 1}},
    ]
    assert count_unreadable(map(json.dumps, rows)) == {
        "salary": 1, "posted_at": 1, "remote": 1, "salary_min": 1, "valid_through": 1, "salary_currency": 1,
    }  # fmt: skip


CONFIG = SourceConfig(kind="job", path="x")


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        (
            "schema.org-jobposting",
            {
                "jobLocation": [
                    {"address": {"addressLocality": "York", "addressCountry": {"name": "GB"}}},
                    {"address": {"addressLocality": "Leeds", "addressRegion": "England", "addressCountry": "GB"}},
                ],
                "employmentType": ["FULL_TIME", "PART_TIME"],
                "baseSalary": {"currency": "GBP", "value": {"minValue": 20, "maxValue": 30, "unitText": "HOUR"}},
                "validThrough": "2026-02-01T00:00",
            },
            {
                "location": "York, GB; Leeds, England, GB", "city": "York, Leeds", "country": "GB",
                "employment_type": "FULL_TIME, PART_TIME", "salary_min": 20, "salary_unit": "hour",
                "valid_through": "2026-02-01",
            },
        ),
        (
            "schema.org-jobposting",
            {"jobLocation": {"address": "Leeds, UK"}, "baseSalary": "£30,000 a year", "jobLocationType": "TELECOMMUTE"},
            {"location": "Leeds, UK", "salary_min": 30000, "salary_unit": "year", "remote": True},
        ),
        (
            "schema.org-jobposting",
            {"baseSalary": {"currency": "EUR", "value": 52000}, "applicantLocationRequirements": {"name": "Norway"}},
            {"location": "Norway", "salary_max": 52000, "salary_currency": "EUR"},
        ),
        (
            "greenhouse",
            {
                "location": {"name": "London, UK"}, "first_published": "2026-01-10T09:00:00-05:00",
                "pay_input_ranges": [{"min_cents": 5000000, "max_cents": 7550000, "currency_type": "USD"}],
            },
            {"location": "London, UK", "posted_at": "2026-01-10", "salary_max": 75500, "salary_currency": "USD"},
        ),
        (
            "lever",
            {
                "categories": {"location": "Oslo", "commitment": "Full-time", "allLocations": ["Oslo", "Bergen"]},
                "workplaceType": "remote", "country": "NO", "createdAt": 1767225600000,
                "salaryRange": {"min": 500, "max": 600, "currency": "NOK", "interval": "per-hour-wage"},
            },
            {
                "location": "Oslo, Bergen", "employment_type": "FULL_TIME", "remote": True, "country": "NO",
                "posted_at": "2026-01-01", "salary_max": 600, "salary_unit": "hour",
            },
        ),
        (
            "workable",
            {
                "location": {"city": "Athens", "region": "Attica", "country": "Greece", "telecommuting": True},
                "employment_type": "Contract", "published_on": "2026-01-10",
            },
            {"location": "Athens, Attica, Greece", "city": "Athens", "remote": True, "employment_type": "CONTRACTOR"},
        ),
        (
            "indeed-xml",
            {
                "city": "Austin", "state": "TX", "country": "US", "salary": "$50K per year", "jobtype": "fulltime",
                "date": "Fri, 10 Dec 2025 22:49:39 GMT", "expirationdate": "2026-01-31", "remotetype": "Fully remote",
            },
            {
                "location": "Austin, TX, US", "region": "TX", "salary_min": 50000, "posted_at": "2025-12-10",
                "valid_through": "2026-01-31", "remote": True, "employment_type": "FULL_TIME",
            },
        ),
        (
            "json-resume",
            {"basics": {"location": {"city": "Kiel", "region": "SH", "countryCode": "DE"}}},
            {"location": "Kiel, SH, DE", "city": "Kiel", "country": "DE"},
        ),
    ],
)  # fmt: skip
def test_known_formats_fill_the_facets(name, record, expected):
    row = KNOWN_FORMATS[name].apply(record, CONFIG, fallback_id="1")
    found, unreadable = read_facets(json.loads(json.dumps(row)))
    assert {facet: found.get(facet) for facet in expected} == expected
    assert not unreadable


def test_unknown_employment_types_stay_as_written():
    assert as_employment_type("Permanent, full-time") == "Permanent, full-time"

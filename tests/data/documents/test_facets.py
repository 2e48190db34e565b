import json

import pytest

from data.documents.facets import FACET_SCHEMA, facet_columns, standard_json


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
        ({}, "location", None),
    ],
)
def test_sources_names_become_one_name(metadata, facet, expected):
    assert facets(**metadata)[facet] == expected


def test_what_json_lacks_becomes_null_and_all_else_stays():
    text = '{"a":NaN,"b":[-Infinity,1.5],"c":"NaN is é"}'
    assert json.loads(standard_json(text)) == {"a": None, "b": [None, 1.5], "c": "NaN is é"}
    assert standard_json('{"z":1, "a":2}') == '{"z":1, "a":2}'

"""Credentials are masked in all messages, and nothing else is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.store.credentials import has_credentials, mask_credentials


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("'s3://AKIA:a/b+c@bucket/key' is a URI", "'s3://***@bucket/key' is a URI"),
        ("https://me:p@ss@host:80/x?y=1&z=2 failed", "https://***@host:80/x?*** failed"),
        ("GET https://host/x?token=abc: 401", "GET https://host/x?***"),
        ("https://token@host and http://other/path", "https://***@host and http://other/path"),
        ("mail anna@example.org about a?b", "mail anna@example.org about a?b"),
    ],
)
def test_users_passwords_and_queries_are_masked(told, shown):
    assert mask_credentials(told).startswith(shown)


@given(st.text(alphabet=st.characters(exclude_characters="'\"\\ ", exclude_categories=["Z", "C"]), min_size=4))
def test_no_password_is_shown(password):
    url = f"https://user:{password}@host/path"
    assert has_credentials(url)
    assert mask_credentials(f"'{url}' does not answer") == "'https://***@host/path' does not answer"


@given(st.dictionaries(st.text(max_size=5), st.text()))
def test_json_stays_json(values):
    values["endpoint"] = "https://user:secret@host"
    masked = mask_credentials(json.dumps(values, indent=2))
    assert "secret@" not in masked
    assert json.loads(masked).keys() == values.keys()


def test_a_url_without_user_has_none():
    assert not has_credentials("https://host/path?a=b")

"""Credentials in URLs: finding them, and masking them in messages and records.

Secrets come from the environment or from Prefect blocks. Settings must not contain any, because runs record them.
"""

from __future__ import annotations

import re

_SHOWN = "***"
_USER = re.compile(
    r"([a-z][a-z0-9+.-]*://)[^\s'\"\\]*@", re.IGNORECASE
)  # up to the last @: a password may hold / and @
_QUERY = re.compile(r"([a-z][a-z0-9+.-]*://[^\s'\"\\?]*\?)[^\s'\"\\]+", re.IGNORECASE)


def has_credentials(url: str) -> bool:
    """Return whether a URL contains a user or a password."""
    return _USER.search(url) is not None


def mask_credentials(text: str) -> str:
    """Mask the users, passwords and queries of all URLs in a text; signed URLs carry their secret in the query."""
    return _QUERY.sub(rf"\g<1>{_SHOWN}", _USER.sub(rf"\g<1>{_SHOWN}@", text))

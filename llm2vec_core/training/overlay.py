"""Merge nested tables of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested tables recursively. Values of ``upper`` win."""
    merged = dict(lower)
    for name, value in upper.items():
        both_tables = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if both_tables else value
    return merged


def without(table: Any, removed: Any) -> Any:  # noqa: ANN401 - values of any setting
    """Remove from a nested table the values that ``removed`` also has. Other values are returned unchanged."""
    if not isinstance(table, Mapping) or not isinstance(removed, Mapping):
        return table
    return {
        name: without(value, removed[name]) if name in removed else value
        for name, value in table.items()
        if name not in removed or isinstance(value, Mapping)
    }

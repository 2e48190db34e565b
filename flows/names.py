"""Readable names of runs: what, when, and with which encoder."""

from __future__ import annotations

from prefect.runtime import flow_run

from flows.request import RunRequest
from tasks.run.writing import utc_now


def run_name() -> str:
    """Such as ``nightly 2026-11-21 · smollm2-135m-9c10``: the flow, the day it was due, the base model, the recipe."""
    request = RunRequest.model_validate(flow_run.parameters.get("request") or {})
    recipe = request.settings().train
    base = recipe.base_model.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    due = flow_run.scheduled_start_time or utc_now()
    return f"{flow_run.flow_name} {due:%Y-%m-%d} · {base.lower()}-{recipe.settings_key()[:4]}"

"""The request of a flow: profile, configuration file, overrides. A deployment's run page shows it as a form."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from flows.profiles import PROFILES_DIR, Profile
from tasks.run.context import Run, join_run, utc_now
from tasks.run.resolved import hand_over, take_over
from tasks.run.settings import Layer, Settings, merge_layers, read_layers

if TYPE_CHECKING:
    from tasks.ledger.record import RunRecord


logger = logging.getLogger(__name__)


class RunRequest(BaseModel):
    """Settings of a run, and for a stage also the run that it belongs to.

    A request reads its settings once. Make another request for another run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile = Field("demo", description="Profile that supplies the default settings.")
    config: str | None = Field(None, description="Path of an l2v.toml on the worker.")
    overrides: dict[str, Any] = Field({}, description="Single settings, such as {'train.mntp.steps': 100}.")
    parent_run: str | None = Field(None, description="Run that this stage belongs to; otherwise empty.")
    resolved: dict[str, Any] | None = Field(
        None, description="Settings that a night passes to its stages on other workers; otherwise empty."
    )

    _settings: Settings | None = PrivateAttr(None)
    _layers: list[Layer] | None = PrivateAttr(None)
    _parent: Run | None = PrivateAttr(None)

    def settings(self) -> Settings:
        """Return the settings that the night passed on, or those of the files and the environment.

        Files and environment are read at the first call only.
        """
        if self._settings is None and self.resolved is not None:
            self._settings = take_over(self.resolved, os.environ)
        elif self._settings is None:
            self._settings = merge_layers(self.layers())
        return self._settings

    def layers(self) -> list[Layer]:
        """Return the layers of the settings, lowest first. Files and environment are read at the first call only."""
        if self._layers is None:
            self._layers = read_layers(
                PROFILES_DIR / f"{self.profile}.toml",
                config=Path(self.config) if self.config else None,
                environment=os.environ,
                overrides=self.overrides,
            )
        return self._layers

    def of_stage(self, run: Run) -> RunRequest:
        """Return the request of a stage of ``run``. In this process the stage uses ``run`` itself."""
        request = self.model_copy(update={"parent_run": run.id})
        request._settings, request._parent = run.settings, run
        return request

    def for_worker(self) -> dict[str, Any]:
        """Return the request as JSON for a stage on another worker, with the resolved settings."""
        return {**self.model_dump(mode="json"), "resolved": hand_over(self.settings())}

    def parent(self) -> Run:
        """The run that this stage belongs to.

        Raises:
            FencedError: That run no longer holds the lease.
        """
        return self._parent or join_run(self.settings(), str(self.parent_run))


@contextmanager
def recorded(flow: str, request: RunRequest | None) -> Iterator[RunRecord]:
    """Run ``flow`` under the lease, and record it in the ledger.

    Args:
        flow: Name of the flow.
        request: Settings of the run, and the run that a stage belongs to (default: the default settings).
    """
    from tasks.ledger.runs import recorded_run, recorded_stage  # imports what the command line does not need
    from tasks.run.origins import settings_without_effect

    request = request or RunRequest()
    if request.parent_run is not None:
        with recorded_stage(request.parent(), flow=flow) as record:
            yield record
    else:
        if request.resolved is None:
            for sentence in settings_without_effect(request.layers()):
                logger.warning(sentence)
        parameters = request.model_dump(mode="json", exclude={"parent_run", "resolved"})
        with recorded_run(request.settings(), flow=flow, parameters=parameters) as record:
            yield record


def run_name() -> str:
    """Name of a flow run, such as ``nightly 2026-11-21 · smollm2-135m-9c10``: flow, due day, base model, recipe."""
    from prefect.runtime import flow_run  # the command line imports this module, and must start without prefect

    request = RunRequest.model_validate(flow_run.parameters.get("request") or {})
    recipe = request.settings().train
    base = recipe.base_model.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    due = flow_run.scheduled_start_time or utc_now()
    return f"{flow_run.flow_name} {due:%Y-%m-%d} · {base.lower()}-{recipe.settings_key()[:4]}"

"""What every flow is asked with: a profile, a configuration file, overrides. The form of a deployment's run page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from flows.profiles import PROFILES_DIR, Profile
from tasks.run.settings import Settings, load_settings

if TYPE_CHECKING:
    from tasks.ledger.runs import Run


class RunRequest(BaseModel):
    """Which settings a run takes, and which run it belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile = Field("demo", description="named settings that everything else is laid over")
    config: str | None = Field(None, description="path of an l2v.toml on the worker")
    overrides: dict[str, Any] = Field({}, description="single settings, such as {'train.mntp.steps': 100}")
    parent_run: str | None = Field(None, description="run that this is a stage of; left empty otherwise")

    def settings(self) -> Settings:
        """The settings, from the files and the environment of this process."""
        return load_settings(
            PROFILES_DIR / f"{self.profile}.toml",
            config=Path(self.config) if self.config else None,
            environment=os.environ,
            overrides=self.overrides,
        )

    @contextmanager
    def recorded(self, flow: str) -> Iterator[Run]:
        """A run of ``flow`` with these settings, under the lease and in the ledger; see :func:`recorded_run`."""
        from tasks.ledger.runs import recorded_run  # loads LanceDB, which the command line does not need

        parameters = self.model_dump(mode="json", exclude={"parent_run"})
        with recorded_run(self.settings(), flow=flow, parent=self.parent_run, parameters=parameters) as run:
            yield run

    def of_parent(self, run_id: str) -> RunRequest:
        """The same request, for a stage of the run ``run_id``."""
        return self.model_copy(update={"parent_run": run_id})

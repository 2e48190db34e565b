"""How much of what was is kept: the policy that ``maintenance`` carries out."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RetentionConfig(BaseModel):
    """What maintenance keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_served: int = Field(default=7, ge=1, description="served states that are kept, the current one among them")
    keep_results: int = Field(
        default=7, ge=1, description="reports and matches that are kept, of each; exports: export.keep"
    )
    keep_runs: int = Field(default=400, ge=1, description="records of runs that are kept")
    grace_hours: float = Field(
        default=168.0, ge=0, description="nothing younger is removed: a reader or a continued run may need it"
    )
    compact_from: int = Field(default=16, ge=2, description="small files of a table from which on they are merged")

"""Settings of conditions beside the scores."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from data.conditions.statement import CONDITION_NAMES, ConditionName


class ConditionConfig(BaseModel):
    """Conditions that matched pairs are checked for, and what a failed one does."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    check: tuple[ConditionName, ...] = Field(
        CONDITION_NAMES, description="Conditions that every matched pair is checked for; an empty list checks none."
    )
    on_fail: Literal["show", "remove"] = Field(
        "show",
        description="What a failed condition does. show: the pair is marked; remove: it leaves the matches, and the "
        "next candidate moves up.",
    )
    places: str | None = Field(
        None,
        description="CSV file with the columns place, country, latitude and longitude, for distances (default: places "
        "with the same name are near, and other countries are far).",
    )
    radius_km: float = Field(50, gt=0, description="Distance in kilometres up to which a person is near a job.")

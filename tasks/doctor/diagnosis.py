"""The result of one check, and of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

import data.errors
import llm2vec_core.errors
from data.store.credentials import mask_credentials
from tasks.errors import TaskError

Level = Literal["ok", "warn", "fail"]


class Diagnosis(BaseModel):
    """The result of one check.

    Attributes:
        check: Name of the check.
        level: ``fail`` if a night would fail, or would not start; ``warn`` if it may do less than is expected.
        found: One sentence.
        remedy: What to do; empty if all is well.
    """

    model_config = ConfigDict(frozen=True)

    check: str
    level: Level
    found: str
    remedy: str = ""


class Examination(BaseModel):
    """The results of all checks, and what a support channel asks first.

    Attributes:
        environment: Versions, machine, and settings with masked secrets.
    """

    model_config = ConfigDict(frozen=True)

    checks: tuple[Diagnosis, ...]
    environment: dict[str, object]

    def count(self, level: Level) -> int:
        """Number of checks with this result."""
        return sum(each.level == level for each in self.checks)

    @property
    def is_healthy(self) -> bool:
        """Whether no check failed."""
        return not self.count("fail")

    def lines(self) -> list[str]:
        """One line for each check."""
        width = max(len(each.check) for each in self.checks)
        return [f"{each.level:<4}  {each.check:<{width}}  {each.found} {each.remedy}".rstrip() for each in self.checks]

    def sentence(self) -> str:
        """Number of checks by result."""
        return ", ".join(f"{self.count(level)} {level}" for level in ("ok", "warn", "fail"))


def ok(check: str, found: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(check=check, level="ok", found=found)


def warn(check: str, found: str, remedy: str) -> Diagnosis:
    """A night runs, but may do less than is expected."""
    return Diagnosis(check=check, level="warn", found=found, remedy=remedy)


def fail(check: str, found: str, remedy: str) -> Diagnosis:
    """A night fails, or does not start."""
    return Diagnosis(check=check, level="fail", found=found, remedy=remedy)


def diagnose(check: str, examine: Callable[[], Diagnosis | Sequence[Diagnosis]]) -> list[Diagnosis]:
    """Run one check. An error is its result: the other checks still run."""
    try:
        found = examine()
    except (data.errors.DataError, llm2vec_core.errors.CoreError, TaskError) as error:
        return [fail(check, mask_credentials(str(error)), error.hint)]
    except Exception as error:
        problem = mask_credentials(f"{type(error).__name__}: {error}")
        return [fail(check, f"The check itself failed: {problem}", "Please report this as a bug.")]
    return [found] if isinstance(found, Diagnosis) else list(found)

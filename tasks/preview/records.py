"""Records of a preview, as ``--json`` prints them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from data.schema import DocumentKind
from tasks.run.consequences import Effect


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class CountRange(_Record):
    """A number that is known (``low`` equals ``high``), or depends on scores that are not computed yet."""

    low: int
    high: int

    @classmethod
    def of(cls, *numbers: int) -> CountRange:
        """The span of all possible numbers."""
        return cls(low=min(numbers, default=0), high=max(numbers, default=0))

    def __add__(self, other: CountRange) -> CountRange:
        """The sum of two numbers that do not depend on each other."""
        return CountRange(low=self.low + other.low, high=self.high + other.high)

    def __str__(self) -> str:
        """For tables: ``12``, or ``0 to 12``."""
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"


class Sample(_Record):
    """A document of a change. Its title is redacted, as in a snapshot."""

    source_id: str
    title: str


class RejectedSample(_Record):
    """A row that would be quarantined; its detail is redacted."""

    file: str
    row: int
    reason: str
    detail: str


class SourceChange(_Record):
    """What reading a source would change, compared with the latest snapshot.

    Attributes:
        changed: Documents with another text.
        changed_metadata: Documents with the same text and other metadata.
        is_read: Whether the night reads it; the documents of other sources stay.
        samples: First documents by ``added``, ``changed``, ``changed_metadata`` and ``removed``.
    """

    kind: DocumentKind
    source: str
    rows_in: int
    rows_kept: int
    rows_quarantined: int
    rows_duplicate: int
    added: int
    changed: int
    changed_metadata: int
    removed: int
    is_read: bool = True
    samples: dict[str, list[Sample]] = {}
    quarantine_reasons: dict[str, int] = {}
    rejected: list[RejectedSample] = []


class SettingChange(_Record):
    """A setting that differs from the last night's, and what its change makes stale."""

    key: str
    before: Any
    now: Any
    stale: tuple[Effect, ...]


class Look(_Record):
    """A gate that would look at a result.

    Attributes:
        figure: The figure, if it is known before the night.
        verdict: ``passes``, ``refuses``, the reason why it is not checked, or when it is decided.
    """

    gate: str
    about: str
    limit: float
    figure: float | None = None
    verdict: str


class StageEstimate(_Record):
    """Expected work of a stage. A figure is None as long as no past run of the same kind tells it."""

    stage: str
    work: str
    tokens: CountRange | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None

    def time(self) -> str:
        """For tables."""
        if self.seconds_low is None or self.seconds_high is None:
            return "no figure yet"
        low, high = f"{self.seconds_low / 60:,.1f}", f"{self.seconds_high / 60:,.1f}"
        return f"{low} min" if low == high else f"{low} to {high} min"


class TablePlan(_Record):
    """Changes of the table of a kind. A span, if the encoder that will be served is not known yet."""

    encode: CountRange
    upserted: CountRange
    removed: CountRange


class MatchPlan(_Record):
    """Matching of the tables.

    Attributes:
        reused: Whether the matches stay as they are; None if that depends on scores.
        ranked: Documents whose matches would be ranked again; the rows of the others are copied.
    """

    jobs: int
    resumes: int
    reused: bool | None
    ranked: CountRange


class NightPreview(_Record):
    """What a night, an embedding or a backfill would do.

    Attributes:
        refused: Reason why it would be refused; the counts are those without the refusal.
        last_night: Run whose settings ``settings`` compares with.
        scores: Scores to compute; None if the evaluation tasks are on another machine.
        served: Checkpoints that may be served; ``new`` stands for the one to be trained.
        cost: Estimated from the price of the machine and the times of ``estimates``; None without either.
    """

    command: str
    home: str
    refused: str | None = None
    sources: list[SourceChange] = []
    settings: list[SettingChange] = []
    last_night: str | None = None
    training_steps: dict[str, int] = {}
    scores: CountRange | None = None
    served: list[str] = []
    tables: dict[DocumentKind, TablePlan] = {}
    match: MatchPlan | None = None
    gates: list[Look] = []
    estimates: list[StageEstimate] = []
    cost: str | None = None
    notes: list[str] = []

    @property
    def encoded_documents(self) -> CountRange:
        """Documents of both kinds that would be encoded."""
        return sum((table.encode for table in self.tables.values()), CountRange(low=0, high=0))


class UpkeepPreview(_Record):
    """What maintenance or an erasure would remove or rewrite.

    Attributes:
        places: Objects by step or place; for a place that cannot be counted beforehand, a sentence.
        freed_bytes: Space that would be freed, by step; empty for an erasure.
    """

    command: str
    home: str
    places: dict[str, int | str]
    freed_bytes: dict[str, int] = {}
    notes: list[str] = []

"""Reports that stages return: ids and counts, never models, tables or arrays."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from data.schema import DocumentKind


class _Ref(BaseModel):
    model_config = ConfigDict(frozen=True)


class Usage(_Ref):
    """Work of a model.

    Attributes:
        tokens: Tokens that went through it, padding not counted.
        seconds: Time spent on the work itself, without loading.
        flops: Estimated FLOPs of the work; None for an architecture that the formulas do not cover.
        peak_flops: Peak FLOP/s of the machine, configured or measured.
        precision: Precision of the model, such as ``bf16``; empty where the record is older.
    """

    tokens: int
    seconds: float
    flops: float | None = None
    peak_flops: float | None = None
    precision: str = ""

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of the work."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def peak_share(self) -> float | None:
        """Share of the machine's peak that was reached; None where it is not known."""
        if self.flops is None or self.peak_flops is None or not self.seconds:
            return None
        return self.flops / self.seconds / self.peak_flops

    def summary(self) -> dict[str, float | None]:
        """The figures and the rates derived from them, for the run ledger."""
        return {**self.model_dump(), "tokens_per_s": self.tokens_per_s, "peak_share": self.peak_share}

    def sentence(self) -> str:
        """One phrase for tables: throughput, and share of the peak."""
        share = "" if self.peak_share is None else f", {self.peak_share:.0%} of the machine's peak"
        return f"{self.tokens_per_s:,.0f} tokens/s{share}"


class StageReport(_Ref):
    """Base of all reports.

    Attributes:
        stage: Name of its flow.
    """

    stage: ClassVar[str]
    seconds: float

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        raise NotImplementedError


class IngestReport(StageReport):
    """Latest snapshot of one kind, and the row counts of the sources.

    Attributes:
        unread: Sources that are not required and could not be read, with the reason. Their former documents stay.
    """

    stage: ClassVar[str] = "ingest"
    kind: DocumentKind
    snapshot: str
    rows_in: int
    rows_kept: int
    rows_quarantined: int
    rows_duplicate: int
    rows_near_duplicate: int
    quarantine_reasons: dict[str, int] = {}
    marks: dict[str, int] = {}
    notes: dict[str, int] = {}
    skipped: dict[str, str] = {}
    num_skipped: int = 0
    unread: dict[str, str] = {}
    unreadable_values: dict[str, int] = {}
    rows_replaced: int = 0

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.quarantine_reasons.items())
        return (
            f"{self.rows_in:,} {self.kind} rows: {self.rows_kept:,} kept ({self.rows_duplicate:,} duplicates, "
            f"{self.rows_near_duplicate:,} near-duplicates), {self.rows_quarantined:,} quarantined"
            f"{f' ({reasons})' if reasons else ''}{self._readers()}"
        )

    def _readers(self) -> str:
        """Replaced rows, marks, skipped files, unreadable values of facets, and decisions of the readers."""
        parts = [f"{self.rows_replaced:,} older rows replaced"] if self.rows_replaced else []
        parts += [f"{count:,} marked {mark}" for mark, count in self.marks.items()]
        if self.num_skipped:
            named = ", ".join(list(self.skipped)[:3]) + (", …" if self.num_skipped > 3 else "")
            parts.append(f"{self.num_skipped:,} file(s) passed over ({named})")
        if self.unreadable_values:
            named = ", ".join(f"{facet} {count:,}" for facet, count in self.unreadable_values.items())
            parts.append(f"values that cannot be read: {named}")
        parts += [f"{note} ({count:,} file(s))" for note, count in self.notes.items()]
        parts += [f"source {name} was not read: {reason}" for name, reason in self.unread.items()]
        return "".join(f"; {part}" for part in parts)


class CheckpointRef(_Ref):
    """An encoder in the store."""

    fingerprint: str
    label: str
    trained: bool


class TrainReport(StageReport):
    """Outcome of the training stage: the recipe's checkpoint, new or already in the store.

    ``left_out`` counts the judgments that overlap with an evaluation task, by task (``judgments.leave_out``).
    """

    stage: ClassVar[str] = "train"
    checkpoint: CheckpointRef
    recipe_key: str
    steps: int
    tokens: int
    usage: Usage | None = None
    left_out: dict[str, int] = {}

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        done = f"{self.steps:,} steps on {self.tokens:,} tokens; checkpoint {self.checkpoint.fingerprint[:12]}"
        counts = ", ".join(f"{count:,} of {task}" for task, count in self.left_out.items() if count)
        return f"{done}; judgments left out because they overlap with evaluation tasks: {counts}" if counts else done


class EvaluateReport(StageReport):
    """Outcome of the evaluation stage; ``refused`` when the gate kept the served encoder."""

    stage: ClassVar[str] = "evaluate"
    served: str
    reason: str
    findings: list[str]
    refused: bool
    report: str
    systems: list[dict[str, object]]
    computed: int
    reused: int

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        return f"{self.computed} scores computed, {self.reused} reused. {self.reason}".strip()

    def score_rows(self) -> list[dict[str, str]]:
        """Every score of every system, for tables."""
        return [
            {
                "system": str(system["name"]),
                "task": task,
                "main score": f"{score['main_score']:.2f}",
                "95 % interval": "" if score["ci_low"] is None else f"{score['ci_low']:.1f} to {score['ci_high']:.1f}",
                "seconds": f"{score['seconds']:,.1f}",
            }
            for system in self.systems
            for task, score in system["tasks"].items()  # type: ignore[attr-defined]
        ]


class EmbedReport(StageReport):
    """Outcome of the embedding stage, with the generation that is served now.

    Attributes:
        read_tokens: Tokens of what is served that the encoder read, by kind.
        cut_tokens: Tokens of what is served that were cut, by kind.
        no_vector: Documents in quarantine by kind: their vector is not finite, or zero.
        no_vector_documents: The first of them, as ``source/source id``.
    """

    stage: ClassVar[str] = "embed"
    generation: str
    checkpoint: str
    encoded_documents: int
    encoded_tokens: int
    truncated_documents: int
    upserted: dict[str, int]
    removed: dict[str, int]
    documents: dict[str, int]
    read_tokens: dict[str, int] = {}
    cut_tokens: dict[str, int] = {}
    no_vector: dict[str, int] = {}
    no_vector_documents: list[str] = []
    usage: Usage | None = None

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        served = ", ".join(f"{count:,} {kind}s" for kind, count in self.documents.items())
        bad = sum(self.no_vector.values())
        quarantined = f"; {bad:,} without a vector in quarantine" if bad else ""
        return (
            f"{self.encoded_documents:,} documents encoded ({self.encoded_tokens:,} tokens, "
            f"{self.truncated_documents:,} truncated); serving {served} as {self.generation}, "
            f"{self.cut_share:.1%} of their tokens cut{quarantined}"
        )

    @property
    def cut_share(self) -> float:
        """Share of the tokens of what is served that were cut, from 0 to 1."""
        cut = sum(self.cut_tokens.values())
        return cut / max(cut + sum(self.read_tokens.values()), 1)


class MatchReport(StageReport):
    """Matches of one served state.

    Attributes:
        jobs: Matched jobs.
        past_jobs: Jobs that were left out, because their ``valid_through`` is past.
        filtered: Documents that ``match.where`` and ``match.exclude`` left out.
        similar: Documents for which a newer similar one is ranked.
        verdicts: Number of pairs by verdict of their conditions.
        nobody_fits: By kind, documents without a possible or strong match; empty if the fit is not known.
        fit_note: The limits of fit, or why there are none.
    """

    stage: ClassVar[str] = "match"
    match: str
    jobs: int
    resumes: int
    rows: int
    past_jobs: int = 0
    filtered: int = 0
    similar: int = 0
    verdicts: dict[str, int] = {}
    nobody_fits: dict[DocumentKind, int] = {}
    fit_note: str = ""
    reused: bool

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        state = " (unchanged)" if self.reused else ""
        if failed := self.verdicts.get("fail"):
            state += f"; {failed:,} of the pairs fail a condition"
        state += f"; {self.similar:,} older copies and versions are not ranked" if self.similar else ""
        state += f"; {self.filtered:,} documents left out by filter or list" if self.filtered else ""
        state += f"; {self.past_jobs:,} jobs past their valid_through left out" if self.past_jobs else ""
        if self.nobody_fits:
            unfit = self.nobody_fits
            state += f"; nobody fits {unfit['job']:,} jobs, and no job fits {unfit['resume']:,} resumes"
        elif self.fit_note:
            state += f"; {self.fit_note}"
        return f"{self.jobs:,} jobs x {self.resumes:,} resumes, both ways: {self.rows:,} ranked pairs{state}"


class ExportReport(StageReport):
    """The published export; ``reused`` when an earlier run published the same state."""

    stage: ClassVar[str] = "export"
    path: str
    files: int
    rows: dict[str, int]
    reused: bool

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        state = " (unchanged)" if self.reused else ""
        return ", ".join(f"{count:,} rows of {kind}" for kind, count in self.rows.items()) + state


class MaintainStep(_Ref):
    """Outcome of one step of maintenance; ``error`` says why it failed."""

    step: str
    count: int
    freed_bytes: int
    error: str = ""


class MaintainReport(StageReport):
    """Outcome of maintenance."""

    stage: ClassVar[str] = "maintain"
    steps: list[MaintainStep]

    @property
    def failed(self) -> list[str]:
        """Names of the steps that failed."""
        return [step.step for step in self.steps if step.error]

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        freed = sum(step.freed_bytes for step in self.steps)
        failed = f"; failed: {', '.join(self.failed)}" if self.failed else ""
        return f"{sum(step.count for step in self.steps):,} objects, {freed / 1e6:,.1f} MB freed{failed}"


class EraseReport(StageReport):
    """A finished and verified erasure."""

    stage: ClassVar[str] = "erase"
    doc_ids: list[str]
    removed: dict[str, int]
    scanned_files: int
    scanned_bytes: int
    trained_checkpoints: list[str]
    advice: str
    elsewhere: str

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        places = ", ".join(f"{count:,} {place}" for place, count in self.removed.items())
        return (
            f"{len(self.doc_ids)} document(s) erased; rewritten or removed: {places or 'nothing'}. "
            f"A scan of {self.scanned_files:,} files found nothing."
        )


class AuditReport(StageReport):
    """The fairness audit of a served state; ``firing`` lists the attributes that move the stored resumes' rankings."""

    stage: ClassVar[str] = "audit"
    path: str
    firing: list[str]
    encoded: int
    findings: list[str]

    def sentence(self) -> str:
        """One sentence for logs and tables."""
        state = f"moved by {', '.join(self.firing)}" if self.firing else "not shown to be moved by any attribute"
        return f"{self.encoded:,} versions of resumes encoded; rankings are {state}"

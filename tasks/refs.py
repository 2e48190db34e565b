"""References that tasks hand on: ids and counts, never models, tables or arrays."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from data.schema import DocumentKind


class _Ref(BaseModel):
    model_config = ConfigDict(frozen=True)


class StageReport(_Ref):
    """What every stage tells."""

    seconds: float

    def sentence(self) -> str:
        """What it did, for logs and tables."""
        raise NotImplementedError


class IngestReport(StageReport):
    """Latest snapshot of one kind, and what the sources just read gave."""

    kind: DocumentKind
    snapshot: str
    rows_in: int
    rows_kept: int
    rows_quarantined: int
    rows_duplicate: int
    rows_near_duplicate: int

    def sentence(self) -> str:
        """What it did, for logs and tables."""
        return (
            f"{self.rows_in:,} {self.kind} rows: {self.rows_kept:,} kept ({self.rows_duplicate:,} duplicates, "
            f"{self.rows_near_duplicate:,} near-duplicates), {self.rows_quarantined:,} quarantined"
        )


class CheckpointRef(_Ref):
    """An encoder in the store."""

    fingerprint: str
    label: str
    trained: bool


class TrainReport(StageReport):
    """Outcome of the training stage: the recipe's checkpoint, made now or before."""

    checkpoint: CheckpointRef
    recipe_key: str
    steps: int
    tokens: int

    def sentence(self) -> str:
        """What it did, for logs and tables."""
        return f"{self.steps:,} steps on {self.tokens:,} tokens; checkpoint {self.checkpoint.fingerprint[:12]}"


class EvaluateReport(StageReport):
    """Outcome of the evaluation stage; ``refused`` when the gate kept the served encoder."""

    served: str
    reason: str
    findings: list[str]
    refused: bool
    report: str
    systems: list[dict[str, object]]
    computed: int
    reused: int

    def sentence(self) -> str:
        """What it did, for logs and tables."""
        return f"{self.computed} scores computed, {self.reused} reused. {self.reason}".strip()


class EmbedReport(StageReport):
    """Outcome of the embedding stage: what the pointer names now."""

    generation: str
    checkpoint: str
    encoded_documents: int
    encoded_tokens: int
    truncated_documents: int
    upserted: dict[str, int]
    removed: dict[str, int]
    documents: dict[str, int]

    def sentence(self) -> str:
        """What it did, for logs and tables."""
        served = ", ".join(f"{count:,} {kind}s" for kind, count in self.documents.items())
        return (
            f"{self.encoded_documents:,} documents encoded ({self.encoded_tokens:,} tokens, "
            f"{self.truncated_documents:,} truncated); serving {served} as {self.generation}"
        )


class MatchReport(StageReport):
    """Matches of one served state."""

    match: str
    jobs: int
    resumes: int
    rows: int
    reused: bool

    def sentence(self) -> str:
        """What it did, for logs and tables."""
        state = " (unchanged)" if self.reused else ""
        return f"{self.jobs:,} jobs x {self.resumes:,} resumes, both ways: {self.rows:,} ranked pairs{state}"


class ExportReport(StageReport):
    """A published export."""

    path: str
    files: int
    rows: dict[str, int]

    def sentence(self) -> str:
        """What it did, for logs and tables."""
        return ", ".join(f"{count:,} rows of {kind}" for kind, count in self.rows.items())


class EraseReport(StageReport):
    """An erasure that is done and proven."""

    doc_ids: list[str]
    removed: dict[str, int]
    scanned_files: int
    scanned_bytes: int
    trained_checkpoints: list[str]
    advice: str

    def sentence(self) -> str:
        """What it did, for logs and tables."""
        places = ", ".join(f"{count:,} {place}" for place, count in self.removed.items())
        return (
            f"{len(self.doc_ids)} document(s) erased; rewritten or removed: {places or 'nothing'}. "
            f"A scan of {self.scanned_files:,} files found nothing."
        )


class AuditReport(StageReport):
    """The fairness audit of a served state; ``firing``: the attributes that move rankings of resumes as stored."""

    path: str
    firing: list[str]
    encoded: int
    findings: list[str]

    def sentence(self) -> str:
        """What it did, for logs and tables."""
        state = f"moved by {', '.join(self.firing)}" if self.firing else "not shown to be moved by any attribute"
        return f"{self.encoded:,} versions of resumes encoded; rankings are {state}"

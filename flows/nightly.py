"""The whole pipeline: ingest, train, evaluate, embed, match, export."""

from __future__ import annotations

import logging
from typing import TypeVar

from prefect import flow
from pydantic import BaseModel

from data.store.base import Store
from flows.embed import embed
from flows.evaluate import evaluate
from flows.export import export
from flows.ingest import ingest
from flows.match import match
from flows.request import RunRequest, recorded, run_name
from flows.train import train
from flows.workers import run_night_stage
from tasks.encoders.evaluation_reports import report_location
from tasks.ledger.runs import peak_rss_bytes, usage_of
from tasks.ledger.usage import Cost, estimate_cost
from tasks.preview.outlook import log_outlook
from tasks.run.reports import (
    AuditReport,
    EmbedReport,
    EvaluateReport,
    ExportReport,
    IngestReport,
    MatchReport,
    StageReport,
    TrainReport,
)
from tasks.stages.audit import audit_served, latest_audit
from tasks.stages.check import check_night
from tasks.stages.watch import watch_served
from tasks.ui.artifacts import GATE_REFUSED, SOURCE_UNREAD, emit_alert, publish_markdown

logger = logging.getLogger(__name__)

_Stage = TypeVar("_Stage", bound=StageReport)


class NightlyReport(BaseModel):
    """Reports of all stages of a night."""

    run_id: str
    ingested: list[IngestReport]
    trained: TrainReport
    evaluated: EvaluateReport
    embedded: EmbedReport
    matched: MatchReport
    audited: AuditReport | None
    exported: ExportReport
    report_path: str
    seconds: float
    cost: Cost

    def summary(self) -> dict[str, object]:
        """The JSON object that ``l2v nightly --json`` prints."""
        return {
            "run_id": self.run_id,
            "stages": {
                "ingest": {
                    "seconds": sum(report.seconds for report in self.ingested),
                    **{report.kind: report.model_dump(exclude={"kind", "seconds"}) for report in self.ingested},
                },
                "train": self.trained.model_dump(),
                "evaluate": self.evaluated.model_dump(exclude={"systems"}),
                "embed": self.embedded.model_dump(),
                "match": self.matched.model_dump(),
                **({"audit": self.audited.model_dump()} if self.audited is not None else {}),
                "export": self.exported.model_dump(),
            },
            "seconds": self.seconds,
            "usage": usage_of((self.trained, self.embedded)),
            "cost": self.cost.model_dump(),
            "encoded_documents": self.embedded.encoded_documents,
            "training_steps": self.trained.steps,
            "served_generation": self.embedded.generation,
            "served_checkpoint": self.embedded.checkpoint,
            "report": self.report_path,
            "exports": self.exported.path,
            "refused": self.refusal,
            "peak_rss_bytes": peak_rss_bytes(),
        }

    @property
    def refusal(self) -> str | None:
        """The gate's reason for keeping the served encoder, if it did. The night then used that encoder."""
        return self.evaluated.reason if self.evaluated.refused else None


@flow(name="nightly", flow_run_name=run_name)
def nightly(request: RunRequest | None = None) -> NightlyReport:
    """Ingest, train, evaluate, embed, match, export. A failed stage stops the rest; the served state stays.

    Args:
        request: Settings of the run.
    """
    request = request or RunRequest()
    with recorded("nightly", request) as record:
        run, stage = record.run, request.of_stage(record.run)
        check_night(run)
        ingested = [_logged(record.did(report)) for report in ingest(stage)]
        log_outlook(run)
        trained = _logged(record.did(run_night_stage(train, TrainReport, stage, newest=False)))
        if trained.steps:
            log_outlook(run)
        evaluated = _logged(record.did(run_night_stage(evaluate, EvaluateReport, stage, trained=trained.checkpoint)))
        embedded = _logged(record.did(run_night_stage(embed, EmbedReport, stage, fingerprint=evaluated.served)))
        watch_served(run, embedded)
        matched = _logged(record.did(match(stage)))
        audited = _logged(record.did(audit_served(run))) if run.settings.audit.enabled else None
        exported = _logged(record.did(export(stage)))
        report = NightlyReport(
            run_id=run.id,
            ingested=ingested,
            trained=trained,
            evaluated=evaluated,
            embedded=embedded,
            matched=matched,
            audited=audited,
            exported=exported,
            report_path=report_location(run.store, evaluated.report, "html"),
            seconds=record.seconds(),
            cost=estimate_cost(run.settings.cost, record.seconds()),
        )
        record.summary = report.summary()
    _publish(run.store, report)
    return report


def _logged(report: _Stage) -> _Stage:
    """Log a stage's summary, and return its report."""
    logger.info("%-8s %s (%.1f s)", report.stage, report.sentence(), report.seconds)
    return report


def _publish(store: Store, report: NightlyReport) -> None:
    """Publish the artifacts of the night; its stages publish their own."""
    publish_markdown("nightly", render_night(report), description=f"Night {report.run_id}")
    if report.refusal:
        emit_alert(GATE_REFUSED, report.run_id, reason=report.refusal)
    unread = [name for each in report.ingested for name in each.unread]
    if unread:
        emit_alert(SOURCE_UNREAD, report.run_id, sources=", ".join(unread))
    if report.audited is not None:
        publish_markdown("fairness", latest_audit(store), description=f"Fairness audit of night {report.run_id}")


def night_rows(report: NightlyReport) -> list[tuple[str, str, float]]:
    """Rows of the table at the end of a night: stage, what it did, seconds."""
    ingested = "; ".join(each.sentence() for each in report.ingested)
    stages = {
        "train": report.trained,
        "evaluate": report.evaluated,
        "embed": report.embedded,
        "match": report.matched,
        **({"audit": report.audited} if report.audited is not None else {}),
        "export": report.exported,
    }
    return [
        ("ingest", ingested, sum(each.seconds for each in report.ingested)),
        *((name, stage.sentence(), stage.seconds) for name, stage in stages.items()),
    ]


def render_night(report: NightlyReport) -> str:
    """Render the night as Markdown."""
    lines = [f"# Night {report.run_id}", "", "| stage | what it did | seconds |", "| --- | --- | ---: |"]
    lines += [f"| {stage} | {what} | {seconds:.1f} |" for stage, what, seconds in night_rows(report)]
    lines += [
        "",
        f"- serving checkpoint `{report.embedded.checkpoint[:12]}`, generation `{report.embedded.generation}`",
        f"- report: `{report.report_path}`",
        f"- exports: `{report.exported.path}`",
        *(f"- {stage.stage}: {stage.usage.sentence()}" for stage in (report.trained, report.embedded) if stage.usage),
        *([f"- cost: {report.cost.sentence()}"] if report.cost.sentence() else []),
    ]
    if report.audited is not None:
        lines += ["", "## Fairness audit", "", *(f"- {finding}" for finding in report.audited.findings)]
    return "\n".join(lines) + "\n"

"""Events that automations listen to."""

from __future__ import annotations

from prefect.events import emit_event

GATE_REFUSED = "llm2vec.gate-refused"


def emit_refusal(run_id: str, reason: str) -> None:
    """Tell that the gate kept the served encoder."""
    resource = {"prefect.resource.id": f"llm2vec.run.{run_id}", "prefect.resource.name": f"night {run_id}"}
    emit_event(GATE_REFUSED, resource=resource, payload={"run_id": run_id, "reason": reason})

"""Watch nights on a Prefect server: a freshness check, alerts and restarts.

A run whose machine died sends no heartbeats, or never begins. It is marked as crashed, and a crashed night is started
again. Prefect's own retries do not fire then, since the process that would retry is gone.
"""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

from prefect import flow
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from flows.request import RunRequest
from tasks.errors import StaleError
from tasks.queries.status import alerts
from tasks.ui.artifacts import GATE_REFUSED, SOURCE_UNREAD
from tasks.ui.webhook import SignedWebhook

_WEBHOOK_BLOCK = "llm2vec-alerts"
_NAME_PREFIX = "llm2vec: "
_FLOW_RUN = "prefect.flow-run"
_ENDED = ("Completed", "Failed", "Cancelled", "Crashed")


@flow(name="freshness")
def freshness(request: RunRequest | None = None) -> None:
    """Fail if the served data are too old. An automation reacts to the failure.

    Args:
        request: Settings of the run.

    Raises:
        StaleError: The served source data are too old, or nothing was ever served.
    """
    for alert in alerts((request or RunRequest()).settings()):
        if alert.kind == "stale":
            raise StaleError(alert.message)


class AutomationSettings(BaseModel):
    """Settings of alerts and restarts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook: SecretStr | None = Field(None, description="URL that alerts are posted to as JSON (default: no alerts).")
    secret: SecretStr | None = Field(
        None, description="Secret that signs the alerts (HMAC-SHA256); the server must run this package, too."
    )
    heartbeat_timeout_s: int = Field(120, ge=10, description="Seconds without a heartbeat after which a run is dead.")
    start_timeout_s: int = Field(
        1800,
        ge=10,
        description="Seconds that a run may take to begin after a worker took it, including the image pull.",
    )
    restart_after_s: int = Field(60, ge=0, description="Seconds until a crashed night is started again.")


def apply_automations(settings: AutomationSettings) -> list[str]:
    """Create the automations on the server. They replace all whose names start with ``llm2vec: ``.

    Returns:
        Their names.
    """
    block_id = _save_webhook(settings.webhook, settings.secret) if settings.webhook else None
    automations = build_automations(settings, block_id)
    with get_client(sync_client=True) as client:
        for former in client.read_automations():
            if former.name.startswith(_NAME_PREFIX):
                client.delete_automation(former.id)
        for automation in automations:
            client.create_automation(automation)
    return [automation.name for automation in automations]


def build_automations(settings: AutomationSettings, webhook_block: UUID | None) -> list[AutomationCore]:
    """Build all automations. Without a webhook there are only restarts, no alerts."""
    restart = RunDeployment(source="inferred", schedule_after=timedelta(seconds=settings.restart_after_s))
    built = [
        _lost_heartbeat(settings.heartbeat_timeout_s),
        _never_begun(settings.start_timeout_s),
        _automation("a crashed night is started again", _nightly("Crashed"), [restart]),
    ]
    if webhook_block is None:
        return built
    run = {"flow_run": "{{ flow_run.name }}", "state": "{{ flow_run.state.name }}"}
    alerts_of = {
        "failed": (_nightly("Failed"), run),
        "crashed": (_nightly("Crashed"), run),
        "late": (_nightly("Late"), run),
        "stale": (_of_flow("freshness", "Failed"), run),
        "refused": (
            EventTrigger(expect={GATE_REFUSED}, posture=Posture.Reactive, threshold=1),
            {"run_id": "{{ event.payload.run_id }}"},
        ),
        "source": (
            EventTrigger(expect={SOURCE_UNREAD}, posture=Posture.Reactive, threshold=1),
            {"run_id": "{{ event.payload.run_id }}", "sources": "{{ event.payload.sources }}"},
        ),
    }
    for alert, (trigger, details) in alerts_of.items():
        payload = json.dumps({"alert": alert, "at": "{{ event.occurred }}", **details})
        call = CallWebhook(block_document_id=webhook_block, payload=payload)
        built.append(_automation(f"tell: {alert}", trigger, [call]))
    return built


def _automation(name: str, trigger: EventTrigger, actions: list[ActionTypes]) -> AutomationCore:
    return AutomationCore(name=f"{_NAME_PREFIX}{name}", trigger=trigger, actions=actions)


def _nightly(state: str) -> EventTrigger:
    return _of_flow("nightly", state)


def _of_flow(flow: str, state: str) -> EventTrigger:
    """Trigger: a run of a flow entered a state."""
    return EventTrigger(
        expect={f"{_FLOW_RUN}.{state}"},
        match={"prefect.resource.id": f"{_FLOW_RUN}.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": flow},
        posture=Posture.Reactive,
        threshold=1,
    )


def _lost_heartbeat(timeout_s: int) -> AutomationCore:
    """Mark a run as crashed if it sends no further heartbeat and does not end."""
    trigger = _missed(after="heartbeat", expect=("heartbeat", *_ENDED), within_s=timeout_s)
    crash = ChangeFlowRunState(state=StateType.CRASHED, message="No heartbeat: its process or its machine is gone.")
    return _automation("a run without heartbeat has crashed", trigger, [crash])


def _never_begun(timeout_s: int) -> AutomationCore:
    """Mark a run as crashed if a worker took it and it does not begin, end or wait for its turn."""
    waiting = ("Scheduled", "Late", "AwaitingConcurrencySlot", "Cancelling")
    trigger = _missed(after="Pending", expect=("Running", *waiting, *_ENDED), within_s=timeout_s)
    crash = ChangeFlowRunState(state=StateType.CRASHED, message="It never began: the machine that took it is gone.")
    return _automation("a run that never began has crashed", trigger, [crash])


def _missed(*, after: str, expect: tuple[str, ...], within_s: int) -> EventTrigger:
    """Trigger: none of the expected events of a run came in time."""
    return EventTrigger(
        after={f"{_FLOW_RUN}.{after}"},
        expect={f"{_FLOW_RUN}.{name}" for name in expect},
        match={"prefect.resource.id": f"{_FLOW_RUN}.*"},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=within_s),
    )


def _save_webhook(url: SecretStr, secret: SecretStr | None) -> UUID:
    is_signed = secret is not None
    # A block cannot change its type, so each type has a name of its own.
    name = f"{_WEBHOOK_BLOCK}-signed" if is_signed else _WEBHOOK_BLOCK
    block = SignedWebhook(url=url, method="POST", secret=secret) if is_signed else Webhook(url=url, method="POST")
    block_id = block.save(name, overwrite=True)
    assert isinstance(block_id, UUID), "called from synchronous code, so this is the id, not a coroutine"
    return block_id

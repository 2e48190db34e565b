"""Checks of the Prefect server: version, work pools, deployments, alerts."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from data.store.credentials import mask_credentials
from tasks.doctor.diagnosis import Diagnosis, diagnose, fail, ok, warn
from tasks.errors import SettingsError
from tasks.queries.server_api import ask_server, server_url

_DEPLOY = "Run `prefect --no-prompt deploy --all` in the checkout."
_ALERTS = "llm2vec: tell"
_TAG = "llm2vec"


def read_deployments(prefect_file: Path | None) -> dict[str, dict[str, Any]]:
    """The deployments of a ``prefect.yaml``, by name.

    Args:
        prefect_file: The file (default: that of ``LLM2VEC_CHECKOUT``, of the working directory, or of this checkout).

    Raises:
        SettingsError: There is no such file, or it lists no deployments.
    """
    folders = [os.environ.get("LLM2VEC_CHECKOUT"), Path.cwd(), Path(__file__).parents[2]]
    candidates = [prefect_file] if prefect_file else [Path(each) / "prefect.yaml" for each in folders if each]
    path = next((each for each in candidates if each.is_file()), None)
    if path is None:
        raise SettingsError(
            f"There is no {candidates[0]}.", hint="Set LLM2VEC_CHECKOUT to the checkout, or pass --prefect-file."
        )
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {str(each["name"]): each for each in described["deployments"]}
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise SettingsError(
            f"{path} lists no deployments ({type(error).__name__}).", hint="Restore it with `git checkout`."
        ) from error


def examine_server(prefect_file: Path | None) -> list[Diagnosis]:
    """Check the server, its work pools, deployments and alerts. Without a server there is only one result."""
    url = server_url()
    if url is None:
        found = "PREFECT_API_URL is not set: commands use the embedded server, and nothing is scheduled."
        return [ok("server", found)]
    server = _examine_version(url)
    if server.level == "fail":
        return [server]
    try:
        wanted = read_deployments(prefect_file)
    except SettingsError as error:
        return [server, fail("deployments", str(error), error.hint)]
    return [
        server,
        *diagnose("pools", lambda: _examine_pools(wanted)),
        *diagnose("deployments", lambda: _examine_deployments(wanted)),
        *diagnose("schedule", lambda: _examine_schedules(wanted)),
        *diagnose("alerts", _examine_alerts),
    ]


def _examine_version(url: str) -> Diagnosis:
    shown, client = mask_credentials(url), importlib.metadata.version("prefect")
    try:
        version = str(ask_server("/admin/version").body)
        ask_server("/deployments/filter", {"limit": 1})  # unlike the version, this reads the database
    except HTTPError as error:
        if error.code in (401, 403):
            return fail(
                "server",
                f"{shown} refuses the credentials ({error.code}).",
                "Set PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING.",
            )
        return fail(
            "server", f"{shown} answers with error {error.code}.", "Look at the server's log; is its database up?"
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return fail(
            "server",
            f"{shown} does not answer: {reason}.",
            "Start the server (`systemctl start prefect-server`), or correct PREFECT_API_URL.",
        )
    if version.split(".")[:2] != client.split(".")[:2]:
        return fail(
            "server",
            f"{shown} runs Prefect {version}; this environment has {client}.",
            "Update both to the version of requirements.lock (`make env`), the server first.",
        )
    return ok("server", f"{shown} runs Prefect {version}.")


def _examine_pools(wanted: Mapping[str, Mapping[str, Any]]) -> list[Diagnosis]:
    used: dict[str, list[str]] = {}
    for name, deployment in wanted.items():
        used.setdefault(deployment["work_pool"]["name"], []).append(name)
    pools = {pool["name"]: pool for pool in ask_server("/work_pools/filter", {}).body}
    found = []
    for name, deployments in used.items():
        check, purpose = f"pool {name}", f"{', '.join(deployments[:3])}{' …' if len(deployments) > 3 else ''}"
        start = f"`systemctl start prefect-worker@{name}`, or `prefect worker start --pool {name} --type process`"
        if name not in pools:
            create = f"`prefect work-pool create {name} --type process`"
            found.append(fail(check, f"There is no work pool '{name}' for {purpose}.", f"Run {create}, then {start}."))
            continue
        workers = _online_workers(name)
        if pools[name].get("is_paused"):
            found.append(fail(check, "It is paused.", f"Run `prefect work-pool resume {name}`."))
        elif not workers:
            elsewhere = [other for other in pools if other not in used and _online_workers(other)]
            hint = f" Workers run for {', '.join(elsewhere)}, which no deployment uses." if elsewhere else ""
            found.append(fail(check, f"No worker takes its runs ({purpose}).{hint}", f"Run {start}."))
        else:
            found.append(ok(check, f"{len(workers)} worker(s): {', '.join(workers[:3])}."))
    return found


def _online_workers(pool: str) -> list[str]:
    listed = ask_server(f"/work_pools/{pool}/workers/filter", {}).body
    return [worker["name"] for worker in listed if worker["status"] == "ONLINE"]


def _examine_deployments(wanted: Mapping[str, Mapping[str, Any]]) -> Diagnosis:
    named = ask_server("/deployments/filter", {"deployments": {"name": {"any_": [*wanted]}}}).body
    flows = {
        flow["id"]: flow["name"]
        for flow in ask_server(
            "/flows/filter", {"flows": {"name": {"any_": [_flow_of(each) for each in wanted.values()]}}}
        ).body
    }
    # Other projects on the server may have deployments of the same name.
    served = {each["name"]: each for each in named if flows.get(each["flow_id"]) == _flow_of(wanted[each["name"]])}
    tagged = ask_server("/deployments/filter", {"deployments": {"tags": {"all_": [_TAG]}}}).body
    missing = sorted(set(wanted) - set(served))
    stale = {name: _differences(wanted[name], served[name]) for name in wanted if name in served}
    stale = {name: differences for name, differences in stale.items() if differences}
    unknown = sorted({each["name"] for each in tagged} - set(wanted))
    faults = [f"{name} ({'; '.join(differences)})" for name, differences in stale.items()]
    sentences = [
        *([f"Missing: {', '.join(missing)}."] if missing else []),
        *([f"Stale: {', '.join(faults)}."] if faults else []),
    ]
    if sentences:
        return fail("deployments", " ".join(sentences), _DEPLOY)
    paused = sorted(name for name in wanted if served[name].get("paused"))
    if paused:
        return warn(
            "deployments",
            f"Paused: {', '.join(paused)}.",
            "Resume them on the Deployments page, or deploy again.",
        )
    if unknown:
        return warn(
            "deployments",
            f"On the server, but not in prefect.yaml: {', '.join(unknown)}.",
            "Remove them with `prefect deployment delete FLOW/NAME`.",
        )
    return ok("deployments", f"All {len(wanted)} are as in prefect.yaml.")


def _flow_of(wanted: Mapping[str, Any]) -> str:
    """Name of a deployment's flow: that of its function."""
    return str(wanted["entrypoint"]).rsplit(":", 1)[-1]


def _differences(wanted: Mapping[str, Any], served: Mapping[str, Any]) -> list[str]:
    """Phrases that say how a deployment on the server differs from ``prefect.yaml``."""
    limit = wanted.get("concurrency_limit")
    wanted_limit = limit["limit"] if isinstance(limit, Mapping) else limit
    served_limit = (served.get("global_concurrency_limit") or {}).get("limit")
    pairs = {
        "entrypoint": (wanted["entrypoint"], served["entrypoint"]),
        "work pool": (wanted["work_pool"]["name"], served["work_pool_name"]),
        "schedules": (_phrase(_wanted_schedules(wanted)), _phrase(_served_schedules(served))),
        "concurrency limit": (wanted_limit, served_limit),
        **_compared(wanted["work_pool"].get("job_variables") or {}, served["job_variables"], "job variables"),
        **_compared(wanted.get("parameters") or {}, served["parameters"], "parameters"),
    }
    return [
        f"{what}: {mask_credentials(str(there))} instead of {mask_credentials(str(here))}"
        for what, (here, there) in pairs.items()
        if here != there
    ]


def _compared(here: Mapping[str, Any], there: Mapping[str, Any], path: str) -> dict[str, tuple[Any, Any]]:
    """Both values of every key below a path, such as ``parameters.request.profile``; ``none`` for a missing key."""
    pairs: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*here, *there}):
        one, two = here.get(name, "none"), there.get(name, "none")
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            pairs |= _compared(one, two, f"{path}.{name}")
        else:
            pairs[f"{path}.{name}"] = (one, two)
    return pairs


def _wanted_schedules(wanted: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    schedules = wanted.get("schedules") or []
    return sorted((each["cron"], each["timezone"], each.get("active", True)) for each in schedules)


def _served_schedules(served: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return sorted(
        (str(each["schedule"].get("cron")), str(each["schedule"].get("timezone")), each["active"])
        for each in served["schedules"]
    )


def _phrase(schedules: Sequence[tuple[Any, ...]]) -> str:
    return ", ".join(f"{cron} {zone}{'' if active else ' (off)'}" for cron, zone, active in schedules) or "none"


def _examine_schedules(wanted: Mapping[str, Mapping[str, Any]]) -> Diagnosis:
    """Check that the nights of ``prefect.yaml`` are scheduled, in a time zone that this machine knows."""
    schedules: Sequence[Mapping[str, Any]] = wanted.get("nightly", {}).get("schedules") or []
    if not any(each.get("active", True) for each in schedules):
        return warn("schedule", "No night is scheduled.", "Add a schedule to `nightly` in prefect.yaml, and deploy.")
    for each in schedules:
        try:
            ZoneInfo(each["timezone"])
        except (ZoneInfoNotFoundError, ValueError):
            return fail("schedule", f"'{each['timezone']}' is not a time zone.", "Use a name such as Europe/London.")
    shown = ", ".join(f"{each['cron']} {each['timezone']}" for each in schedules)
    return ok("schedule", f"Nights: {shown}.")


def _examine_alerts() -> Diagnosis:
    automations = ask_server("/automations/filter", {}).body
    ours = [each for each in automations if each["name"].startswith(_ALERTS) and each["enabled"]]
    if not ours:
        return warn("alerts", "No webhook is told when a night fails.", "Run `l2v automations --webhook URL`.")
    return ok("alerts", f"{len(ours)} kinds are sent to a webhook.")

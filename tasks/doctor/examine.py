"""All checks, in the order in which a fault is looked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from data.errors import DataError
from data.store.credentials import mask_credentials
from tasks.doctor.diagnosis import Diagnosis, Examination, diagnose, fail
from tasks.doctor.environment import describe_environment
from tasks.doctor.inputs import examine_base_model, examine_programs, examine_source, examine_store
from tasks.doctor.machine import (
    examine_clock,
    examine_disk,
    examine_gpu,
    examine_packages,
    examine_permissions,
    examine_python,
)
from tasks.doctor.server import examine_server
from tasks.run.settings import Settings


def examine(settings: Settings, *, prefect_file: Path | None = None) -> Examination:
    """Check the installation. Nothing is changed, except that two small files are written to the store and removed.

    Args:
        settings: Effective settings.
        prefect_file: The ``prefect.yaml`` that the server should follow (default: that of the checkout).
    """
    found = [
        *diagnose("python", examine_python),
        *diagnose("packages", examine_packages),
        *diagnose("gpu", examine_gpu),
        *diagnose("programs", lambda: examine_programs(settings)),
        *examine_server(prefect_file),
        *_examine_home(settings),
    ]
    for name, config in settings.sources.items():
        found += diagnose(f"source {name}", partial(examine_source, name, config))
    return Examination(checks=tuple(found), environment=describe_environment(settings))


def _examine_home(settings: Settings) -> list[Diagnosis]:
    try:
        store = settings.store()
    except DataError as error:
        return [fail("store", mask_credentials(str(error)), error.hint)]
    return [
        *diagnose("store", lambda: examine_store(settings, store)),
        *diagnose("permissions", lambda: examine_permissions(store)),
        *diagnose("disk", lambda: examine_disk(settings, store)),
        *diagnose("clock", lambda: examine_clock(store)),
        *diagnose("base model", lambda: examine_base_model(settings, store)),
    ]

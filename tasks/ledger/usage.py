"""Usage and cost of a run: tokens, share of the machine's peak, and estimated money and energy.

FLOPs are computed from token counts with the formulas of ``llm2vec_core.planning.plan``. Never imports prefect.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from data.store.base import Store
from llm2vec_core.errors import CoreError
from llm2vec_core.model.modes import Precision
from llm2vec_core.training.settings import read_curves
from tasks.encoders.checkpoints import checkpoint_dir
from tasks.run.context import Run
from tasks.run.reports import Usage
from tasks.run.settings import CostSettings

if TYPE_CHECKING:
    from tasks.workers.shards import ShardReport

CURRENCY = "$"
"""Currency symbol of the prices."""


class Cost(BaseModel):
    """Cost of a run, estimated from its time and the configured prices. A field is None without a price."""

    model_config = ConfigDict(frozen=True)

    amount: float | None
    currency: str
    energy_kwh: float | None

    def sentence(self) -> str:
        """Cost and energy for tables; empty without prices."""
        parts = [] if self.amount is None else [f"{self.currency}{self.amount:,.2f}"]
        parts += [] if self.energy_kwh is None else [f"{self.energy_kwh:,.3f} kWh"]
        return ", ".join(parts)


def estimate_cost(settings: CostSettings, duration_s: float) -> Cost:
    """Estimate cost and energy of some seconds on the machine."""
    hours = duration_s / 3600
    return Cost(
        amount=None if settings.price_per_hour is None else settings.price_per_hour * hours,
        currency=CURRENCY,
        energy_kwh=None if settings.power_w is None else settings.power_w * hours / 1000,
    )


def embed_usage(run: Run, fingerprint: str, shards: Sequence[ShardReport]) -> Usage | None:
    """Usage of encoding; None when nothing was encoded.

    Without a share of the peak if torch encoded nothing: the formulas and the measurement of the peak import it.
    """
    documents, tokens = sum(shard.documents for shard in shards), sum(shard.tokens for shard in shards)
    duration_s = sum(shard.seconds for shard in shards)
    if not tokens:
        return None
    if all(shard.without_torch or not shard.tokens for shard in shards):
        return Usage(tokens=tokens, seconds=duration_s)
    from llm2vec_core.planning.architecture import count_architecture, read_config
    from llm2vec_core.planning.formulas import Execution, flops_per_token

    try:
        architecture = count_architecture(read_config(str(checkpoint_dir(run.store, fingerprint))))
    except CoreError:  # the formulas do not cover this architecture
        return Usage(tokens=tokens, seconds=duration_s)
    per_token = flops_per_token(
        architecture, None, sequence_tokens=max(1, tokens // documents), execution=Execution()
    ).forward
    precision = run.settings.encode.settled_precision
    peak = peak_flops(run.store, run.settings.cost, precision)
    return Usage(tokens=tokens, seconds=duration_s, flops=per_token * tokens, peak_flops=peak, precision=precision)


def train_usage(run: Run, fingerprint: str) -> Usage | None:
    """Usage of a checkpoint's training, summed over all runs that it took; None if it is untrained."""
    from llm2vec_core.planning.plan import training_flops

    directory = checkpoint_dir(run.store, fingerprint)
    curves = read_curves(directory)
    if not curves:
        return None
    tokens, duration_s = sum(curve.tokens for curve in curves), sum(curve.seconds for curve in curves)
    try:
        of_stage = training_flops(str(directory), run.settings.train)
    except CoreError:  # the formulas do not cover this architecture
        return Usage(tokens=tokens, seconds=duration_s)
    precisions = {precision for _, precision in of_stage.values()}
    return Usage(
        tokens=tokens,
        seconds=duration_s,
        flops=sum(of_stage[curve.stage][0].training * curve.tokens for curve in curves),
        peak_flops=max(peak_flops(run.store, run.settings.cost, precision) for precision in precisions),
        precision=" and ".join(sorted(precisions)),
    )


def peak_flops(store: Store, settings: CostSettings, precision: Precision) -> float:
    """Peak FLOP/s of this machine: configured, or measured once and stored."""
    if settings.peak_tflops is not None:
        return settings.peak_tflops * 1e12
    from llm2vec_core.planning.peak import device_name, measure_peak_flops

    key = f"machines/{platform.node() or 'unnamed'}-{device_name()}-{precision}.json"
    known = store.read(key)
    if known is None:
        known = json.dumps({"peak_flops": measure_peak_flops(precision)}).encode()
        store.put_if_absent(key, known)
    return float(json.loads(known)["peak_flops"])

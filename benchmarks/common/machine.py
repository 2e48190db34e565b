"""Shared parts of the benchmarks: the machine, a base model, and text that every checkout contains."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

from data.sample.read import read_sample_jobs, read_sample_resumes
from llm2vec_core.model.base_models import fetch_base_model

BASE_MODEL = "bundled:smollm2-135m"


def describe() -> dict[str, Any]:
    """The machine and its load, for the last line."""
    return {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
    }


def base_model_dir() -> Path:
    """The bundled base model, converted once and cached with other temporary files."""
    return fetch_base_model(BASE_MODEL, cache_dir=Path(tempfile.gettempdir()) / "l2v-benchmarks")


def sample_texts() -> list[str]:
    """Postings and resumes of the bundled sample, of mixed length."""
    rows = [*read_sample_jobs(), *read_sample_resumes()]
    return [f"{row.get('title', '')}\n{row.get('description') or row.get('text')}" for row in rows]

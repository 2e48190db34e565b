"""Profiles: named default settings, one TOML file each, which a user's own settings override."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PROFILES_DIR = Path(__file__).parent

Profile = Literal["tiny", "demo", "full", "s-llama-1.3b", "llama-2-7b", "mistral-7b", "llama-3-8b"]
"""Names of the profiles; those named after a base model are the paper's configurations of it."""

"""Checks of an installation: packages, Prefect server, machine, store, base model, sources. Never imports prefect."""

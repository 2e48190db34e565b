# Needs Python 3.11 or newer and make. `make nightly` runs the pipeline, `make test` the fast tests.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
# Two processes. A test file stays in one of them: its tests share servers and trained models.
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: help env nightly test test-all check audit format lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

env: $(VENV)/.locked  ## create the environment in .venv; the command is .venv/bin/l2v

nightly: env  ## run the pipeline on the bundled sample (about six minutes on two cores)
	$(BIN)/l2v nightly

test: env  ## run the fast tests, offline
	$(BIN)/pytest -m "not slow" $(PYTEST_ARGS)

test-all: env  ## run all tests
	$(BIN)/pytest $(PYTEST_ARGS)

check: env  ## check format, lint, types, import rules and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos

audit: env  ## look up known vulnerabilities of the locked dependencies; without a network, in the stored findings
	$(BIN)/python -m tools.audit $(UV) tool run pip-audit

format: env  ## format the code and apply automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(UV)  ## resolve the dependencies again and write requirements.lock
	$(UV) pip compile pyproject.toml --extra pipeline --extra serving --group dev --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --upgrade --output-file requirements.lock

clean:  ## remove the environment and the caches; keep var/
	rm -rf $(VENV) .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.locked: requirements.lock pyproject.toml | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --require-hashes --python $(BIN)/python requirements.lock
	$(UV) pip install --quiet --no-deps --python $(BIN)/python --editable .
	@touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

# Everything a machine with Python, Go and make needs. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup

.PHONY: help setup demo test check lint types crds docs bench lock browser clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP) ## create .venv with everything Python needs

$(SETUP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"tollkeeper needs Python 3.11 or newer, this is {v.major}.{v.minor}: name another with PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the packages that requirements.lock pins (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(SETUP)

demo: setup ## tell the whole story on a local cluster, then stay up (ONCE=1: check it and end)
	@$(BIN)/python -m tollkeeper_demo

test: setup browser ## everything: unit, real API server, real browser, end to end
	@$(BIN)/python -m pytest

check: setup ## the everyday part
	@$(BIN)/python -m pytest -q -m "not cluster and not browser and not slow"
	@$(MAKE) --no-print-directory lint

lint: setup ## style, and the arrows between the rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: setup ## mypy (strict) and pyright
	@$(BIN)/mypy
	@$(BIN)/pyright

crds: setup ## write crds/ from the models
	@$(BIN)/python -m tollkeeper.crd --write crds

docs: crds ## the reference is generated: the CRDs, which kubectl explain shows

bench: setup ## how long admission takes, on a local cluster of its own
	@$(BIN)/python bench/admission.py

lock: ## pin what pyproject.toml asks for, by name, version and hash
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements.lock

browser: setup
	@$(BIN)/python -m tests.browser_setup

clean: ## remove what setup and runs made here (the cluster's cache stays)
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

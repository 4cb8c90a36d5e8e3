# Everything a machine with Python, Go and make needs. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup

# A new one also replaces one that has no pip or an old Python: half made, or left over.
NEW_VENV = $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null && $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
  echo "$(PYTHON) cannot make a virtual environment in $(CURDIR): it needs its modules venv and ensurepip (Debian and Ubuntu:" \
  "apt-get install python3-venv) and a folder that can be written; or name another Python with PYTHON=" >&2; exit 1; }

# One worker for each core, four at most: each may have a PostgreSQL, a browser and a control plane of its own (about 1 GB). What stays
# together is said by tests/division.py; files start in their order, so that no long one is left for the end.
DIVIDED = --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test check lint types crds docs bench lock browser clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP) ## create .venv with everything Python needs

$(SETUP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "tollkeeper needs Python 3.11 or newer, and there is no $(PYTHON): install it, or name another with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v[:2] >= (3, 11) else "tollkeeper needs Python 3.11 or newer, $(PYTHON) is %s.%s: install a newer one, and name it with PYTHON=" % v[:2])'
	@$(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { $(NEW_VENV); }
	@echo "installing the packages that requirements.lock pins (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(SETUP)

demo: setup ## tell the whole story on a local cluster, then stay up (ONCE=1: check it and end)
	@exec $(BIN)/python -m tollkeeper_demo

test: setup browser ## everything: unit, real API server, real browser, end to end
	@$(BIN)/python -m pytest $(DIVIDED)

check: setup ## the everyday part
	@$(BIN)/python -m pytest -q $(DIVIDED) -m "not cluster and not browser and not slow"
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

bench: setup ## measure speed and size beside peers, print one table (QUICK=1: little of each, for a look)
	@QUICK=$(QUICK) $(BIN)/python -m bench

lock: ## pin what pyproject.toml asks for, by name, version and hash
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --python-version 3.11 --all-extras --group dev --group bench pyproject.toml -o requirements.lock

browser: setup
	@$(BIN)/python -m tests.browser_setup

clean: ## remove what setup and runs made here (the cluster's cache stays)
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# A fresh machine needs python 3.11 or newer with pip, and make. Everything else is installed into .venv.
.DEFAULT_GOAL := help
.PHONY: help demo test check certify certify-all bench docs clean

# The first interpreter that is new enough; a shim that answers to the name but cannot run is passed over.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
PEER := .bench/agentledger

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no python >= 3.11 found; set PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(PEER)/.ready: $(READY)
	$(BIN)/python -m venv $(PEER)
	$(PEER)/bin/python -m pip install --quiet --disable-pip-version-check agentledger-runtime==1.6.1
	@touch $@

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(READY)  ## kill an agent in the middle of a payment, resume it, count the payments
	$(BIN)/surefoot demo

test: $(READY)  ## run the tests, in two processes
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(READY)  ## lint, formatting, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

certify: $(READY)  ## certify adapters, stores and verifiers, break surefoot on purpose, run the slow tests (marker "sweep")
	$(BIN)/python scripts/certify.py

certify-all: $(READY)
	$(BIN)/python scripts/certify.py --all

bench: $(READY) $(PEER)/.ready  ## measure what surefoot costs, beside what the machine allows and a peer
	$(BIN)/surefoot bench --peer $(PEER)/bin/python

docs: $(READY)  ## check the links of every page, compile its Python blocks and run those that start with "# run"
	$(BIN)/python scripts/check_docs.py

clean:  ## remove .venv, caches and build output; .surefoot (your data) stays
	rm -rf .venv .nox .bench dist build htmlcov .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find core adapters conformance tests scripts -type d -name __pycache__ -prune -exec rm -rf {} +

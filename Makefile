# `make` or `make help` lists the targets. Nothing needs more than Python 3.11 (or newer), make and the package index.

SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help setup demo test check format bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with the penstock command and everything that development needs

# uv installs in seconds what pip takes half a minute for; it comes from the package index into .venv, the machine needs none. Where uv cannot
# reach the index (certificates that only pip was told of), pip does it.
$(READY): pyproject.toml requirements-dev.lock
	@test -n "$(PYTHON)" || { echo "Penstock needs Python 3.11 or newer, with venv. Install it, or say PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@echo "Installing into .venv ..."
	@{ $(PIP) "uv>=0.9" && $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirements requirements-dev.lock; } 2>.venv/uv.log \
		|| $(PIP) --require-hashes --requirement requirements-dev.lock
	@$(PIP) --no-deps --editable .
	@touch $(READY)
	@echo "Ready: $(BIN)/penstock --help"

demo: setup ## import real-looking records with bad ones among them, see what became of each, and export what landed
	@$(BIN)/penstock demo

test: setup ## run all tests; those for services that are absent say which
	@$(BIN)/pytest

check: setup ## format, lint, types, layers: what CI checks before the tests
	@$(BIN)/ruff format --check --quiet . || { echo "Run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

format: setup ## put the code into its format
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .

bench: setup ## measure imports beside psql's \copy and the machine's other loaders, and the service
	@$(BIN)/python -m bench

lock: setup ## resolve the dependencies anew
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 --group dev pyproject.toml -o requirements-dev.lock

clean: ## remove what setup, demo and tests made
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-files build dist

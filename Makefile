# `make help` lists the targets. PYTHON chooses the interpreter that .venv is made with.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash
# Packages are installed uncompiled; what is used is compiled once, on first use.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup system repro test test-code test-flows test-chain test-gpu up down clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: .venv/.run ## make .venv and install the project into it

system: ## install what tests use of the system's packages (PostgreSQL, Chromium), by apt where it can
	@have() { compgen -G '/usr/lib/postgresql/*/bin/initdb' && command -v chromium; } >/dev/null; \
	have || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql chromium >/dev/null; }; \
	have || echo 'no PostgreSQL or no Chromium, and apt-get could not install it: some tests are skipped'

repro: .venv/.run ## run the whole chain, from raw text to a registered model
	@dvc repro

test: .venv/.dev ## run everything that CI runs: lint, types, layers, tests, the chain at smoke size
	@ruff check .
	@ruff format --check .
	@lint-imports
	@$(MAKE) --no-print-directory --keep-going --jobs test-code test-flows test-chain

test-code:
	@pyright; types=$$?; \
	pytest --numprocesses auto --dist loadfile --ignore tests/flows --ignore tests/test_chain.py && exit $$types

# Beside it, each in processes that no other test has touched; what they print comes when they end.
test-flows test-chain:
	@mkdir -p .llm
	@pytest $(TESTS) >.llm/$@.log 2>&1; code=$$?; cat .llm/$@.log; exit $$code
test-flows: TESTS := tests/flows --numprocesses 2 --dist loadfile
test-chain: TESTS := tests/test_chain.py

test-gpu: .venv/.dev ## run the tests that need a GPU; LLM_TEST_DEVICE=cpu tries all of them but that
	@pytest -m gpu

up: .venv/.run ## start Prefect, MLflow, the deployments and the champion's model server; Ctrl-C stops them
	@python -m flows.up

down: .venv/.run ## stop what `make up` started
	@python -m flows.down

clean: ## remove what runs produced, the MLflow registry too (not .venv, not the DVC cache)
	rm -rf data models metrics timings plots reports .llm

# A stamp per kind of installation, remade when what it installs changes.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml requirements.lock | .venv/bin/python
	pip install --quiet --no-compile -c requirements.lock -e .
	@touch $@

.venv/.dev: .venv/.run
	pip install --quiet --no-compile -c requirements.lock -e '.[dev]'
	@touch $@

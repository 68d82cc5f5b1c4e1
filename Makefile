# `make demo` trains a model from an equation, `make test` runs every check, `make bench` measures the backends. Each makes its
# own virtual environment once (.venv) and reuses it; stamps record what was installed, so that a second run starts at once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test bench bench-heads clean

demo: $(VENV)/.installed-train
	@$(BIN)/lossc train pairs

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

bench: $(VENV)/.installed-train
	@$(BIN)/python benchmarks/run.py

bench-heads: $(VENV)/.installed-bench
	@$(BIN)/python benchmarks/scaling.py --picture docs/heads.png
	@$(BIN)/python benchmarks/heads.py --write-page

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "lossc needs Python 3.10 or newer: make PYTHON=/path/to/python3"; exit 1; }
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-torch: constraints.txt | $(VENV)/bin/python
	@echo "installing torch (once, a few minutes)"
	@$(PIP) torch
	@touch $@

$(VENV)/.installed-train: pyproject.toml $(VENV)/.installed-torch
	@echo "installing lossc with its training extra (once)"
	@$(PIP) --editable ".[train]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-train
	@echo "installing the tools of the tests (once)"
	@$(PIP) --editable ".[train,dev]"
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-train
	@echo "installing what benchmarks compare with (once)"
	@$(PIP) --editable ".[train,bench]"
	@touch $@

clean:
	rm -rf $(VENV) build dist

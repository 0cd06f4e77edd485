# make demo    set up, scan a small example genome, say what was found
# make test    set up, run the fast suite
# make real    tests on the real genomes in ../shared, where that folder is
# make slow    long tests
# make lint    ruff, mypy and, for the public interface, pyright
# make bench   windows a second on this machine
# Options: PYTHON=python3.12, DEMO="--model NAME --weights FOLDER", TEST="-k name"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test real slow lint bench clean

help:
	@sed -n 's/^# //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/mirscan demo --out demo $(DEMO)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile $(TEST)

# pytest exits with 5 where no test was selected
real: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n auto --maxprocesses 2 --dist worksteal -m "real and not slow" $(TEST) || [ $$? -eq 5 ]

slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -m slow $(TEST) || [ $$? -eq 5 ]

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy -p mirscan
	$(BIN)/mypy tests/typed.py
	$(BIN)/pyright --pythonpath $(BIN)/python scanner/mirscan/__init__.py scanner/mirscan/api tests/typed.py

bench: $(VENV)/.installed
	$(BIN)/mirscan bench

clean:
	rm -rf $(VENV) build demo scanner/*.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "mirscan needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: what is installed is not installed again until the requirements change
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[lint]'
	@touch $@ $(VENV)/.installed

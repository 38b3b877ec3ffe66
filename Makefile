# `make demo` and `make test` are the two commands; `make test-fast` is for while you work. Each sets up what it needs in .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(wildcard setup.py pyproject.toml)

.PHONY: demo test test-fast test-all check clean

$(VENV)/base.stamp: $(SETUP)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/dev.stamp: $(SETUP) $(VENV)/base.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/base.stamp
	$(BIN)/simswap-jax demo --workdir runs/demo

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Without what trains, compiles large networks or starts processes: tests/conftest.py has the list.
test-fast: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist worksteal -m fast

test-all: check
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[torch]'
	$(BIN)/python -m pytest -n 2 --dist worksteal -m ""

clean:
	rm -rf $(VENV) .cache runs build dist *.egg-info

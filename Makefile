# `make demo` and `make test` are the two commands; `make test-fast` is for while you work. Each sets up what it needs in .venv.
# The first of these that runs; another one: make PYTHON=/path/to/python.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13; do $$name -c "import venv" 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
SETUP := setup.py pyproject.toml
, := ,
NONE = make: no $(or $(PYTHON),Python 3.11$(,) 3.12 or 3.13) is here; install one, or name yours: make $(MAKECMDGOALS) PYTHON=/path/to/python

.PHONY: demo test test-fast test-all check clean

$(VENV)/base.stamp: $(SETUP)
	@test -x $(BIN)/python || command -v "$(PYTHON)" >/dev/null || { echo "$(NONE)" >&2; exit 2; }
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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[torch,preflight]'
	$(BIN)/python -m pytest -n 2 --dist worksteal -m ""

clean:
	rm -rf $(VENV) .cache runs build dist *.egg-info

# Every target sets up what it needs: a virtual environment in .venv and the native core.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers
CORE := $(VENV)/.core
NATIVE := setup.py $(shell find csrc -type f)
CXX_FILES := $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu')

.PHONY: help test recursive lint types check sanitize bench wheel clean

help:
	@echo "make recursive  set up, then train with and without selection on real digits (minutes)"
	@echo "make test       set up, then run the tests"
	@echo "make lint       ruff, ruff format, clang-format"
	@echo "make types      mypy"
	@echo "make check      lint, types, test"
	@echo "make sanitize   the tests of the native core under sanitizers (tens of minutes)"
	@echo "make bench      set up, then time fastsel and its peers side by side (minutes)"
	@echo "make wheel      a wheel of fastsel in dist/"
	@echo "make clean      remove the environment and everything built"

# The package and its dependencies; again when they change.
$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	FASTSEL_BUILD=none $(BIN)/python -m pip install --quiet --editable ".[train,dev]"
	touch $@

# The native core; again when its sources change. It goes with each installation of the package.
$(CORE): $(NATIVE) $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

recursive: $(STAMP) $(CORE)
	$(BIN)/python -m training.recursive $(ARGS)

test: $(STAMP) $(CORE)
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

sanitize: $(STAMP)
	tests/sanitize/run.sh address $(ARGS)
	tests/sanitize/run.sh thread $(ARGS)

# Apart, because the peers hold back the versions of what they share with the rest.
$(PEERS): pyproject.toml | $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	touch $@ $(CORE)

bench: $(STAMP) $(CORE) $(PEERS)
	$(BIN)/python -m pytest bench/ $(ARGS)

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find fastsel -name '*.so' -delete -o -name '_core_*.build.txt' -delete

# make compare   environment, build, the bundled traces through every family of allocator
# make test      environment, build, every check and test
.PHONY: compare test lint build sanitize coverage clean

PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.built
SOURCES := $(shell find csrc heaplab/_core -name '*.[ch]' -not -name '_heaplab.c') heaplab/_core/build.py setup.py pyproject.toml

compare: $(STAMP)
	$(BIN)/heaplab compare

test: $(STAMP) lint
	$(BIN)/python -m pytest -n auto

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

build: $(STAMP)

$(STAMP): $(SOURCES)
	@command -v $(CC) >/dev/null || { echo "heaplab needs a C compiler: install gcc or clang, or set CC" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "heaplab needs Python 3.11 or newer: set PYTHON" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $(STAMP)

clean:
	rm -rf build dist *.egg-info $(VENV)

# make compare     environment, build, the bundled traces through every family of allocator
# make test        environment, build, every check and test
# make sanitize    the tests that reach C, on a build with AddressSanitizer and UndefinedBehaviorSanitizer
# make coverage    the tests, counting lines: heaplab/ and csrc/
# make experiments every question of experiments/: texts and figures in build/experiments
# make dist-check  wheel and sdist, built, installed apart, and tried
.PHONY: compare test lint build sanitize coverage dist-check experiments clean

PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.built
# csrc/designs itself: a design that is taken out is a change too
SOURCES := $(shell find csrc heaplab/_core -name '*.[ch]' -not -name '_heaplab.c') csrc/designs heaplab/_core/build.py \
	heaplab/_core/headers.py setup.py pyproject.toml

# The Python that builds and tests: that of the environment, unless told otherwise.
PY = $(BIN)/python
ENVIRONMENT = $(if $(findstring $(BIN),$(PY)),$(STAMP))

comma := ,
# heaplab built another way, in a directory of its own: $(call variant,NAME,COMPILER FLAGS,LINKER FLAGS)
variant = HEAPLAB_CFLAGS="$(2)" HEAPLAB_LDFLAGS="$(3)" $(PY) setup.py -q build --build-base build/$(1) \
	--build-lib build/$(1)/lib --build-temp build/$(1)/objects
# What a variant is made of: its packages are copied.
PARTS = $(SOURCES) $(shell find heaplab -type f -not -name '*.pyc' -not -name '*.so' -not -name '_heaplab.c')
# Python that imports that build: $(call with,NAME)
with = PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/$(1)/lib $(PY)

compare: $(STAMP)
	$(BIN)/heaplab compare

# What Python compiles is kept, whatever the environment says: hundreds of tests start heaplab anew.
# One worker more than there are cores: tests often wait, for a child, a browser, the end of a time.
test: $(STAMP) lint
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist worksteal

experiments: $(STAMP)
	$(BIN)/python experiments/all.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

build: $(STAMP)

# An error ends the process, and its report is not captured.  Python's own memory comes from malloc, so that the bounds of buffers it hands
# to C are known; what Python never gives back is not a leak of ours.
SANITIZED_TESTS ?= tests/machine tests/kernel tests/allocators tests/lab/test_replay.py tests/traces
sanitize: $(ENVIRONMENT) build/sanitized/.built
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	$(call with,sanitized) -m pytest -p no:cacheprovider --capture=sys $(SANITIZED_TESTS)

build/sanitized/.built: $(PARTS)
	$(call variant,sanitized,-g -O0 -fsanitize=address$(comma)undefined -fno-sanitize-recover=all,-fsanitize=address$(comma)undefined)
	touch $@

coverage: $(ENVIRONMENT)
	rm -f $$(find build/coverage -name '*.gcda' 2>/dev/null)
	$(call variant,coverage,-g -O0 --coverage,--coverage)
	$(call with,coverage) -m pytest -p no:cacheprovider -n auto --cov=build/coverage/lib/heaplab --cov-report= \
	--ignore=tests/test_sanitized.py tests build/coverage/lib/heaplab
	@$(PY) -m coverage report --format=total | sed 's/.*/heaplab: & % of lines/'
	@$(PY) -m gcovr --root . --filter csrc/ --txt build/coverage/lines.txt --json-summary - build/coverage/objects | \
	$(PY) -c 'import json, sys; print("csrc, without the recorder:", round(json.load(sys.stdin)["line_percent"]), "% of lines")'

# The sdist from the tree, the wheel from the sdist.
dist-check: $(ENVIRONMENT)
	rm -rf build/dist && mkdir -p build
	$(PY) -m build --outdir build/dist . >build/dist.log 2>&1 || { cat build/dist.log >&2; exit 1; }
	$(PY) tests/distribution.py build/dist

# A new pip: that of Python 3.11 takes three times as long to choose the packages.  Python compiles the few modules
# that are imported when they are; pip would compile nine thousand.
$(STAMP): $(SOURCES)
	@command -v $(firstword $(CC)) >/dev/null || \
	{ echo "heaplab needs a C compiler and finds no $(CC): install gcc or clang, or set CC" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "heaplab needs Python 3.11 or newer and $(PYTHON) is none: set PYTHON" >&2; exit 2; }
	test -x $(BIN)/python || { $(PYTHON) -m venv $(VENV) && \
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip; }
	rm -f heaplab/_core/_heaplab.*.so
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	touch $(STAMP)

clean:
	rm -rf build dist *.egg-info $(VENV)

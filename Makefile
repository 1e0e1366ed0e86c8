# `make help` lists the targets. Everything lives in this tree: .venv/, build/, .stamps/.
SHELL      := /bin/sh
PYTHON     ?= python3
PY         := .venv/bin/python
# Three files at once on two CPUs: half of the suite is calls in real time, which wait more than they work. In
# the order of the tree (xdist would begin with the files of most tests): the long calls of chaos and e2e come
# early, and at the end there are many short files to share.
PYTEST     := $(PY) -m pytest -q --durations=10 -n 3 --dist loadfile --no-loadscope-reorder
LOCK       := flock .build.lock
JOBS       := $(shell nproc 2>/dev/null || echo 2)
DATA_PLANE := $(shell find fastpath -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.py')
# The suite of the data plane: it runs again on the build with all checks on, its own tests under the sanitizers too.
# The longest files first.
DATA_TESTS := $(wildcard tests/path tests/model tests/fastpath)
# PYTHONSAFEPATH: without it `python -m` puts the tree, and its release build, before PYTHONPATH.
PROFILED    = FASTPATH_PROFILE=$(1) PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/$(1)/lib:$(CURDIR)
# As variables: ONCE=1, RELAY_PORT=, PAGE_PORT=, HEALTH_PORT=; anything else as UP="--agent echo".
UP_FLAGS    = $(if $(filter 1,$(ONCE)),--once) $(if $(RELAY_PORT),--relay-port $(RELAY_PORT)) \
              $(if $(PAGE_PORT),--page-port $(PAGE_PORT)) $(if $(HEALTH_PORT),--health-port $(HEALTH_PORT)) $(UP)
LIBASAN     = $(shell gcc -print-file-name=libasan.so)
LIBTSAN     = $(shell gcc -print-file-name=libtsan.so)

# A run starts a thousand Pythons: where the environment forbids it to keep what is compiled, each compiles everything;
# and each numpy would start threads for linear algebra.
export PYTHONDONTWRITEBYTECODE :=
export OPENBLAS_NUM_THREADS := 1

.DELETE_ON_ERROR:
.PHONY: help run run-aiortc build test suite lint purity debug asan tsan bench bench-smoke bench-readme bench-deps bench-micro bench-calls bench-setup replay fuzz chaos soak docs wheel clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: .stamps/build  ## a whole voice edge: relay, transceivers, gateway, page; calls itself first (ONCE=1: exit with the verdict)
	@$(PY) -m pyfastpath up $(UP_FLAGS)

run-aiortc: .stamps/build  ## the relay in front of an unmodified aiortc server, with a call through it (ONCE=1: exit with the verdict)
	@$(PY) -m examples.aiortc_echo

build: .stamps/build  ## install what is needed and build the data plane (release) in place

test: .stamps/packages-test .stamps/venv-dev lint purity suite debug asan  ## everything: lint, types, floors, purity, the suite, the data plane's on three builds

suite: .stamps/venv-dev .stamps/build
	$(PYTEST)

lint: .stamps/venv-dev  ## ruff, mypy, cython-lint, import-linter
	$(PY) -m ruff check .
	$(PY) -m mypy
	PATH="$(CURDIR)/.venv/bin:$$PATH" cython-lint fastpath
	.venv/bin/lint-imports --no-cache

purity: .stamps/venv-dev .stamps/build  ## no GIL, Python object or hidden error path in the hot modules
	$(PY) -m tests.purity

debug: .stamps/venv-dev .stamps/build-debug  ## the data-plane suite on the build with Cython's checks and C asserts
	$(call PROFILED,debug) $(PYTEST) $(DATA_TESTS)

asan: .stamps/venv-dev .stamps/build-asan  ## the data-plane suite, its random inputs included, under AddressSanitizer and UBSan
	$(call PROFILED,asan) LD_PRELOAD=$(LIBASAN) PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 $(PYTEST) -m "not slow" tests/fastpath

tsan: .stamps/venv-dev .stamps/build-tsan  ## readers and writers of flows, routes, counters and settings, under ThreadSanitizer
	$(call PROFILED,tsan) LD_PRELOAD=$(LIBTSAN) TSAN_OPTIONS=exitcode=66 $(PY) -m pytest -q -o timeout=900 -k "readers_ or two_publications" \
	    $(addprefix tests/fastpath/test_,counters.py flows.py routes.py settings.py)

bench: .stamps/venv-dev .stamps/build  ## half an hour, as root: everybody in three networks; tables and plots go to bench/results
	$(PY) -m bench.run

bench-smoke: .stamps/venv-dev .stamps/build  ## the same program, five minutes: few relays, few rounds
	$(PY) -m bench.run --quick

bench-readme:  ## the newest result's headline and plots into the README
	$(PY) -m bench.publish

bench-micro: .stamps/venv-dev .stamps/build  ## every leaf and table alone, compared with the run before
	$(PY) -m bench.micro

bench-deps:  ## install the relays to measure against: nginx, coturn, rtpengine, and Go (Debian packages)
	PYTHON=$(PYTHON) .ci/packages bench

bench-calls: .stamps/venv-dev .stamps/build  ## what a call costs the transceiver, beside aiortc; results go to bench/results
	$(PY) -m bench.calls.capacity

bench-setup: .stamps/venv-dev .stamps/build  ## how long a browser waits for the first packet, beside aiortc
	$(PY) -m bench.calls.first_packet

replay: .stamps/venv .stamps/build  ## every capture of tests/pcaps in full, a thousand sessions each, in both upstream modes
	for capture in tests/pcaps/*.pcap; do for mode in plain trunk; do \
	    $(PY) -m pyfastpath replay $$capture --sessions 1000 --speed max --upstream $$mode || exit 1; done; done

fuzz: .stamps/venv-dev .stamps/build .stamps/build-fuzz  ## every parser under coverage-guided random input (FUZZ_SECONDS=600 each, FUZZ_TARGETS=)
	@$(PY) -m tests.fuzz.run

chaos: .stamps/venv-dev .stamps/build  ## faults under full load, at most 20 minutes, as root: docs/reliability.md (CHAOS="--only NAME")
	$(PY) -m tests.chaos.run $(CHAOS)

soak: .stamps/venv-dev .stamps/build  ## one relay under everything at random, half an hour (SOAK_SECONDS=, SOAK_SEED=)
	SOAK_SECONDS=$(SOAK_SECONDS) SOAK_SEED=$(SOAK_SEED) $(PY) -m tests.chaos.soak

docs: .stamps/venv-dev .stamps/build  ## regenerate the documents that come from code
	$(PY) -m tests.documents

wheel: .stamps/venv-dev  ## build dist/*.whl
	$(LOCK) $(PY) -m build --wheel

clean:  ## forget every build (keeps .venv)
	rm -rf build dist .stamps .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find fastpath -name '*.so' -delete

# ---- stamps: what is done is not done again ------------------------------------------------------
.stamps/packages: .ci/packages
	@mkdir -p .stamps
	PYTHON=$(PYTHON) .ci/packages build
	@touch $@

.stamps/packages-test: .ci/packages
	@mkdir -p .stamps
	PYTHON=$(PYTHON) .ci/packages test
	@touch $@

.stamps/venv: .stamps/packages pyproject.toml .ci/dependencies
	@test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) .ci/dependencies transceiver > .stamps/requirements
	$(PY) -m pip install -q --disable-pip-version-check -r .stamps/requirements 'setuptools>=77' 'cython>=3.1'
	@touch $@

.stamps/venv-dev: .stamps/venv
	$(PY) .ci/dependencies dev > .stamps/requirements-dev
	$(PY) -m pip install -q --disable-pip-version-check -r .stamps/requirements-dev
	@touch $@

.stamps/build: .stamps/venv setup.py $(DATA_PLANE)
	$(LOCK) $(PY) setup.py -q build_ext --inplace -j$(JOBS)
	@touch $@

.stamps/build-%: .stamps/venv setup.py $(DATA_PLANE)
	FASTPATH_PROFILE=$* $(LOCK) $(PY) setup.py -q build_ext -j$(JOBS)
	@touch $@

# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each makes its own .venv and installs what it needs; later runs install only after pyproject.toml changed.

.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin

# The first Python that is new enough; `make PYTHON=/path/to/python3.12 …` overrides it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

# Arguments that go on to pytest and to the benchmark, e.g. `make test ARGS="-k ashmem"`.
ARGS ?=
BENCH_FLAGS := $(if $(BENCH_QUICK),--quick)

.PHONY: help demo test lint test-slow test-kernel test-interop bench bench-kernel clean

help:
	@echo "make demo         a photo service and its client, and a kill -9; then two devices, and a cable that is pulled"
	@echo "make test         lint, types, architecture and all quick tests"
	@echo "make lint         the same without the tests"
	@echo "make test-slow    the tests marked slow"
	@echo "make test-kernel  the tests of the kernel's Binder driver, in a virtual machine that has one"
	@echo "make test-interop Android's own programs against SAMgr there; needs packages of Debian's unstable release"
	@echo "make bench        latency and throughput beside a C ping-pong and other Python packages (BENCH_QUICK=1: short)"
	@echo "make bench-kernel the kernel driver's latency beside the socket driver's, in the virtual machine"
	@echo "make clean        remove everything that make created, the virtual environment too"

demo: $(VENV)/.installed-demo
	@$(BIN)/binderkit demo
	@echo
	@$(BIN)/binderkit demo --devices 2

test: lint
	@echo "== pytest, two halves at once"
	@$(BIN)/python tests/halves.py $(ARGS)

lint: $(VENV)/.installed-dev
	@echo "== ruff check"
	@$(BIN)/ruff check --quiet .
	@echo "== ruff format"
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted; run: $(BIN)/ruff format ."; exit 1; }
	@echo "== mypy --strict"
	@$(BIN)/mypy --strict --no-error-summary src bench
	@echo "== import-linter"
	@$(BIN)/lint-imports > $(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }

test-slow: $(VENV)/.installed-dev
	@echo "== pytest, slow tests"
	@$(BIN)/pytest -q -m slow --timeout=300 -o faulthandler_timeout=330 $(ARGS)

# Exit status 77 of the program: this machine cannot have the virtual machine. make's own is then 2, as after a failure;
# the program's is left in build/kernel-tests/status.
test-kernel: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.kernel.guest $(if $(ARGS),--pytest="$(ARGS)")

# Needs the virtual machine too.
bench-kernel: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.kernel.guest -- python3 -m tests.kernel.latency $(ARGS)

# Optional: what it needs changes every day. Exit status 77 as above.
test-interop: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.kernel.interop $(ARGS)

bench: $(VENV)/.installed-bench
	@$(BIN)/python -m bench $(BENCH_FLAGS) $(ARGS)

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of extras.
EXTRAS_demo := demo,rpc
EXTRAS_dev := dev
EXTRAS_bench := dev,bench
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "installing binderkit[$*] into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS_$*)]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo "binderkit needs Python 3.11 or newer and found none."; \
		echo "Install it (Debian 12+, Ubuntu 24.04+: apt-get install python3 python3-venv; Fedora: dnf install python3)"; \
		echo "or name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "binderkit needs Python 3.11 or newer; $(PYTHON) is not."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: its venv module is missing."; \
		echo "Install it (Debian, Ubuntu: apt-get install python3-venv) and run make again."; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv --clear $(VENV)

# `make demo` and `make test` each do all their own set-up: a virtual environment with hash-checked packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 5
# More than two processors would give: the tests wait for processes and disks more than they compute.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-shim lint bench bench-attribution mutants screenshots soak fuzz lock

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(VENV)/.ready: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

setup: $(VENV)/.ready ## Install everything into .venv

demo: setup ## Record bundled sessions into an embedded Postgres, and show blame, cost and pages
	@$(BIN)/agent-trace-sidecar demo

lint: setup ## Ruff, format, mypy, import contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Files run in the order of their folders: tests/e2e, which has the longest, begins.
test: setup ## Lint, types, import contract, the shim's tests, and all of pytest
	@$(MAKE) --no-print-directory --jobs=2 lint test-shim
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-shim: ## The shim's tests, in Node
	node --test opencode-shim/test/

bench: setup ## Print the benchmark table (CORPORA=DIR adds the redaction corpora)
	$(BIN)/python -m tests.benchmarks $(if $(CORPORA),--corpora $(CORPORA)) $(ARGS)

bench-attribution: setup ## Print precision and recall of ranges and blame, by simulation with a real OpenCode
	$(BIN)/python -m tests.benchmarks.attribution $(ARGS)

mutants: setup ## Change MODULE in small ways and show what no test notices (TESTS="PATH..." NUMBER=30)
	$(BIN)/python -m tests.benchmarks.mutants $(MODULE) $(if $(TESTS),--tests $(TESTS)) $(if $(NUMBER),--number $(NUMBER))

screenshots: setup ## Draw the pictures of README and docs, of a real recorded repository
	$(BIN)/python -m tests.support.screenshots

soak: setup ## Inject random faults for MINUTES (default 5), then print the ledger
	$(BIN)/python -m tests.benchmarks.soak --minutes $(MINUTES)

fuzz: setup ## Put random bytes into every entry that takes foreign ones, for MINUTES (default 5)
	$(BIN)/python -m tests.benchmarks.fuzz --minutes $(MINUTES)

lock: ## Pin the newest versions of everything, by hash
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 --extra embedded --extra otlp --group dev --output-file constraints.txt pyproject.toml
	echo hatchling | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --python-version 3.11 --constraints constraints.txt --extra otlp \
		--output-file deploy/requirements.txt pyproject.toml -

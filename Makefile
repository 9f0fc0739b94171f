# Everything runs in .venv, which `make` fills by itself: it takes Python 3.11 or newer, make and a package index.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SERVICES := schemas streams processors observability examples
# Tests that only wait overlap; three processes keep two cores busy. `make test JOBS=0 ARGS="-k retry -x"` for one by one.
JOBS ?= 3
ARGS ?=
# The Python that is there is used: uv downloads none.
export UV_PYTHON_DOWNLOADS := never
# Compiled once, not at each start: the tests start hundreds of Pythons, and each would spend two thirds of its time on it.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo picture docs test test-cluster slow check format bench bench-processors soak soak-long mutants mutate structure peers wheels audit lock clean

help: ## Shows these targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(READY) ## Shows it all before your eyes, on servers of its own: fails, kills, retries, imports, reports.
	$(BIN)/streams demo $(ARGS)

picture: $(READY) ## Draws the trace in the README anew, from a run of the demo.
	$(BIN)/streams demo | $(BIN)/python docs/pictures/draw_trace.py

docs: .docs/.ready ## Builds the documentation as a site into site/; any warning is an error.
	.docs/bin/python docs/site/build.py

test: $(READY) ## Runs the tests in random order, on every redis-server found.
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-cluster: $(READY) ## Runs the engine's tests on a cluster of three masters with six partitions.
	$(BIN)/python -m pytest -n $(JOBS) --redis=cluster --partitions=6 tests/streams $(ARGS)

slow: $(READY) ## Runs the tests that take minutes, which `test` leaves out.
	$(BIN)/python -m pytest -n 0 -m slow $(ARGS)

check: $(READY) ## Runs ruff, mypy, import-linter, the module size limit, and compares the events with their contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/loq check
	$(BIN)/streams schema --check

format: $(READY) ## Formats, and fixes what ruff can fix.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measures the engine against a hand-written loop, in one run.
	$(BIN)/python -m benchmarks $(ARGS)

bench-processors: $(READY) ## Measures the processors, each against a bare loop: files, mails, reports (minutes).
	$(BIN)/python -m benchmarks.files
	$(BIN)/python -m benchmarks.mail
	$(BIN)/python -m benchmarks.reports

soak: $(READY) ## Kills, cuts and stops everything for three minutes, by a seed, and judges what was written down.
	$(BIN)/python -m tests.faults.soak $(if $(SEED),--seed $(SEED)) $(ARGS)

mutants: $(READY) ## Breaks the engine in seventeen ways, and soaks each, or runs its test, until it is caught.
	$(BIN)/python -m tests.faults.soak.mutants $(ARGS)

mutate: $(READY) ## Puts 60 small faults into the code, drawn by SEED, and says which of them no test notices.
	$(BIN)/python -m tests.mutation $(if $(SEED),--seed $(SEED)) $(ARGS)

structure: $(READY) ## Prints circles of imports, sizes of packages and of constructors.
	$(BIN)/python -m tests.support.structure $(ARGS)

peers: $(READY) ## Runs docket, streaq, taskiq-redis and arq under the soak's faults, beside this project (packages in .peers).
	$(BIN)/python -m tests.faults.peers $(if $(SEED),--seed $(SEED)) $(ARGS)

soak-long: $(READY) ## The same for an hour.
	$(BIN)/python -m tests.faults.soak $(if $(SEED),--seed $(SEED)) --seconds 3600 --events 2000000 \
		--kill 1000 --redis 200 --network 200 --stop 100 --deploy 20 $(ARGS)

wheels: $(READY) ## Builds the wheels of the engine and of the application into dist/.
	$(BIN)/uv build --quiet --wheel --all-packages --out-dir dist
	@ls dist/*.whl

audit: $(READY) ## Looks for known vulnerabilities (asks osv.dev) and secrets, and writes the bill of materials into dist/.
	@mkdir -p dist
	$(BIN)/uv export --quiet --frozen --all-packages --all-extras --no-default-groups --format cyclonedx1.5 \
		--preview-features sbom-export --output-file dist/sbom.cdx.json >/dev/null
	git ls-files -z ':!tests' ':!benchmarks' ':!examples' ':!uv.lock' | xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline
	$(BIN)/uv audit --frozen --preview-features audit-command

lock: $(BIN)/uv ## Resolves the dependencies anew into uv.lock.
	$(BIN)/uv lock --upgrade
	@! grep -Eo '(https?|file)://[^/"]*' uv.lock | grep -Ev '^https://(pypi\.org|files\.pythonhosted\.org)$$' \
		|| { echo "uv.lock names a private package index; run 'make lock' without one" >&2; exit 1; }

clean: ## Removes .venv, caches and build results; the embedded Redis' data in .streams stays.
	rm -rf $(VENV) .docs site .peers .mutation dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(SERVICES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "$(PYTHON) cannot make a venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"

.docs/.ready: pyproject.toml uv.lock | $(BIN)/uv
	UV_PROJECT_ENVIRONMENT=.docs $(BIN)/uv sync --quiet --frozen --only-group docs
	@touch $@

# --frozen: what is tested is what is locked. The stamp makes every later call free.
$(READY): pyproject.toml deploy/application/pyproject.toml deploy/application/hatch_build.py uv.lock | $(BIN)/uv
	$(BIN)/uv sync --quiet --frozen --all-packages --all-extras
	@touch $@

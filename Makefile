# Each command sets up what it needs: a virtual environment in .venv, made anew when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast test-pythons soak campaign test-adverse test-framework test-hosts sdk-tests browser pictures lint bench clean

# WEB=1: then its run is shown in a browser, until Ctrl-C.
demo: .venv/ready
	$(BIN)/python samples/quickstart.py $(if $(WEB),--web)

test: .venv/ready
	$(BIN)/python -m pytest

# All but what is marked `slow`.
test-fast: .venv/ready
	$(BIN)/python -m pytest -m "not slow"

# `test-fast` on every other CPython from 3.11 on that is found: on PATH as pythonX.Y, or in a pyenv folder.
# PYTHONS=--newest is the newest of them, PYTHONS="3.12 3.13" are these.
test-pythons: .venv/ready
	$(BIN)/python -m tests.python_versions $(PYTHONS)

# Where saves go, played at random for longer, and otherwise each time; and every interleaving of a question with a
# removal, on each engine.
soak: .venv/ready
	EVENTCKPT_TEST_STEPS=long $(BIN)/python -m pytest \
		tests/storage/test_placement_machine.py tests/storage/test_claim_machine.py \
		tests/storage/test_reading_beside_removals.py

# Writers, prunes, deletions, imports, forks, rebuilds, backups and readers beside each other, at random, for minutes:
# CAMPAIGNS of them on each engine, drawn from SEED and the numbers behind it, each of LENGTH turns for everybody. A
# campaign that fails prints its seed and its length.
CAMPAIGNS ?= 3
LENGTH ?= 20
campaign: .venv/ready
	EVENTCKPT_TEST_CAMPAIGNS=$(CAMPAIGNS) EVENTCKPT_TEST_SEED=$(SEED) EVENTCKPT_TEST_LENGTH=$(LENGTH) \
		$(BIN)/python -m pytest tests/campaign

# The storage and projector suites once more, on a test server where what happens at times happens all the time: replicas
# lag, gateways are late, pages are empty, partitions throttle. Of the storage suites no replica ever catches up by itself,
# so that each test says where one process needs another one's writes; the projector's workers wait for them.
# What happens is drawn from SEED; a test that fails prints it with the other switches.
SEED ?= 0
ADVERSE := late=0.2,empty-pages=0.3,throttling=10000,clients-wait,seed=$(SEED)
COSMOS := cancelling changed clocks conformance costs credentials items opening outages parts settings splits
STORAGE := $(COSMOS:%=tests/stores/test_cosmos_%.py) tests/stores/test_audit_stores.py tests/storage/test_storage.py \
	tests/storage/test_conflicts.py tests/storage/test_saved_again.py tests/storage/test_refusals.py \
	tests/storage/test_*workflow*.py tests/storage/test_delta.py tests/history/test_faults.py \
	tests/history/test_options.py tests/history/test_unreadable.py tests/history/test_going_back.py
test-adverse: .venv/ready
	COSMOS_EMULATOR_SWITCHES=lag=1,lag-seconds=3600,$(ADVERSE) $(BIN)/python -m pytest -k "not sqlite" $(STORAGE)
	COSMOS_EMULATOR_SWITCHES=lag=0.5,$(ADVERSE) $(BIN)/python -m pytest -k "not sqlite" tests/projections

# VERSIONS="1.20.0 1.21.0"; without them the oldest and the newest that pyproject.toml admits.
test-framework: .venv/ready
	$(BIN)/python -m tests.framework_versions $(OPTIONS) $(VERSIONS)

# The adapters to the framework's hosts, beside the packages of these hosts.
test-hosts: .venv/ready
	$(BIN)/python -m tests.host_packages

# Microsoft's own tests for azure-cosmos, downloaded in the version that is installed, against the test server.
sdk-tests: .venv/ready
	$(BIN)/python -m tests.sdk_tests $(FILES)

# What looks at the viewer's pages: Debian's chromium and a font of letters, what drives it, and what checks for access;
# without, the tests in tests/web/browser are skipped. Where chromium is there, only packages of Python and npm are asked for.
browser: .venv/ready
	command -v chromium >/dev/null || { apt-get update --quiet && \
		apt-get install --quiet --yes --no-install-recommends chromium fonts-dejavu-core fonts-liberation; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[browser-test]'
	npm ci --silent --ignore-scripts --no-audit --no-fund --prefix tests/web/browser

# Into docs/ as PNG files, by that browser: the pages of the viewer over a store of its own.
pictures: browser
	$(BIN)/python -m tests.web.pictures

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m tests.typed eventckpt projections

# Into docs/benchmarks.md. SECTIONS="saves cosmos" measures these only; BASE=REVISION puts a revision of the packages
# beside those that are here.
bench: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m tests.benchmarks --write $(if $(BASE),--base $(BASE)) $(SECTIONS)

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cosmos,cli,projector,web,samples,dev]'
	touch $@

clean:
	rm -rf .venv .venv-pythons .venv-framework .venv-hosts .sdk-tests tests/javascript/node_modules \
		tests/web/browser/node_modules

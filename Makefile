# Each command sets up what it needs: a virtual environment in .venv, made anew when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-framework sdk-tests lint bench clean

demo: .venv/ready
	$(BIN)/python samples/quickstart.py

test: .venv/ready
	$(BIN)/python -m pytest

# VERSIONS="1.20.0 1.21.0"; without them the oldest and the newest that pyproject.toml admits.
test-framework: .venv/ready
	$(BIN)/python -m tests.framework_versions $(OPTIONS) $(VERSIONS)

# Microsoft's own tests for azure-cosmos, downloaded in the version that is installed, against the test server.
sdk-tests: .venv/ready
	$(BIN)/python -m tests.sdk_tests $(FILES)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m tests.benchmarks

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cosmos,cli,projector,dev]'
	touch $@

clean:
	rm -rf .venv .venv-framework .sdk-tests tests/javascript/node_modules

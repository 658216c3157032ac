# `make search` and `make test` work as the first command on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEVICE ?= auto
TRIALS ?= 40

.PHONY: search test lint bench clean

$(BIN)/augscale: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[cpu]"
	@touch $@

$(VENV)/.test-installed: $(BIN)/augscale pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@

search: $(BIN)/augscale
	$(BIN)/augscale search --trials $(TRIALS) --device $(DEVICE)

lint: $(VENV)/.test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n auto --dist worksteal

bench: $(VENV)/.test-installed
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.views
	$(BIN)/python -m benchmarks.distances
	$(BIN)/python -m benchmarks.evaluation

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# `make search` and `make test` work as the first command on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OLDEST ?= .venv-oldest
DEVICE ?= auto
TRIALS ?= 40

.PHONY: search test lint types unit docs oldest bench clean

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

types: $(VENV)/.test-installed
	$(BIN)/mypy

unit: $(VENV)/.test-installed
	$(BIN)/pytest -n auto --dist worksteal

# What takes seconds comes first; mypy uses one core, so it runs beside the tests.
test: $(VENV)/.test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) --jobs=2 types unit

$(VENV)/.docs-installed: $(BIN)/augscale pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	@touch $@

# The documentation as a site in site/; a broken link or anchor, or a page that mkdocs.yml does not name, is an error.
docs: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# A second environment with the lower bounds of pyproject.toml, and the tests that touch each library (6 GB, minutes).
$(OLDEST)/.installed: pyproject.toml tests/lower_bounds.py
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python tests/lower_bounds.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt --editable ".[cpu,weights]" \
		pytest pytest-timeout hypothesis pyyaml
	@touch $@

oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest tests/test_config.py tests/test_public.py tests/cli/test_preview.py \
		tests/augmentation/test_scales.py tests/augmentation/test_views.py tests/data/test_images.py \
		tests/networks/test_backbones.py tests/networks/test_head.py tests/pretraining/test_golden.py \
		tests/pretraining/test_loop.py tests/scoring/test_score.py tests/scoring/test_pair_stream.py \
		tests/statistics/test_ranking.py tests/evaluation/test_linear.py tests/searching/test_study.py \
		tests/searching/test_storage.py tests/reporting/test_figures.py tests/reporting/test_contact_sheet.py

bench: $(VENV)/.test-installed
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.views
	$(BIN)/python -m benchmarks.distances
	$(BIN)/python -m benchmarks.evaluation

clean:
	rm -rf $(VENV) $(OLDEST) site .pytest_cache .mypy_cache .ruff_cache

# `make demo` and `make test` are all a newcomer needs; each installs what it wants into .venv.
PYTHON ?= python3
BACKEND ?= jax
VENV ?= .venv
BIN := $(VENV)/bin

# What each backend is installed from; the trainer reads its data with TensorFlow on all of them.
# PyTorch is pinned: a floating one brings CUDA packages of
# several GB along on Linux.
jax := jax
tensorflow := $(if $(filter Linux x86_64,$(shell uname -sm)),tensorflow-cpu,tensorflow)
torch := torch==2.13.0
# Without what it requires: its text models want tensorflow-text, which brings a second TensorFlow of
# several hundred MB over tensorflow-cpu. Its image models need tokenizers alone besides, and its harness
# for tests Grain.
keras-hub := keras-hub==0.32.0

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test proofs exhaustive lint readme docs docs-check bench startup release-check minimum-check clean

demo: $(VENV)/.demo-$(BACKEND)
	KERAS_BACKEND=$(BACKEND) $(BIN)/python -m training.train --config digits

test: $(VENV)/.test
	VENV=$(VENV) sh tests/run.sh -m "not slow"

proofs: $(VENV)/.test
	VENV=$(VENV) sh tests/run.sh -m "slow and not exhaustive"

# what the proofs show of some cases, for all of them; last passed on 2026-11-29
exhaustive: $(VENV)/.test
	VENV=$(VENV) sh tests/run.sh -m exhaustive

lint: $(VENV)/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

readme: $(VENV)/.test
	KERAS_BACKEND=jax $(BIN)/python -m tests.variant_table --write
	KERAS_BACKEND=jax $(BIN)/python -m tests.stubs --write
	KERAS_BACKEND=jax $(BIN)/python -m weights.table --write

# the site, in docs/_build; a warning is an error
docs: $(VENV)/.docs
	KERAS_BACKEND=jax $(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build

# every page of the site in a headless Chromium, wide and narrow: console, widths, pictures, search
docs-check: docs
	$(BIN)/python -m tests.pages $(FLAGS)

# FLAGS="--variants convnext_base --batches 1 32": see `python -m benchmarks.run --help`
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.run $(FLAGS)

startup: $(VENV)/.bench
	$(BIN)/python -m benchmarks.startup $(FLAGS)

# dist/ with sdist and wheel, and the main jobs by the wheel in an empty environment elsewhere
release-check: $(BIN)/python
	rm -rf dist && $(BIN)/pip install -q build twine && $(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	KERAS_BACKEND=$(BACKEND) sh tests/release.sh "$(PYTHON)" "$$(ls $(CURDIR)/dist/*.whl)" \
	  "$($(BACKEND))" "$(tensorflow)"

# The oldest packages that pyproject.toml allows: uv resolves the direct dependencies to them.
minimum-check:
	PYTHON=$(PYTHON) BACKEND=$(BACKEND) sh tests/minimum.sh

clean:
	rm -rf $(VENV) build dist docs/_build docs/generated docs/jupyter_execute *.egg-info .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-%: $(BIN)/python pyproject.toml
	@case "$*" in jax|tensorflow|torch) ;; \
	  *) echo "BACKEND must be jax, tensorflow or torch, not '$*'." >&2; exit 2;; esac
	$(BIN)/pip install -q "$($*)" "$(tensorflow)" -e ".[train]"
	touch $@

$(VENV)/.bench: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q "$(torch)" "$(tensorflow)" "$(jax)" -e ".[bench]"
	touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q "$(jax)" -e ".[docs]"
	$(BIN)/pip install -q absl-py packaging regex kagglehub tokenizers
	$(BIN)/pip install -q --no-deps "$(keras-hub)"
	touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q "$(torch)" "$(tensorflow)" "$(jax)" -e ".[dev]"
	$(BIN)/pip install -q tokenizers grain && $(BIN)/pip install -q --no-deps "$(keras-hub)"
	touch $@

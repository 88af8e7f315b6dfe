PYTHON ?= python3
BIN = .venv/bin

.PHONY: train test lint docs results results-quick clean

train: .venv/installed
	$(BIN)/python train.py

test: lint
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages and the API reference, in docs/_build/html/.
docs: .venv/installed
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html

# Runs that are done are skipped, those that were stopped are resumed. DATA_DIR=... says where MNIST is.
results: .venv/installed
	$(BIN)/python -m experiments.run $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")
	$(BIN)/python -m experiments.bounds $$(ls -d runs/experiments/mnist/dvae-salt_pepper-10-0 || true)
	$(BIN)/python -m experiments.report

results-quick: .venv/installed
	$(BIN)/python -m experiments.run --quick $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")
	$(BIN)/python -m experiments.bounds --results runs/quick/results
	$(BIN)/python -m experiments.report --results runs/quick/results --docs runs/quick/docs

# A recent pip: older resolvers lose themselves among the versions of some dependencies.
.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

clean:
	rm -rf .venv build docs/_build *.egg-info

PYTHON ?= python3
BIN = .venv/bin

.PHONY: train test test-all lint docs results results-quick clean

train: .venv/installed
	$(BIN)/python train.py

# Lint, types, import order, and the tests that every change needs: minutes.
test: lint
	$(BIN)/python -m pytest -m "not slow"

# Everything: the rest are pages' code, kills and full disks, clusters, browsers, loaders, real data.
test-all: test
	$(BIN)/python -m pytest -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The pages and the API reference, in docs/_build/html/.
docs: .venv/installed
	$(BIN)/python docs/tables.py
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html

# Runs that are done are skipped, those that were stopped are resumed. DATA_DIR=... says where MNIST is,
# RUNS=... where runs go: with RESULTS=... and DOCS=... a clone makes its own numbers beside those it has.
RUNS ?= runs/experiments
RESULTS ?= results
DOCS ?= docs
MNIST_RUN = $(RUNS)/mnist/dvae-salt_pepper-10-0
results: .venv/installed
	$(BIN)/python -m experiments.run --runs "$(RUNS)" --results "$(RESULTS)" $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")
	if [ -d "$(MNIST_RUN)" ]; then $(BIN)/python -m experiments.bounds "$(MNIST_RUN)" --results "$(RESULTS)"; fi
	$(BIN)/python -m experiments.pages --results "$(RESULTS)" --docs "$(DOCS)"

results-quick: .venv/installed
	$(BIN)/python -m experiments.run --quick $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")
	$(BIN)/python -m experiments.bounds --results runs/quick/results
	$(BIN)/python -m experiments.pages --results runs/quick/results --docs runs/quick/docs

# A recent pip: older resolvers lose themselves among the versions of some dependencies.
.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

clean:
	rm -rf .venv build docs/_build *.egg-info

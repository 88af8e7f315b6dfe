PYTHON ?= python3
BIN = .venv/bin

.PHONY: train test lint clean

train: .venv/installed
	$(BIN)/python train.py

test: lint
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A recent pip: older resolvers lose themselves among the versions of some dependencies.
.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

clean:
	rm -rf .venv build *.egg-info

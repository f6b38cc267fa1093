# make setup | quickstart | test | test-slow | test-chaos | test-faults | test-gpu | fuzz | lint | docs      (EXTRA=cuda for GPUs; else as installed, or cpu)
INSTALLED := $(patsubst .venv/.ready-%,%,$(wildcard .venv/.ready-*))
EXTRA ?= $(firstword $(INSTALLED) cpu)
INSTALL := $(addprefix configs/install/, install.sh constraints.txt torchvision_schemas.py torchvision_schemas.pth)
BIN := .venv/bin
RUN := $(BIN)/python duvlm.py run
Q := runs/quickstart
export OMP_NUM_THREADS ?= 1

.PHONY: help setup quickstart test test-slow test-chaos test-faults test-gpu fuzz lint docs

help:
	@head -1 Makefile

setup: .venv/.ready-$(EXTRA)

.venv/.ready-$(EXTRA): pyproject.toml $(INSTALL)
	@rm -f .venv/.ready*
	configs/install/install.sh $(EXTRA)
	@touch $@

# The whole idea on real photographs: a corpus, a little SFT from the shipped warm start, RL, before and after.
quickstart: setup
	@if [ -e $(Q) ]; then mv $(Q) $(Q).$$(date +%Y%m%d-%H%M%S); fi
	$(RUN) corpus name=quickstart count=600
	$(RUN) sft name=quickstart corpus=$(Q)/corpus steps=20 learner.warmup=5 learner.lr=1e-4
	$(RUN) offline name=quickstart corpus=$(Q)/corpus policy=$(Q)/sft/policy steps=12
	$(RUN) evaluate name=quickstart corpus=$(Q)/corpus before=$(Q)/sft/policy policy=$(Q)/offline/policy

# Two workers, a file at a time: much of a test is the start of one engine, which keeps one core busy.
test: setup
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup
	$(BIN)/pytest -m slow --timeout=3600

test-chaos: setup
	$(BIN)/pytest -m chaos --timeout=1800

# Files of every kind of folder damaged at random, a hundred places for each kind of damage.
test-faults: setup
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest -m faults --timeout=9000

# What only a GPU can show, and its figures; without one, each part says that it was skipped.
test-gpu: setup
	$(BIN)/pytest -m gpu
	$(BIN)/python -m benchmarks.gpu

fuzz: setup
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest tests/fuzz --timeout=3600

docs: setup
	$(BIN)/mkdocs build --strict --quiet

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

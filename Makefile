# seglab: `make` lists the targets. Everything runs in .venv, which is made on first use.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo train test test-slurm lint format tables bench docs readme clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## make .venv and install seglab with its test tools

demo: $(STAMP)  ## train with two losses on the embedded image (CPU, minutes), print a table
	@$(RUN) scripts/demo.py

train: $(STAMP)  ## one run; ARGS="loss=dist model=unet ..."
	@$(RUN) train.py $(ARGS)

test: $(STAMP) lint  ## lint, then every test that needs no GPU and no network
	@$(RUN) -m pytest $(ARGS)

test-slurm: $(STAMP)  ## a sweep on a real SLURM of one node; as root it installs what is missing
	@tests/slurm/one_node.sh install && $(RUN) -m pytest tests/slurm $(ARGS)

lint: $(STAMP)  ## ruff: format and rules
	@$(RUN) -m ruff format --check --quiet . && $(RUN) -m ruff check --quiet .

format: $(STAMP)  ## mend what ruff can mend
	@$(RUN) -m ruff format . && $(RUN) -m ruff check --fix .

tables: $(STAMP)  ## results/runs -> results/tables
	@$(RUN) scripts/tables.py $(ARGS)

bench: $(STAMP)  ## ours against the libraries: time, memory, targets; ARGS="--quick"
	@$(RUN) scripts/bench.py $(ARGS)

docs: $(STAMP)  ## put the cards and the picture into docs/
	@$(RUN) scripts/docs.py

readme: $(STAMP)  ## put the demo's picture and table into README.md
	@$(RUN) scripts/demo.py --readme

clean:  ## remove .venv and what was computed, but no run
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis results/cache results/demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	  "seglab needs Python 3.11 or newer: make PYTHON=python3.12 " + "$(MAKECMDGOALS)")'
	@echo "Installing into $(VENV) (a minute or two; PyTorch is large) ..."
	@$(PYTHON) -m venv $(VENV)
	@PYTHONWARNINGS=ignore $(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

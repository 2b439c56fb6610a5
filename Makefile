# One place for every command of this repository; `make help` lists them.
SHELL := /bin/bash
VENV ?= .venv
PYTHON := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
PACKAGES := protos libs/runtime libs/engine libs/worker libs/client services/router services/worker-cpu deploy/envoy
SOURCES := $(wildcard libs/*/src) services/router/src services/worker-cpu/src deploy/envoy/src protos/generate.py tools
WORKERS ?= cpu
HUGGINGFACE_VENV ?= build/venv-huggingface

.PHONY: help setup up down test test-xpu test-huggingface check format protos modules lock bench bench-router clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(VENV)/.installed ## Make the development venv with every package and tool in it

$(VENV)/.installed: requirements.lock $(PACKAGES:%=%/pyproject.toml)
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(PACKAGES:%=-e %)
	@touch $@

up: setup ## Start the mesh, ask it one question, leave it running
	infermesh up --workers $(WORKERS)

down: setup ## Stop the mesh
	infermesh down

test: setup ## Run every test: unit, contract, integration and end to end
	python -m pytest -q

test-huggingface: $(HUGGINGFACE_VENV)/.installed ## Test the import of Hugging Face folders, in a venv with torch
	$(HUGGINGFACE_VENV)/bin/python -m pytest -q -W default tests/huggingface

test-xpu: $(VENV)/.installed-xpu ## Add torch and worker-xpu to the venv; check its types and test it
	mypy services/worker-xpu/src
	python -m pytest -q services/worker-xpu

$(VENV)/.installed-xpu: $(VENV)/.installed services/worker-xpu/requirements.lock services/worker-xpu/pyproject.toml
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r services/worker-xpu/requirements.lock
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e services/worker-xpu
	@touch $@

$(HUGGINGFACE_VENV)/.installed: tests/huggingface/requirements.lock
	python3 -m venv $(HUGGINGFACE_VENV)
	$(HUGGINGFACE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/huggingface/requirements.lock
	$(HUGGINGFACE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		$(addprefix -e ,protos libs/runtime libs/engine libs/worker libs/client services/worker-cpu)
	@touch $@

check: setup ## Lint, types, protos and their drift, locks
	ruff check .
	ruff format --check .
	python protos/generate.py --check
	python tools/module_list.py --check
	mypy $(SOURCES)

format: setup ## Format the code and fix what the linter can
	ruff format .
	ruff check --fix .

protos: setup ## Make the stubs from the .proto files
	python protos/generate.py

modules: setup ## List the modules in ARCHITECTURE.md
	python tools/module_list.py

lock: setup ## Make the lock files from the pyproject.toml files
	python tools/lock.py

bench: setup ## Measure engine and mesh beside openvino-genai; the last line is one JSON document
	python benchmarks/mesh.py

bench-router: setup ## Measure what the router adds, beside other routers, and how it chooses in simulated fleets
	python benchmarks/fleet.py
	python benchmarks/router_overhead.py

clean: ## Remove what the commands above made
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis

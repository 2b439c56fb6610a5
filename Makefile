# One place for every command of this repository; `make help` lists them.
SHELL := /bin/bash
VENV ?= .venv
PYTHON := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
PACKAGES := protos libs/runtime libs/engine libs/worker libs/client services/router services/worker-cpu deploy/envoy
SOURCES := $(wildcard libs/*/src) services/router/src services/worker-cpu/src deploy/envoy/src protos/generate.py tools examples
TESTS := conftest.py tests/scheduling.py $(wildcard libs/*/tests) services/router/tests deploy/envoy/tests deploy/docker/tests deploy/kubernetes/tests \
	tests/clients/reference.py tests/clients/triton/tensor_mesh.py tests/contract tests/gguf_files tests/json_schemas \
	tests/integration tests/e2e tests/conformance tests/security tests/chaos
BENCHMARKS := $(shell find benchmarks -name '*.py')
TORCH_BENCHMARKS := $(shell grep -lE '^ *(import|from) (torch|transformers|triton|infermesh_worker_xpu)[ .]' $(BENCHMARKS))
WORKERS ?= cpu
ROUTERS ?=
INSTALLED_INDEX := $(shell cat $(VENV)/.installed-xpu 2>/dev/null)
# Index of torch's builds for a device, remembered; empty: what pip finds. docs/devices.md says when one is needed
TORCH_INDEX ?= $(INSTALLED_INDEX)
XPU_LOCK := services/worker-xpu/requirements.lock
HUGGINGFACE_VENV ?= build/venv-huggingface
IPEX_VENV ?= build/venv-ipex
LOWEST_VENV ?= build/venv-lowest
PAGE_VENV ?= build/venv-page
CLIENTS_VENV ?= build/venv-clients
# How many processes run tests beside each other. Tests often wait, so three keep two cores busy; with four, some ran out of time
TEST_PROCESSES ?= 3
# Named, so that pytest does not collect all others again
TESTS_ALONE := $(shell grep -rl --include='test_*.py' 'pytest\.mark\.alone' libs services/router services/worker-cpu deploy tests)
# Without bytecode files, pytest rewrites every test anew, and each process that a test starts compiles our modules
PYTEST := env -u PYTHONDONTWRITEBYTECODE python -m pytest
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: help setup setup-xpu setup-speech up down test test-xpu test-examples test-ipex test-huggingface test-models test-tools test-lowest test-clients test-sdk test-page test-page-real vendor recordings check format protos sync-client modules lock bench bench-features bench-peers bench-router bench-tensors bench-xpu clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(VENV)/.installed ## Make the development venv with every package and tool in it

$(VENV)/.installed: requirements.lock $(PACKAGES:%=%/pyproject.toml)
	python3 -m venv $(VENV)
	$(PYTHON) $(PIP_INSTALL) -r requirements.lock
	$(PYTHON) $(PIP_INSTALL) --no-deps --no-build-isolation $(PACKAGES:%=-e %)
	@touch $@

up: setup $(if $(findstring xpu,$(WORKERS)),setup-xpu) ## Start the mesh (WORKERS=cpu,xpu ROUTERS=2), ask it one question, leave it running
	infermesh up --workers $(WORKERS) $(ROUTERS:%=--routers %)

down: setup ## Stop the mesh
	infermesh down

test: setup ## Run the tests that need no torch: unit, contract, integration and end to end
	$(PYTEST) -q -m "not torch and not alone" -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
	$(PYTEST) -q -m "alone and not torch" $(TESTS_ALONE)

test-huggingface: setup $(HUGGINGFACE_VENV)/.installed ## Test the import of Hugging Face folders, in a venv with torch
	mypy --python-executable $(HUGGINGFACE_VENV)/bin/python --cache-dir .mypy_cache/huggingface tests/huggingface
	$(HUGGINGFACE_VENV)/bin/python -m pytest -q -W default tests/huggingface

test-models: setup-xpu $(HUGGINGFACE_VENV)/.installed ## Compare real models on both workers with transformers (downloads 2 GB, keeps 12 GB)
	mypy tests/models
	INFERMESH_TEST_CONVERTER_VENV=$(HUGGINGFACE_VENV) python -m pytest -q tests/models

test-tools: setup ## Let models trained for it call tools, with the SDKs that people use (downloads 1.6 GB, keeps 3.2 GB)
	mypy tests/tool_loops
	python -m pytest -q tests/tool_loops

test-lowest: $(LOWEST_VENV)/.installed ## Run unit and contract tests on the lowest versions that our packages allow
	PATH=$(CURDIR)/$(LOWEST_VENV)/bin:$$PATH python -m pytest -q -W default \
		libs services/router services/worker-cpu deploy tests/contract

test-clients: setup $(CLIENTS_VENV)/.installed ## Test a mesh with the clients that people use, in a venv of theirs (needs npm)
	mypy --python-executable $(CLIENTS_VENV)/bin/python --cache-dir .mypy_cache/clients \
		--exclude '(reference|tensor_mesh).py' tests/clients
	INFERMESH_TEST_MESH_VENV=$(CURDIR)/$(VENV) $(CLIENTS_VENV)/bin/python -m pytest -q -W default --confcutdir=tests/clients tests/clients

test-sdk: setup ## Install the SDK alone into a fresh venv, check the examples in TypeScript, and run both on a mesh (needs npm)
	mypy tests/sdk
	$(PYTEST) -q tests/sdk

test-page: setup $(PAGE_VENV)/.installed ## Test the page in Debian's Chromium through the real Envoy (needs chromium and npm)
	python tools/vendor_page.py --tests
	mypy --python-executable $(PAGE_VENV)/bin/python --cache-dir .mypy_cache/page tests/page
	$(PAGE_VENV)/bin/python -m pytest -q -W default -m "not torch" tests/page

test-page-real: setup-xpu $(PAGE_VENV)/.installed ## Test the page with real workers: worker-cpu beside worker-xpu, both on the processor
	INFERMESH_TEST_MESH_VENV=$(CURDIR)/$(VENV) $(PAGE_VENV)/bin/python -m pytest -q -W default -m torch tests/page

vendor: setup ## Take the page's libraries out of npm, at exact versions with checked hashes (needs npm)
	python tools/vendor_page.py

recordings: setup $(CLIENTS_VENV)/.installed ## Record again what clients send, for `infermesh doctor` (needs npm)
	python -m tests.conformance.recording.record tests.conformance.recording.calls
	$(CLIENTS_VENV)/bin/python -m tests.conformance.recording.record tests.clients.recorded_calls
	cd tests/clients/node && npm ci --no-audit --no-fund
	python -m tests.clients.node_recordings

setup-xpu: $(VENV)/.installed-xpu ## Add torch and worker-xpu to the venv

test-xpu: setup-xpu ## Check worker-xpu's types and test it: alone, with clients of every API, beside worker-cpu; and tiny models on both
	mypy services/worker-xpu/src services/worker-xpu/tests tests/architectures $(TORCH_BENCHMARKS)
	$(PYTEST) -q services/worker-xpu tests/architectures tests/e2e/test_device_choice.py tests/integration/test_failover_real.py \
		services/worker-cpu/tests/encoders/test_graphs.py services/worker-cpu/tests/whisper/test_whisper_graphs.py
	$(PYTEST) -q -m torch tests/conformance

test-examples: setup-xpu setup-speech ## Run the examples with real models, which it downloads (500 MB), and compare their numbers
	mypy examples/detect.py examples/read_text.py examples/find_speech.py examples/transcribe.py examples/get_whisper.py examples/speak.py examples/get_kokoro.py tests/examples
	$(PYTEST) -q tests/examples

setup-speech: $(VENV)/.installed-speech ## Add eSpeak NG to the venv, which models that speak need (GPL-3.0)

$(VENV)/.installed-speech: $(VENV)/.installed libs/worker/pyproject.toml
	$(PYTHON) $(PIP_INSTALL) --no-build-isolation -e "libs/worker[speech]"
	@touch $@

# torch's own indexes have the Triton that goes with each build, under names of their own: the lock's would lie over it
$(VENV)/.installed-xpu: $(VENV)/.installed $(XPU_LOCK) services/worker-xpu/pyproject.toml \
		$(if $(filter-out $(INSTALLED_INDEX),$(TORCH_INDEX)),other-torch)
ifeq ($(TORCH_INDEX),)
	$(PYTHON) $(PIP_INSTALL) -r $(XPU_LOCK)
else
	$(PYTHON) $(PIP_INSTALL) --index-url $(TORCH_INDEX) $(shell grep '^torch==' $(XPU_LOCK))
	grep -vE '^(torch|triton)==' $(XPU_LOCK) | $(PYTHON) $(PIP_INSTALL) -r /dev/stdin
endif
	$(PYTHON) $(PIP_INSTALL) --no-deps --no-build-isolation -e services/worker-xpu
	@echo "$(TORCH_INDEX)" > $@

.PHONY: other-torch
other-torch: $(VENV)/.installed
	$(PYTHON) -m pip uninstall --quiet --yes torch triton triton-xpu pytorch-triton-xpu

test-ipex: setup $(IPEX_VENV)/.installed ## Test worker-xpu with Intel's extension, in a venv with the last torch it knows (6 GB)
	mypy --python-executable $(IPEX_VENV)/bin/python --cache-dir .mypy_cache/ipex tests/ipex
	GOMP_SPINCOUNT=0 $(IPEX_VENV)/bin/python -m pytest -q -W default services/worker-xpu/tests tests/ipex

$(IPEX_VENV)/.installed: tests/ipex/requirements.lock
	python3 -m venv $(IPEX_VENV)
	$(IPEX_VENV)/bin/python $(PIP_INSTALL) --no-deps -r tests/ipex/requirements.lock
	$(IPEX_VENV)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation \
		$(addprefix -e ,protos libs/runtime libs/engine libs/worker libs/client services/worker-xpu)
	@touch $@

$(HUGGINGFACE_VENV)/.installed: tests/huggingface/requirements.lock
	python3 -m venv $(HUGGINGFACE_VENV)
	$(HUGGINGFACE_VENV)/bin/python $(PIP_INSTALL) -r tests/huggingface/requirements.lock
	$(HUGGINGFACE_VENV)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation \
		$(addprefix -e ,protos libs/runtime libs/engine libs/worker libs/client services/worker-cpu)
	@touch $@

$(CLIENTS_VENV)/.installed: tests/clients/requirements.lock
	python3 -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/python $(PIP_INSTALL) -r tests/clients/requirements.lock
	@touch $@

$(PAGE_VENV)/.installed: requirements.lock tests/page/requirements.lock
	python3 -m venv $(PAGE_VENV)
	$(PAGE_VENV)/bin/python $(PIP_INSTALL) -r requirements.lock -r tests/page/requirements.lock
	$(PAGE_VENV)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation $(PACKAGES:%=-e %)
	@touch $@

$(LOWEST_VENV)/.installed: tests/lowest/requirements.lock
	python3 -m venv $(LOWEST_VENV)
	$(LOWEST_VENV)/bin/python $(PIP_INSTALL) -r tests/lowest/requirements.lock
	$(LOWEST_VENV)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation $(PACKAGES:%=-e %)
	@touch $@

check: setup ## Lint the code and the protos; check types, rooms, dependencies and what is generated
	ruff check .
	ruff format --check .
	python protos/generate.py --check
	python tools/module_list.py --check
	python tools/sync_client.py --check
	PYTHONPATH=services/worker-xpu/src lint-imports --no-logo
	python tools/dependencies.py
	mypy $(SOURCES) $(TESTS) $(filter-out $(TORCH_BENCHMARKS),$(BENCHMARKS))
	mypy services/worker-cpu/tests

format: setup ## Format the code and fix what the linter can
	ruff format .
	ruff check --fix .

sync-client: setup ## Make the synchronous half of the Python SDK from the asynchronous one
	python tools/sync_client.py

protos: setup ## Make the stubs from the .proto files
	python protos/generate.py

modules: setup ## List the modules in docs/modules.md
	python tools/module_list.py

lock: setup ## Make the lock files from the pyproject.toml files
	python tools/lock.py

bench: setup ## Compare engine and mesh, without and with guesses ahead, with openvino-genai; the last line is one JSON document
	python benchmarks/engine/mesh.py

bench-peers: setup ## Compare the mesh over HTTP with llama.cpp's server and vLLM on processors (installs 4 GB); the last line is JSON
	python -m benchmarks.peers

bench-features: setup ## Measure what log probabilities, sampling and JSON cost the engine, and each dialect the router
	python -m benchmarks.engine.features
	python -m benchmarks.router.front_share

bench-xpu: $(VENV)/.installed-xpu ## Compare worker-xpu on processors with transformers; the last line is one JSON document
	python benchmarks/torch_worker/xpu.py

bench-router: setup ## Measure what the router adds, compared with others, how it chooses in simulated fleets, and saturation
	python benchmarks/router/fleet.py
	python benchmarks/router/router_overhead.py
	python -m benchmarks.router.saturation

bench-tensors: setup ## Measure tensors of several sizes over every way, and batching, beside a bare echo, onnxruntime and MLServer
	python -m benchmarks.tensors

clean: ## Remove what the commands above made
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis

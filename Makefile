# Needs make, git and Python 3.11 or newer. Everything else is installed into .venv or the cache of the user.
# Variables: PYTHON (interpreter for .venv), STOWAGE_CLUSTER (name of the local cluster), STOWAGE_CACHE (cache folder),
# TEST_PROCESSES (how many test files at once).

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
DEPENDENCIES := $(VENV)/.dependencies
INSTALLED := $(VENV)/.installed
COMPILE := $(BIN)/uv --no-config --quiet pip compile --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)
STYLED := operator scheduler_plugin tests e2e tools
PYTEST := $(BIN)/pytest $(PYTEST_ARGUMENTS)
TEST_PROCESSES ?= 2
# files side by side, the slow folders first; tests on a control plane mostly wait
SIDE_BY_SIDE := --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

FRAMEWORKS := $(or $(STOWAGE_CACHE),$(XDG_CACHE_HOME),$(HOME)/.cache)/stowage/frameworks
environment_of = $(FRAMEWORKS)/$(1)-$(shell cksum <requirements/$(1).txt | cut -d ' ' -f 1)
TORCH := $(call environment_of,torch)
JAX := $(call environment_of,jax)
# what torch asks for and does without on CPUs
NOT_FOR_CPUS := triton nvidia-cusolver nvidia-nvtx nvidia-cuda-cccl cuda-toolkit cuda-bindings cuda-pathfinder

.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help
IMAGE ?= stowage:dev
DOCKER_BUILD_ARGUMENTS ?= --network host

.PHONY: help install tools up down demo image sbom docs e2e test test-torch test-jax unit integration faults agreement bench bench-packing bench-serving verify lint format type crds chart lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## install Stowage and all it needs into .venv

tools: $(INSTALLED) ## build or find the programs of the local cluster; print their folder
	@$(BIN)/python tools/cluster_tools.py

up: $(INSTALLED) ## start a local cluster with simulated nodes; print its kubeconfig file
	@$(BIN)/python -m stowage.demo.cluster_command up

down: $(INSTALLED) ## end the local cluster
	@$(BIN)/python -m stowage.demo.cluster_command down

demo: $(INSTALLED) ## show Stowage at work on a local cluster: table, pictures, demo/result.json
	@$(BIN)/python tools/cluster_tools.py >/dev/null
	@$(BIN)/stowage demo $(DEMO_ARGUMENTS)

test: $(INSTALLED) ## run all tests, those on a real control plane too, and a sample of the faults
	$(PYTEST) $(SIDE_BY_SIDE) tests/faults tests/integration tests/property tests/unit

test-torch: $(INSTALLED) $(TORCH)/.installed ## train with real PyTorch on CPUs while ranks are killed; 4 GB in the cache
	STOWAGE_TORCH_PYTHON=$(TORCH)/bin/python $(PYTEST) tests/training

test-jax: $(INSTALLED) $(JAX)/.installed ## train with real JAX on CPUs while ranks are killed; 600 MB in the cache
	STOWAGE_JAX_PYTHON=$(JAX)/bin/python $(PYTEST) tests/training

unit: $(INSTALLED) ## run the tests that need no control plane
	$(PYTEST) $(SIDE_BY_SIDE) tests/property tests/unit

integration: $(INSTALLED) ## run the tests on a real control plane, without faults
	$(PYTEST) $(SIDE_BY_SIDE) tests/integration

faults: $(INSTALLED) ## kill processes at every change they ask for, and play all other faults; takes long
	$(PYTEST) tests/faults --faults=all

agreement: $(INSTALLED) ## ask kube-scheduler about 4,000 generated pods; it and Stowage shall name the same nodes
	$(PYTEST) tests/integration/test_scheduler_agreement.py --agreement=all

image: ## build the container image (IMAGE=name:tag, DOCKER_BUILD_ARGUMENTS)
	docker build $(DOCKER_BUILD_ARGUMENTS) --build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE) .

sbom: $(INSTALLED) ## write the bill of materials of the image's Python packages, build/stowage.cdx.json
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --of JSON --output-file build/stowage.cdx.json

docs: $(INSTALLED) ## build the documentation into build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

e2e: $(INSTALLED) ## prove image and chart on kind clusters with real kubelets; needs docker, kind, kubectl, helm
	$(PYTEST) e2e

bench: $(INSTALLED) ## run the benchmarks
	@if ls tests/bench/test_*.py >/dev/null 2>&1; then $(PYTEST) tests/bench; \
	else echo "there are no benchmarks yet (tests/bench)"; fi

bench-packing: $(INSTALLED) ## run the benchmarks of the packer; PYTEST_ARGUMENTS=--grid=all for the whole grid, an hour
	$(PYTEST) tests/bench/packing

bench-serving: $(INSTALLED) ## compare autoscalers; PYTEST_ARGUMENTS="--workloads=azure-1 --cold-starts=120" for a part, all: half an hour
	$(PYTEST) tests/bench/serving

verify: lint type ## check style, types, imports, generated files, chart, alerts and the rules of the repository
	$(BIN)/hadolint Dockerfile e2e/prometheus/Dockerfile e2e/jax_image/Dockerfile e2e/stand_in_image/Dockerfile
	$(BIN)/shellcheck .ci/run
	$(BIN)/python -m stowage.api --check
	$(BIN)/python -m stowage.api --directory helm/stowage/files/crds --check
	$(BIN)/python -m stowage.cli.roles --check
	$(BIN)/python tools/metrics_reference.py --check
	$(BIN)/python tools/crd_reference.py --check
	$(BIN)/python tools/chart_docs.py --check
	$(PYTEST) tests/unit/test_repository.py tests/chart tests/alerts
	$(MAKE) docs

lint: $(INSTALLED) ## check style and the direction of imports
	$(BIN)/ruff check $(STYLED)
	$(BIN)/ruff format --check $(STYLED)
	$(BIN)/lint-imports

format: $(INSTALLED) ## format the code, fix what can be fixed by itself
	$(BIN)/ruff check --fix $(STYLED)
	$(BIN)/ruff format $(STYLED)

type: $(INSTALLED) ## check types
	$(BIN)/mypy
	$(BIN)/mypy $(wildcard tools/*.py)

crds: $(INSTALLED) ## write crds/ anew from the models
	$(BIN)/python -m stowage.api

chart: $(INSTALLED) crds ## write anew what the chart and the docs have from the code: resources, roles, dashboards, tables
	$(BIN)/python -m stowage.api --directory helm/stowage/files/crds
	$(BIN)/python -m stowage.cli.roles
	$(BIN)/python tools/metrics_reference.py
	$(BIN)/python tools/crd_reference.py
	$(BIN)/python tools/chart_docs.py

lock: $(INSTALLED) ## pin the requirements anew (UPGRADE=1: to the newest versions)
	$(PIP) install --require-hashes --requirement requirements/lock.txt
	$(COMPILE) pyproject.toml --output-file requirements/runtime.txt
	$(COMPILE) requirements/build.in --output-file requirements/build.txt
	$(COMPILE) pyproject.toml --extra demo --extra dev --constraint requirements/runtime.txt --output-file requirements/dev.txt
	$(COMPILE) requirements/go.in --output-file requirements/go.txt
	$(COMPILE) requirements/lock.in --output-file requirements/lock.txt
	$(COMPILE) requirements/torch.in --output-file requirements/torch.txt $(NOT_FOR_CPUS:%=--no-emit-package %)
	$(COMPILE) requirements/jax.in --output-file requirements/jax.txt

clean: ## remove what make made in this folder; clusters and programs in the cache stay
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(STYLED) -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEPENDENCIES): requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer: set PYTHON to its path" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV)" >&2; $(PYTHON) -m venv $(VENV); }
	@echo "installing the pinned requirements into $(VENV)" >&2
	@$(PIP) install --require-hashes --requirement $<
	@touch $@

# the hashes hold: nothing but the package itself is installed here
$(INSTALLED): $(DEPENDENCIES) pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# torch and jax: whole or not there, for others may look for them at the same time
$(FRAMEWORKS)/%/.installed:
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer: set PYTHON to its path" >&2; exit 1; }
	@echo "installing $* into $(FRAMEWORKS)" >&2
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --quiet --disable-pip-version-check --no-input --no-cache-dir install --no-deps \
	  --require-hashes --requirement requirements/$(firstword $(subst -, ,$*)).txt
	@touch $@

# prints nothing; fails where the environment of test-torch or test-jax is not there yet
has-%:
	@test -e $(call environment_of,$*)/.installed

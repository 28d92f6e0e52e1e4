# denoise_jax: everything from a fresh clone, with python3 and make.
#
#   make quickstart        set up, then train, evaluate and use a small model
#   make test              set up, then run the tests
#   make help              all targets
#
# PYTHON=python3.12 selects the interpreter (3.11, 3.12 or 3.13), VENV=folder the environment's folder.

VENV ?= .venv
DOCS_VENV ?= .venv-docs
PYTHON ?= $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,python3)

# The base interpreter, if PYTHON is that of a virtual environment; and its version, such as 3.12.
BASE_PYTHON := $(shell $(PYTHON) -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
STAMP := $(VENV)/.installed-$(VERSION)

export PATH := $(abspath $(VENV))/bin:$(PATH)

# Large memory pages: each step allocates new arrays, and on a CPU this saves a sixth of its time.
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1

.DEFAULT_GOAL := help
.PHONY: help setup setup-parity setup-tpu quickstart test test-slow lint format docs lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## install the locked dependencies in .venv, with hashes checked

# Build tools are installed first, so that dependencies without a wheel are built with locked versions of them.
BUILD_TOOLS := cython|pdm-backend|setuptools

$(STAMP): requirements.txt pyproject.toml
	@case "$(VERSION)" in 3.11|3.12|3.13) ;; *) \
	  echo "denoise_jax needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $(or $(VERSION),not installed): try make PYTHON=python3.12" >&2; \
	  exit 2;; esac
	@if [ "$(VERSION)" = 3.13 ] && ! command -v c++ >/dev/null; then \
	  echo "On Python 3.13 one dependency is compiled: install a C++ compiler, or try make PYTHON=python3.12" >&2; \
	  exit 2; fi
	@if ! "$(VENV)/bin/python" -c 'import pip, sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")' 2>/dev/null; then \
	  rm -rf "$(VENV)" && "$(BASE_PYTHON)" -m venv "$(VENV)"; fi
	@rm -f "$(VENV)"/.installed-*
	@echo "Installing into $(VENV) with Python $(VERSION): about 3.5 GB, a few minutes."
	@awk '/^[^ #]/ { wanted = /^($(BUILD_TOOLS))==/ } wanted' requirements.txt > "$(VENV)/build-tools.txt"
	"$(VENV)/bin/python" -m pip install --quiet --require-hashes --no-deps --requirement "$(VENV)/build-tools.txt"
	"$(VENV)/bin/python" -m pip install --quiet --require-hashes --no-deps --no-build-isolation --requirement requirements.txt
	"$(VENV)/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

setup-parity: setup  ## also install PyTorch and transformers for the parity tests (1 to 5 GB)
	"$(VENV)/bin/python" -m pip install --quiet --no-build-isolation --editable ".[parity]"

setup-tpu: setup  ## also install libtpu, for tests that need the topology of a pod but no TPU (0.7 GB)
	"$(VENV)/bin/python" -m pip install --quiet --require-hashes --no-deps --requirement requirements-tpu.txt

# The README's quick start. Each line also works by itself in the activated environment.
quickstart: setup  ## train a vocabulary and a small model, evaluate it and fill in masks
	denoise-jax vocab --task quickstart --size 2048 --sentinels 32 --control-symbols en_18 en_19 en_20 en_21 --output vocabularies/quickstart
	denoise-jax train quickstart --workdir runs/quickstart
	denoise-jax evaluate runs/quickstart
	denoise-jax generate runs/quickstart \
	  "During the past <mask> the public debt has been reduced." \
	  "I commend this subject to the consideration of <mask>, and I ask that provision be made for the payment of these claims at the present session." \
	  "The Congress of the United <mask> has the power to declare war."

test: setup  ## run the fast tests
	python -m pytest -n 2 --dist loadfile

test-slow: setup  ## run the slow tests
	python -m pytest -n 2 --dist loadfile -m "slow and not tpu and not gpu"

lint: setup  ## check style with ruff
	ruff check .
	ruff format --check .

format: setup  ## fix style with ruff
	ruff check --fix .
	ruff format .

# Only the extra is installed: pages are built from the source without importing it.
$(DOCS_VENV)/.installed: pyproject.toml
	rm -rf "$(DOCS_VENV)" && "$(BASE_PYTHON)" -m venv "$(DOCS_VENV)"
	@"$(DOCS_VENV)/bin/python" -c 'import tomllib; \
	  print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
	  > "$(DOCS_VENV)/requirements.txt"
	"$(DOCS_VENV)/bin/python" -m pip install --quiet --requirement "$(DOCS_VENV)/requirements.txt"
	@touch $@

docs: $(DOCS_VENV)/.installed  ## build the documentation site in site/ (own environment, .venv-docs)
	PYTHONPATH=. "$(DOCS_VENV)/bin/python" docs/configuration.py
	"$(DOCS_VENV)/bin/python" docs/files.py
	NO_MKDOCS_2_WARNING=1 "$(DOCS_VENV)/bin/mkdocs" build --strict

lock:  ## lock the newest versions of the dependencies in requirements.txt (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv" >&2; exit 2; }
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --python-version 3.11 --upgrade \
	  --no-emit-index-url --no-emit-find-links --no-header --quiet --output-file requirements.lock.tmp
	@{ echo "# Exact versions of denoise_jax[dev] and what builds it, for every platform and Python 3.11 to 3.13."; \
	  echo "# Written by \`make lock\`; installed by \`make setup\`."; cat requirements.lock.tmp; } > requirements.txt
	uv pip compile pyproject.toml --extra dev --extra tpu --universal --generate-hashes --python-version 3.11 \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --output-file requirements.lock.tmp
	@{ echo "# What JAX needs on TPUs besides requirements.txt. Written by \`make lock\`."; \
	  awk '/^[^ #]/ { wanted = /^libtpu==/ } wanted' requirements.lock.tmp; } > requirements-tpu.txt
	@rm requirements.lock.tmp

clean:  ## remove environments, caches and site/, but not runs/ and vocabularies/
	rm -rf "$(VENV)" "$(DOCS_VENV)" site build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# denoise_jax: everything from a fresh clone, with python3 and make.
#
#   make quickstart        set up, then train, evaluate and use a small model
#   make test              set up, then run the tests
#   make help              all targets
#
# PYTHON=python3.12 chooses the interpreter (3.11, 3.12 or 3.13); VENV=folder, where the environment lies.

VENV ?= .venv
PYTHON ?= $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,python3)

# The interpreter behind PYTHON, should that be an environment's own, and its version, such as 3.12.
BASE_PYTHON := $(shell $(PYTHON) -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
STAMP := $(VENV)/.installed-$(VERSION)

export PATH := $(abspath $(VENV))/bin:$(PATH)

# Large pages: the arrays of a step are new memory each time, and this saves a sixth of its time on a CPU.
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1

.DEFAULT_GOAL := help
.PHONY: help setup setup-parity quickstart test test-slow lint format lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## install everything, hash-checked, in .venv

# What builds the source-only dependencies comes first: then they are built with pinned tools, not the newest.
BUILD_TOOLS := cython|pdm-backend|setuptools

$(STAMP): requirements.txt pyproject.toml
	@case "$(VERSION)" in 3.11|3.12|3.13) ;; *) \
	  echo "denoise_jax needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $(or $(VERSION),not there): try make PYTHON=python3.12" >&2; \
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

setup-parity: setup  ## install PyTorch and transformers too, which the parity tests need (1 to 5 GB)
	"$(VENV)/bin/python" -m pip install --quiet --no-build-isolation --editable ".[parity]"

# The lines of this recipe are the README's quick start: copy them, with the environment activated.
quickstart: setup  ## build a vocabulary, train, evaluate and fill masks on this machine
	denoise-jax vocab --task quickstart --size 2048 --sentinels 32 --control-symbols en_18 en_19 en_20 en_21 --output vocabularies/quickstart
	denoise-jax train quickstart --workdir runs/quickstart
	denoise-jax evaluate runs/quickstart
	denoise-jax generate runs/quickstart \
	  "During the past <mask> the public debt has been reduced." \
	  "I commend this subject to the consideration of <mask>, and I ask that provision be made for the payment of these claims at the present session." \
	  "The Congress of the United <mask> has the power to declare war."

test: setup  ## the tests that take seconds
	python -m pytest -n 2 --dist loadfile

test-slow: setup  ## the tests that take minutes
	python -m pytest -m "slow and not tpu"

lint: setup  ## style and mistakes, with ruff
	ruff check .
	ruff format --check .

format: setup  ## rewrite the files in our style
	ruff check --fix .
	ruff format .

lock:  ## pin the newest dependencies in requirements.txt (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv" >&2; exit 2; }
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --python-version 3.11 --upgrade \
	  --no-emit-index-url --no-emit-find-links --no-header --quiet --output-file requirements.lock.tmp
	@{ echo "# Exact versions of denoise_jax[dev] and what builds it, for every platform and Python 3.11 to 3.13."; \
	  echo "# Written by \`make lock\`; installed by \`make setup\`."; cat requirements.lock.tmp; } > requirements.txt
	@rm requirements.lock.tmp

clean:  ## remove the environment and all caches; runs/ and vocabularies/ stay
	rm -rf "$(VENV)" build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

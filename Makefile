# Each target makes .venv when it must and installs what it needs into it, once.
#   make test                      everything that decides whether a change may land
#   make demo ARGS=--crash         arguments are passed through
#   PYTHON=python3.12 make test    another interpreter; .venv is made anew when its version differs

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
TYPED := build/typed
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
INTERPRETER := $(VENV)/.python-$(VERSION)

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:  # two pips in one environment would get into each other's way
.PHONY: help demo test pytest soak bench lint clean distclean

help:
	@echo "make demo   a year of flights on the bus, with a report (ARGS=--crash kills and resumes it)"
	@echo "make test   lint, then every test (WORKERS=$(WORKERS) processes; ARGS='-k graph' selects)"
	@echo "make soak   5,000 lives of a log on a device that fails, each fault at each step, canaries (minutes)"
	@echo "make lint   ruff, mypy, import contracts"
	@echo "make bench  the benchmarks, against the peers"
	@echo "make clean  remove what was built; make distclean removes $(VENV) as well"
	@echo "PYTHON=python3.12 make ... uses another interpreter (3.11 or newer)"

demo: $(VENV)/.installed-demo
	$(BIN)/python -m demo $(ARGS)

test: lint pytest

pytest: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.soak $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
# kernels/ stands beside the package and belongs inside it: these two look at the files as they are installed.
	@rm -rf $(TYPED) && mkdir -p $(TYPED) && cp -Rp mmsb_jax $(TYPED) && cp -Rp kernels $(TYPED)/mmsb_jax
	cd $(TYPED) && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache
	cd $(TYPED) && $(CURDIR)/$(BIN)/lint-imports --config $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.import_linter_cache

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# One stamp per extra, so that `make demo` doesn't fetch what only the tests need.
$(VENV)/.installed-%: pyproject.toml $(INTERPRETER)
	@echo "Installing mmsb-jax[$*] into $(VENV); the first time this takes a minute or two."
	@$(BIN)/python -m pip install --editable '.[$*]' >$(VENV)/pip.log 2>&1 \
	  || { cat $(VENV)/pip.log >&2; echo "pip could not install mmsb-jax[$*]; its own words are above." >&2; exit 1; }
	@touch $@

$(INTERPRETER):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "mmsb-jax needs Python 3.11 or newer, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 | head -1)." >&2; \
	  echo "Name another interpreter, for instance: PYTHON=python3.12 make $(MAKECMDGOALS)" >&2; exit 1; }
	@if [ "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "$(VERSION)" ]; then \
	  echo "Making $(VENV) with Python $(VERSION)."; \
	  rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) \
	    || { echo "$(PYTHON) could not make $(VENV) (on Debian and Ubuntu: install python$(VERSION)-venv)." >&2; exit 1; }; \
	fi
	@touch $@

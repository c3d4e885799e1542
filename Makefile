# Everything that is run by hand. `make demo` to try it, `make test` before a change lands.
# PYTHON=... selects the interpreter that makes .venv (3.11 or newer).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := demo
.DELETE_ON_ERROR:

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet
ifeq ($(origin PYTHON),undefined)
CANDIDATES := python3 python3.13 python3.12 python3.11
else
CANDIDATES := $(PYTHON)
endif
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
# The locks hold for one platform; elsewhere, and with LOCK=no, the pins of the requirements are all that is fixed.
LOCK := yes
FITS := import platform, sys; sys.exit((sys.implementation.name, sys.version_info[:2], sys.platform, platform.machine(), \
    platform.libc_ver()[0]) != ("cpython", (3, 11), "linux", "x86_64", "glibc"))

.PHONY: demo serve dashboard install test lint bench faults screenshots lock audit clean

demo: install  ## the dashboard on a demonstration of its own
	@exec $(RUN) -m app --demo

serve: install  ## the dashboard on your own runs
	@exec $(RUN) -m app

dashboard:  ## the dashboard alone, without the trainer and torch, in .venv-dashboard
	@$(MAKE) --no-print-directory VENV=.venv-dashboard .venv-dashboard/bin/python
	@if ! cmp -s requirements-dashboard.txt .venv-dashboard/requirements-dashboard.txt; then \
	    .venv-dashboard/bin/python -m pip --disable-pip-version-check install --quiet -r requirements-dashboard.txt; \
	    cp requirements-dashboard.txt .venv-dashboard/; \
	fi
	@exec .venv-dashboard/bin/python -m app

install: $(VENV)/requirements.txt  ## .venv with everything that running needs

test: lint  ## lint and all tests
	@$(RUN) -m scripts.provide_browser
	@$(RUN) -m pytest -n 2

lint: $(VENV)/requirements-dev.txt  ## style and types
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/mypy

bench: $(VENV)/requirements-dev.txt  ## measures what docs/measured.md states
	@$(RUN) -m scripts.provide_browser
	@for script in benchmarks/[a-z]*.py; do echo "$$script"; $(RUN) -m benchmarks.$$(basename "$$script" .py); done

faults: $(VENV)/requirements-dev.txt  ## an hour of accidents to real trainings, written to docs/faults.md
	@$(RUN) -m tests.faults

screenshots: $(VENV)/requirements-dev.txt  ## docs/screenshots from a demonstration database
	@$(RUN) -m scripts.provide_browser
	@$(RUN) -m scripts.screenshots

lock: $(VENV)/requirements-dev.txt  ## writes the locks anew, after a requirement has changed
	@$(RUN) -m scripts.lock

audit: $(VENV)/requirements.txt  ## known vulnerabilities of what is installed, where their database can be reached
	@$(RUN) -m venv --clear $(VENV)/audit >/dev/null
	@$(VENV)/audit/bin/python -m pip --disable-pip-version-check install --quiet pip-audit
	@$(RUN) -m scripts.audit $(VENV)/audit/bin/pip-audit

clean:  ## removes .venv and caches; runs in data/ stay
	rm -rf $(VENV) .venv-dashboard .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN):
	@for candidate in $(CANDIDATES); do \
	    if command -v $$candidate >/dev/null && $$candidate -c '$(NEW_ENOUGH)'; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$${python:-}" ]; then \
	    echo "Vision-R1-Zero needs Python 3.11 or newer: install it, or name one with 'make PYTHON=/path/to/python3.12'." >&2; \
	    exit 1; \
	fi; \
	if ! $$python -m venv $(VENV) >/dev/null; then \
	    rm -rf $(VENV); \
	    echo "$$python cannot make a virtual environment: install its venv module (Debian, Ubuntu: apt-get install python3-venv)." >&2; \
	    exit 1; \
	fi

# The stamp is a copy of what was installed: a new date alone installs nothing.
# What a lock names comes from hashes; the second step adds PyTorch, which has a build for every machine.
STAMPS := $(addprefix $(VENV)/,requirements.txt requirements-cluster.txt requirements-dev.txt)
$(STAMPS): $(VENV)/%.txt: %.txt %.lock | $(RUN)
	@if ! cat $< $*.lock | cmp -s - $@; then \
	    echo "Installing $< into $(VENV) ..."; \
	    if [ "$(LOCK)" = yes ] && $(RUN) -c '$(FITS)'; then \
	        $(PIP) --no-deps --require-hashes -r $*.lock || { \
	            echo "$*.lock could not be installed: see above. 'make LOCK=no' installs $< without hashes." >&2; exit 1; }; \
	    fi; \
	    $(PIP) -r $<; \
	fi
	@cat $< $*.lock > $@

$(VENV)/requirements-cluster.txt: $(VENV)/requirements.txt
$(VENV)/requirements-dev.txt: $(VENV)/requirements-cluster.txt

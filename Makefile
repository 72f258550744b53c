# What can I do here? `make` lists it. Every target does its own set-up; a second run of the set-up takes no time.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# `packages` brings what `venv` needs, and two runs of the tests would share two cores.
.NOTPARALLEL:

PY := .venv/bin/python
PACKAGES := proxy modes conntrack endpoints
WORKERS ?= 4
MODE ?= nftables
HOLD ?=
# The lab and the bench read these; an empty HOLD means no shell at the end.
export MODE HOLD

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: packages
packages: ## install the Debian packages that are missing (needs root)
	@tools/packages

.PHONY: venv
venv: ## bring .venv to the locked versions (PYTHON=python3)
	@tools/venv

.PHONY: check
check: venv ## format, lint, types, import contracts, sizes; changes nothing
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy $(PACKAGES) tests tools/sizes.py tools/configuration.py tools/schemas.py
	.venv/bin/lint-imports --no-logo
	$(PY) tools/sizes.py $(PACKAGES)

# User-mode Linux has two processors of its own, and packets that do not like to wait: it comes last,
# alone. With ARGS=-k... one of the two may have nothing to do, which pytest says by status 5.
tests = $(PY) -m pytest -q -rs $(1) $(ARGS) || test $$? -eq 5 -a -n "$(ARGS)"

.PHONY: test
test: packages venv check ## everything: check, then the tests with real packets (needs root)
	$(call tests,-n $(WORKERS) --ignore=tests/uml)
	$(call tests,-o faulthandler_timeout=0 tests/uml)

.PHONY: demo
demo: packages venv ## a virtual cluster, step by step (MODE=nftables, HOLD=1 leaves a shell)
	$(PY) -m tests.lab.demo

.PHONY: bench
bench: packages venv ## measure (MODE=nftables, iptables, ipvs or all; KUBE_PROXY=... beside)
	$(PY) -m tests.bench

.PHONY: format
format: venv ## write the format, apply the safe fixes of the linter
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

.PHONY: docs
docs: venv ## write docs/configuration.md, docs/metrics.md and docs/schema/ from the code
	$(PY) tools/configuration.py > docs/configuration.md
	$(PY) tools/metrics.py > docs/metrics.md
	$(PY) tools/schemas.py docs/schema

.PHONY: lock
lock: ## resolve the dependencies of pyproject.toml anew (needs the registry)
	@tools/lock

.PHONY: clean
clean: ## remove what the targets above made, .venv too
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find $(PACKAGES) tests tools -name __pycache__ -prune -exec rm -rf {} +

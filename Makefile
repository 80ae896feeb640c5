# The tasks of this repository. `make` alone lists them. Every task first installs what it lacks (.ci/setup)
# and then runs in the environment that all of them share (.ci/env).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-long interop fuzz lint bench ci

# So that `make test SKIP_BROWSER=1` reaches the scripts and the tests.
ifdef SKIP_BROWSER
export SKIP_BROWSER
endif
ifdef SKIP_PYTHON
export SKIP_PYTHON
endif
ifdef SKIP_STRACE
export SKIP_STRACE
endif
# Passed on to the task: `make demo ARGS=--no-serve`, `make test ARGS=merkle`, `make bench ARGS=append`.
ARGS ?=

help: ## list the tasks
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: ## install everything that any task needs (make demo and make test install their own part)
	@.ci/setup lint

build: ## build the verdict binary
	@.ci/setup build
	@. .ci/env; cargo build --locked -p verdict-ui --bin verdict

demo: ## see the whole product work on recorded traffic, then open its UI (ARGS=--no-serve: end by itself)
	@.ci/setup build
	@. .ci/env; cargo build --locked -p verdict-ui --bin verdict
	@. .ci/env; exec deploy/demo.sh $(ARGS)

# nextest last: its summary is what a reader, and CI, looks for at the end.
test: ## run all tests (SKIP_BROWSER=1, SKIP_PYTHON=1, SKIP_STRACE=1; ARGS=FILTER: only some)
	@.ci/setup test
	@. .ci/env; if [ -z "$(ARGS)" ]; then cargo test --doc --workspace --locked; fi
	@. .ci/env; cargo nextest run --workspace --locked $(ARGS)

test-long: ## run the crash tests in full: 1,000 kills, every fault, thousands of power cuts (about an hour)
	@.ci/setup test
	@. .ci/env; VERDICT_LONG=1 cargo nextest run -p verdict-ledger --locked --profile long \
		--success-output immediate -E 'test(/^crash::/)' $(ARGS)

interop: ## only the tests against implementations that we did not write (Rust crates, Python packages, openssl)
	@.ci/setup test
	@. .ci/env; cargo nextest run --workspace --locked -E 'test(/(^|::)interop/)' $(ARGS)

# A multiple of this much time in all, divided by the number of cores: there are a dozen targets.
SECONDS_EACH ?= 60
fuzz: ## fuzz every parser of foreign bytes (SECONDS_EACH=60; ARGS='note proof': only some targets)
	@.ci/setup build
	@.ci/fuzz $(SECONDS_EACH) $(ARGS)

lint: ## format, clippy, docs, licences and advisories: what CI checks before it tests
	@.ci/setup lint
	@.ci/lint

bench: ## measure, each number beside a limit measured in the same run
	@.ci/setup build
	@. .ci/env; cargo bench --workspace --locked --bench '*' $(ARGS)

ci: ## everything that CI runs
	@.ci/run

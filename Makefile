# Posthouse. `make` alone prints the targets.

SHELL := /bin/bash -o pipefail
PYTHON := python3
DEMO := .venv/bin/python infra/local/stack.py
TEST_STACK := --name test --port 4666
# For the journeys of FIFO queues, which are chosen at the first deployment.
FIFO_STACK := --name fifo --port 4766 --parameter DoorbellQueueType=fifo
# For the journeys of overload: what two cores can start at the same instant.
OVERLOAD := --parameter ThrottleRequestsPerSecond=15 --parameter ThrottleBurstRequests=30
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
FUZZ_TARGETS := header_list template form timestamp jwt json api_gateway_event receiver worker scheme_toml
FUZZ_SECONDS := 20
CARGO := cargo
# One profile and one set of crates for everything local, so that nothing is compiled twice.
LOCAL := --profile local --workspace

.DEFAULT_GOAL := help
.PHONY: help demo down test fmt lint doc unit simulation faults crowds agreement fuzz journeys chaos infra template licences advisories bench build build-local clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: build-local ## show the main job on a local AWS, step by step; the stack stays up
	@$(DEMO) up --name demo
	@target/local/demo --stack demo

down: ## end the local stacks of demo and tests
	@$(DEMO) down --name demo
	@$(DEMO) down --name test
	@$(DEMO) down --name fifo

test: fmt lint doc unit simulation infra template journeys licences advisories ## everything that CI checks
	@echo "make test: all checks passed"

fmt: ## formatting
	$(CARGO) fmt --all --check

lint: ## clippy, warnings are errors
	$(CARGO) clippy $(LOCAL) --all-targets --locked -- -D warnings

doc: ## the crates' documentation builds without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(LOCAL) --no-deps --locked --quiet

unit: ## unit tests
	$(CARGO) test $(LOCAL) --lib --bins --locked

simulation: ## histories of the whole gateway in a model of AWS, with faults at every call, in short; what protects destinations; and properties of every preset
	$(CARGO) test $(LOCAL) --test simulation --test crowd --test crowds --test protection --test quarantine --test batches --test captured --test front_door --test encoded --test strangers --test agreement --test properties --test reading --test allocation --locked

faults: ## the same in long: a hundred thousand histories and every pair of faults; HISTORIES=, SEED=, REPLAY=, WRONG=
	@echo "building for speed (the first time this takes some minutes)"
	$(CARGO) build --profile faults --workspace --bin faults --locked
	target/faults/faults $(if $(REPLAY),--replay $(REPLAY),--histories $(or $(HISTORIES),100000) --seed $(or $(SEED),0)) \
		$(if $(WRONG),--wrong $(WRONG))

crowds: ## crowds at random in long: many destinations of every temper, while calls go wrong; CROWDS=, CROWDS_FROM=, CROWD=seed to see one
	@echo "building for speed (the first time this takes some minutes)"
	CROWDS=$(or $(CROWDS),10000) CROWDS_FROM=$(or $(CROWDS_FROM),0) $(if $(CROWD),CROWD=$(CROWD)) \
		$(CARGO) test --profile faults --workspace --test crowds --locked -- --nocapture no_crowd

agreement: ## a million generated requests, of which command line and receiver must say the same; CASES=, SEED=
	@echo "building for speed (the first time this takes some minutes)"
	AGREEMENT_CASES=$(or $(CASES),1000000) AGREEMENT_SEED=$(or $(SEED),0) \
		$(CARGO) test --profile faults --workspace --test agreement --locked -- --nocapture

fuzz: .tools/bin/cargo-fuzz ## fuzzes everything that strangers can write to, FUZZ_SECONDS=20 a target (docs/fuzzing.md)
	@$(PYTHON) fuzz/seeds.py
	@for target in $(FUZZ_TARGETS); do \
		.tools/bin/cargo-fuzz run --sanitizer none --fuzz-dir fuzz $$target -- \
			-max_total_time=$(FUZZ_SECONDS) -dict=fuzz/words.dict -print_final_stats=1 -verbosity=0 || exit 1; done

journeys: build-local ## contracts of the model and journeys through a deployed local stack, then overload, a short chaos and the demo on it; FIFO queues on one of their own
	@$(DEMO) down --name test
	@$(DEMO) up $(TEST_STACK)
	$(CARGO) test $(LOCAL) --test contracts --locked
	$(CARGO) test $(LOCAL) --test journeys --locked -- --test-threads=16 --skip overload:: --skip fifo::
	@$(DEMO) up $(TEST_STACK) $(OVERLOAD)
	$(CARGO) test $(LOCAL) --test journeys --locked -- --test-threads=1 overload::
	@$(DEMO) up $(TEST_STACK)
	target/local/chaos --stack test --webhooks 200 --quick
	target/local/demo --stack test
	@$(DEMO) down --name test
	@$(DEMO) up $(FIFO_STACK)
	POSTHOUSE_STACK=fifo $(CARGO) test $(LOCAL) --test journeys --locked -- fifo::
	@$(DEMO) down --name fifo

chaos: build-local ## 10,000 webhooks while AWS calls fail, functions are killed and destinations come and go (docs/chaos.md); CHAOS_WEBHOOKS=, SEED=
	@$(DEMO) down --name test
	@$(DEMO) up $(TEST_STACK)
	target/local/chaos --stack test --webhooks $(or $(CHAOS_WEBHOOKS),10000) --seed $(or $(SEED),0)
	@$(DEMO) down --name test

infra: .venv/installed ## tests of the template, the documentation and the local AWS
	.venv/bin/python -m pytest -q infra/tests infra/local/tests

template: .venv/installed .venv-sam/installed ## lint of the template
	.venv/bin/cfn-lint infra/template.yaml
	.venv-sam/bin/sam validate --lint --template infra/template.yaml --region us-east-1

licences: .tools/bin/cargo-deny ## licences, sources and banned crates
	.tools/bin/cargo-deny --locked check licenses bans sources

advisories: .tools/bin/cargo-deny ## known vulnerabilities (RustSec); left out, loudly, where the database cannot be fetched
	@if .tools/bin/cargo-deny fetch db >/dev/null 2>&1; then .tools/bin/cargo-deny --locked check --disable-fetch advisories; \
		else echo "make advisories: NOT CHECKED, the RustSec database cannot be fetched from here" >&2; fi

bench: build-local ## AWS calls and billed units per webhook, counted on the wire
	@$(DEMO) up $(TEST_STACK)
	target/local/bench --stack test
	@$(DEMO) down --name test
	@echo "building for speed, to time verification (the first time this takes some minutes)"
	$(CARGO) build --profile faults --workspace --bin bench --locked
	target/faults/bench --verification

build: ## the functions for AWS (arm64), with cargo-lambda
	cargo lambda build --release --arm64 --workspace --exclude tests --exclude posthouse

build-local: .venv/installed ## functions and test programs for the local stack
	@echo "building for the local stack (the first time this takes some minutes)"
	$(CARGO) build $(LOCAL) --bins --locked

clean: down ## remove what was built and installed here
	rm -rf target .venv .venv-sam .tools .local

.venv/installed: infra/local/requirements.txt
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "the local stack needs Python 3.11 or newer with its venv module; name another one with make PYTHON=..." >&2; exit 1; }
	@command -v $(CARGO) >/dev/null || { echo "cargo is not installed: get Rust from https://rustup.rs" >&2; exit 1; }
	@echo "installing the local AWS into .venv"
	@$(PYTHON) -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.venv-sam/installed: infra/local/requirements-sam.txt
	@echo "installing the SAM command line into .venv-sam"
	@$(PYTHON) -m venv .venv-sam && .venv-sam/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.tools/bin/cargo-fuzz:
	@echo "installing cargo-fuzz $(CARGO_FUZZ_VERSION) into .tools"
	CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		$(CARGO) install --quiet --locked --root .tools --version $(CARGO_FUZZ_VERSION) cargo-fuzz

# Not optimised: it runs for a second, and is compiled for minutes otherwise.
.tools/bin/cargo-deny:
	@echo "installing cargo-deny $(CARGO_DENY_VERSION) into .tools (this takes some minutes)"
	CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		$(CARGO) install --quiet --locked --root .tools --version $(CARGO_DENY_VERSION) cargo-deny

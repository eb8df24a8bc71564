# Everything is built once, in release, in one folder: `make demo` and `make test` share it.
# ZOETROPE_SCRATCH names another build folder (CI keeps one between runs).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SCRATCH := $(or $(ZOETROPE_SCRATCH),.build)
SWIFT_FLAGS := -c release --scratch-path $(SCRATCH)
BIN := $(SCRATCH)/release
PROMPT ?= the sun rising over green hills
SOURCES := Package.swift Services Shared Tests

# Settings of a developer's shell that would narrow the package or slow the arithmetic.
unexport ZOETROPE_TARGETS
unexport OPENBLAS_CORETYPE
unexport OPENBLAS_L2_SIZE

.PHONY: help setup build build-tests demo test sim mutants sanitize fuzz chaos reliability-numbers soak bench bench-bus kernel-guard format lint proto proto-check compose-check clean

help: ## this list
	@echo "Zoetrope: text to video, one service a stage. Verbs:"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: ## install the Debian packages that are missing
	@compose/setup.sh

build: setup ## build every executable (release)
	@echo "build: executables, release, into $(BIN) (the first time takes some minutes)"
	@swift build $(SWIFT_FLAGS)

demo: build ## make out.mp4 of PROMPT="the sun rising over green hills"
	@echo 'demo: zoetrope generate "$(PROMPT)"'
	@$(BIN)/zoetrope generate "$(PROMPT)"

build-tests: setup
	@echo "build: executables and tests, release, into $(BIN) (the first time takes some minutes)"
	@swift build $(SWIFT_FLAGS) --build-tests

test: build-tests ## architecture, unit and end-to-end tests
	@Tests/run.sh $(SCRATCH)

SEEDS ?= 100000
FIRST_SEED ?= 1

sim: setup ## run SEEDS=100000 simulated worlds from FIRST_SEED=1 on; TRACE=1 prints all that happens
	@ZOETROPE_TARGETS=SimulatorMain swift build -c release --scratch-path $(SCRATCH)-simulator --product zoetrope-simulator
	@nice -n 10 $(SCRATCH)-simulator/release/zoetrope-simulator --seeds $(SEEDS) --first-seed $(FIRST_SEED) $(if $(TRACE),--trace)

mutants: setup ## switch off one rule at a time; a test must notice. MUTANTS="fence watchdog" chooses, UPDATE_DOCS=1 writes the table
	@nice -n 10 Tests/mutants.py --scratch $(SCRATCH)-mutants $(if $(UPDATE_DOCS),--update-docs) $(MUTANTS)

sanitize: setup ## test the lower layers with ThreadSanitizer and AddressSanitizer; LAYERS="BusTests" chooses
	@Tests/sanitize.sh $(LAYERS)

fuzz: setup ## feed hostile input under libFuzzer; SECONDS=60 for each target, TARGETS="envelope body" chooses
	@FUZZ_TARGETS="$(TARGETS)" Tests/fuzz.sh $(or $(SECONDS),60)

chaos: build ## kill, freeze, cut off, fill and flood a cluster of real processes; ROWS="1 8 20" chooses, KEYS=1 encrypts
	@Tests/Chaos/chaos.py --bin $(BIN) --only "$(ROWS)" $(if $(KEYS),--keys) $(if $(UPDATE_DOCS),--update-docs)

reliability-numbers: build ## how long faults take, what 10,000 queued jobs cost; ONLY="disk resume restart queue" chooses
	@Tests/Chaos/numbers.py --bin $(BIN) --only "$(ONLY)" $(if $(UPDATE_DOCS),--update-docs)

soak: build ## random faults under load; MINUTES=60, PLOT=FILE.svg
	@Tests/Chaos/soak.py --bin $(BIN) --minutes $(or $(MINUTES),60) --plot $(or $(PLOT),soak.svg)

bench: build ## measure kernels and networks; BENCH_PEER=PYTHON runs torch and diffusers in turn
	@$(BIN)/zoetrope-bench $(if $(BENCH_PEER),--peer $(BENCH_PEER)) $(if $(BENCH_ONLY),--only "$(BENCH_ONLY)") $(BENCH_FLAGS)

bench-bus: build ## measure the data plane beside bare ZeroMQ, control round trips and ledger commits
	@$(BIN)/zoetrope-bus-bench $(BENCH_FLAGS)

kernel-guard: build ## count the kernels' instructions; GUARD_UPDATE=1 writes the table anew
	@Tests/kernel-guard.sh $(if $(GUARD_UPDATE),--update) $(SCRATCH) || [ $$? -eq 3 ]

format: ## format the Swift sources in place
	@swift format format --in-place --parallel --recursive $(SOURCES)

lint: ## check the Swift sources' format
	@echo "lint: swift format lint --strict"
	@swift format lint --strict --parallel --recursive $(SOURCES)

proto: ## regenerate Shared/CWire from its .proto files
	@Shared/CWire/generate.sh

proto-check: ## fail when the committed protoc-c output is stale
	@Tests/proto-check.sh

compose-check: ## validate compose/compose.yaml with docker-compose
	@compose/check.sh

clean: ## remove the build folder and the demo's output
	@rm -rf -- "$(SCRATCH)" out.mp4 out.png

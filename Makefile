# Every job of this project, one line of help each: `make` lists them. CI calls the same ones (.ci/run).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
# Options for `turnout serve`, such as SERVE_ARGS="--port 9000".
SERVE_ARGS ?=
# Options for scripts/setup.py, such as SETUP_ARGS="--only gateway".
SETUP_ARGS ?=
# Options for pytest, such as PYTEST_ARGS="-k routes".
PYTEST_ARGS ?=
BOUNDED := timeout --foreground --signal=INT --kill-after=60

# Nothing here reports usage, and nothing but `base` and `serve` with a hub's model id asks a model hub.
export HF_HUB_DISABLE_TELEMETRY ?= 1
export DO_NOT_TRACK ?= 1
export VLLM_NO_USAGE_STATS ?= 1
export TOKENIZERS_PARALLELISM ?= false

check test examples: export HF_HUB_OFFLINE ?= 1
# Compiled files are kept, whatever the environment says: without them each of the tests' hundreds of processes
# compiles the gateway again, and each run of pytest every test.
check test: export PYTHONDONTWRITEBYTECODE =

.PHONY: help setup base serve test check format lock audit dashboards examples clean bench-overhead bench-stream bench-versions \
	swap-storm chaos bench-attestation bench-affinity batch-noise bench-experiments bench-looks bench-training bench-fairness \
	bench-retention bench-changes bench-drift tune-drift bench-gate bench-steps demo-loop

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 16

setup:  ## make .venv and install what is missing (at once when nothing is)
	@$(PYTHON) scripts/setup.py $(SETUP_ARGS)

base: setup  ## prepare the default base model (once, under the user's cache folder)
	@$(BIN)/python -m adapters.prepare_base

# `exec`, so that Ctrl-C reaches turnout and nothing stands between it and the terminal.
serve: base  ## start engine, controller and gateway on 127.0.0.1:8080; Ctrl-C stops them
	@exec $(BIN)/turnout serve $(SERVE_ARGS)

check: setup  ## format, lint, types, import contracts and the fast tests (a minute and a half on two cores)
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -n auto -m "not engine and not slow" --ignore=tests/e2e $(PYTEST_ARGS)

# The limits end tests that hang with an interrupt, after which pytest still stops what they started. The slow tests
# wait much, for processes that start and stop: two at a time, with a thread each, take less than half the time.
test: base check  ## everything: set-up, checks, tests, and end-to-end tests on the real engine
	@OMP_NUM_THREADS=1 $(BOUNDED) 3600 $(BIN)/pytest -n 2 --dist loadfile -m "slow and not engine" $(PYTEST_ARGS)
	@$(BOUNDED) 2700 $(BIN)/pytest -m engine $(PYTEST_ARGS)
	@(export PATH="$(CURDIR)/$(BIN):$$PATH"; command -v promtool && command -v prometheus) >/dev/null || \
		echo "NOT TESTED: the Prometheus rules and the dashboards' queries (prometheus and promtool are not here)"
	@$(BIN)/python -c "from tests.postgresql import programs; programs()" 2>/dev/null || \
		echo "NOT TESTED: PostgreSQL, and machines that share it (its server is not here)"

format: setup  ## format the code and mend what the linter can
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

lock: setup  ## resolve requirements/*.txt from pyproject.toml again (LOCK_ARGS=--upgrade for newer versions)
	@$(BIN)/python scripts/lock.py $(LOCK_ARGS)

audit: setup  ## ask PyPI's advisories about every locked package (needs the network)
	@$(BIN)/python scripts/audit.py $(AUDIT_ARGS)

dashboards: setup  ## write the Grafana dashboards and the rules of the promises again, from monitoring/
	@$(BIN)/python -m monitoring.grafana
	@$(BIN)/python -m monitoring.prometheus

examples: base  ## train the example adapters of adapters/library again from nothing (long)
	@$(BIN)/python -m training.examples $(EXAMPLES_ARGS)

clean:  ## remove caches and builds; .venv, .turnout and prepared models stay
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Options for benchmarks, such as BENCH_ARGS="--quick" or BENCH_ARGS="--systems direct turnout".
BENCH_ARGS ?=

bench-overhead: setup  ## CPU, latency and memory beside nginx, vllm-router, sglang-router and LiteLLM (10 minutes)
	@$(BIN)/python -m loadtests.overhead.run $(BENCH_ARGS)

bench-attestation: base  ## 1,000 honest proofs and every fault on the real engine, NF4 and bf16 (30 minutes)
	@$(BIN)/python -m loadtests.attestation.run $(BENCH_ARGS)

bench-versions: setup  ## starts, tables and names with 10,000 registered versions beside ten (3 minutes)
	@$(BIN)/python -m loadtests.fleet.versions $(BENCH_ARGS)

bench-steps: base  ## what the engine's plugin saves of a step on a CPU (7 minutes)
	@$(BIN)/python -m loadtests.steps.run $(BENCH_ARGS)

batch-noise: base  ## how far answers of swap-storm's adapters depend on what shares the engine's batch (5 minutes)
	@$(BIN)/python -m loadtests.swaps.batch_noise

bench-affinity: base  ## placement beside round robin, least-loaded and a hash, on two engines and simulated (an hour)
	@$(BIN)/python -m loadtests.affinity.run $(BENCH_ARGS)

bench-experiments: setup  ## the statistics of experiments, simulated: errors, coverage, power (15 minutes)
	@$(BIN)/python -m loadtests.experiments.run $(BENCH_ARGS)

bench-looks: setup  ## what a look at an experiment costs the controller: seconds and memory (3 minutes)
	@$(BIN)/python -m loadtests.experiments.looks $(BENCH_ARGS)

bench-fairness: setup  ## what one tenant's burst does to another one's p95, two workers, a fake engine (12 minutes)
	@$(BIN)/python -m loadtests.fairness.run $(BENCH_ARGS)

bench-retention: setup  ## old rows removed from 10,000,000 while a gateway serves, SQLite and PostgreSQL (20 minutes)
	@$(BIN)/python -m loadtests.retention.run $(BENCH_ARGS)

bench-changes: setup  ## how soon a change at one of three machines is in effect on all, PostgreSQL (4 minutes)
	@$(BIN)/python -m loadtests.fleet.changes $(BENCH_ARGS)

bench-drift: export HF_HUB_OFFLINE ?= 1
bench-drift: setup  ## the drift detector: false alarms over years, delays, beside Evidently's methods (25 minutes)
	@$(BIN)/python -m loadtests.drift.run $(BENCH_ARGS)

tune-drift: export HF_HUB_OFFLINE ?= 1
tune-drift: setup  ## what the drift detector's settings cost and bring, on seeds of their own (10 minutes)
	@$(BIN)/python -m loadtests.drift.tuning $(BENCH_ARGS)

bench-training: export HF_HUB_OFFLINE ?= 1
bench-training: base  ## supervised training beside TRL's, mixed and equal lengths, three seeds (20 minutes)
	@$(BIN)/python -m loadtests.training.run $(BENCH_ARGS)

bench-gate: setup  ## how often the gate of a retrained version errs, simulated (3 minutes)
	@$(BIN)/python -m loadtests.gate.run $(BENCH_ARGS)

demo-loop: export HF_HUB_OFFLINE ?= 1
demo-loop: base  ## drift, training, gate, canary on the real engine; then with poisoned feedback (1 to 3 hours)
	@$(BIN)/python -m loadtests.demo.run $(BENCH_ARGS)

bench-stream: setup  ## 500 streams at 20 ms a token for a minute: lost ones, added gaps, memory (3 minutes)
	@$(BIN)/python -m loadtests.overhead.stream $(BENCH_ARGS)

swap-storm: export HF_HUB_OFFLINE ?= 1
swap-storm: base  ## swap versions under load, 1,000 times on the fake engine and 200 on the real one (25 minutes)
	@$(BIN)/python -m loadtests.swaps.run $(BENCH_ARGS)

chaos: export HF_HUB_OFFLINE ?= 1
chaos: base  ## kill, freeze, cut off and fill up what can be, under traffic, on both engines (15 minutes)
	@$(BIN)/python -m loadtests.chaos.run $(BENCH_ARGS)

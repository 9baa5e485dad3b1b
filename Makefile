# Two commands do everything: `make run` and `make test`. Both install what is missing (Debian packages by apt) and are
# quick when nothing is. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
HOST_CRATES := --workspace
# The binary as the end-to-end tests build it: a plain build has other features and would compile most crates again.
BUILD_BINARY := cargo test $(HOST_CRATES) --no-run --locked --quiet
# The compiler, the C compiler that zstd needs, and a way to build wasm where rustup has no such target.
BUILD_PACKAGES := gcc libc6-dev make
WASM_PACKAGES := rustc-web cargo-web rust-web-src lld-22
# Real parts that the tests speak with.
TEST_PACKAGES := chromium nodejs npm prometheus prometheus-node-exporter python3 python3-venv

.NOTPARALLEL:
.PHONY: help run build test check fmt bench ui unit real browser venv deps-build deps-test clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | column -t -s $$'\t'

run: build ## build everything, start server and agent on this host, print the URL when ready
	exec target/release/daybook up $(ARGS)

build: deps-build ui ## build the UI's bundle and the release binary
	cargo build --release --locked

test: deps-build deps-test ui venv ## everything that CI runs
	$(MAKE) --no-print-directory check
	$(MAKE) --no-print-directory unit
	$(MAKE) --no-print-directory real
	$(MAKE) --no-print-directory browser

check: ## formatting, and clippy with warnings as errors
	cargo fmt --all --check
	cargo clippy $(HOST_CRATES) --all-targets --locked -- -D warnings

fmt: ## format the sources
	cargo fmt --all

unit: ## unit, end-to-end and documentation tests
	@if cargo nextest --version >/dev/null 2>&1; then \
	  DAYBOOK_TEST_ALL=1 cargo nextest run $(HOST_CRATES) --locked; \
	else \
	  DAYBOOK_TEST_ALL=1 cargo test $(HOST_CRATES) --all-targets --no-fail-fast --locked; \
	fi
	cargo test $(HOST_CRATES) --doc --locked

real: venv ## tests with real senders and clients: OpenTelemetry SDK, Prometheus, promtool, rotel, PromQL scripts, log files
	$(BUILD_BINARY)
	$(VENV)/bin/python -m pytest tests/real

browser: venv ## one journey through the UI in headless Chromium
	$(BUILD_BINARY)
	cd tests/browser && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund; }
	$(VENV)/bin/python tests/real/browser.py

bench: build ## measure what docs/benchmarks.md claims; wants a quiet machine and half an hour
	tests/bench/measure.py sizes
	tests/bench/measure.py ready
	tests/bench/measure.py agent
	tests/bench/measure.py metrics
	tests/bench/measure.py logs

ui: ## build the web UI's bundle, which the binary embeds
	cargo xtask ui

venv: $(VENV)/.installed

$(VENV)/.installed: tests/real/requirements.txt
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/real/requirements.txt
	touch $@

deps-build:
	@command -v cargo >/dev/null || { echo 'the Rust toolchain is missing: https://rustup.rs' >&2; exit 1; }
	@if [ -d "$$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)" ]; then \
	  tests/install-packages $(BUILD_PACKAGES); \
	else \
	  tests/install-packages $(BUILD_PACKAGES) $(WASM_PACKAGES); \
	fi

deps-test:
	@tests/install-packages $(TEST_PACKAGES)

clean: ## remove what was built; the data directory stays
	cargo clean
	rm -rf target-wasm ui/dist $(VENV) tests/browser/node_modules

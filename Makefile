# Everything that can be done here; "make help" lists it.
SHELL := /bin/bash
BIN := $(CURDIR)/.bin
GOLANGCI_LINT_VERSION := v2.15.0
LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
FUZZ_TIME ?= 20s
BENCH_TIME ?= 1s
BENCH_BINDINGS ?= 100000
BENCH_RATE ?= 1000
BENCH_MEMORY ?= 512m
BENCH_ROUNDS ?= 11
SOAK_TIME ?= 20m
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

.PHONY: help setup run test race test-heavy acceptance bench bench-scale bench-policies setup-peers bench-peers lint fuzz build bench-overload bench-size soak

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(LINT) ## install what the tests need: redis-server, postgresql, curl, jq, openssl (Debian), golangci-lint (into .bin)
	@if ! { command -v redis-server && command -v curl && command -v jq && command -v openssl && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1; then \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends redis-server postgresql curl jq openssl; \
	fi

$(LINT):
	@mkdir -p $(BIN)
	GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv $(BIN)/golangci-lint $@

run: ## the playground: a Cloud Foundry on this machine with the gateway in its middle
	@mkdir -p $(BIN)
	@echo "Building mtls-authz ..."
	@go build -o $(BIN)/mtls-authz ./cmd/mtls-authz
	@exec $(BIN)/mtls-authz playground

test: setup lint ## lint, unit tests, policy tests, acceptance
	go test $$(go list ./... | grep -v '/acceptance$$')
	$(MAKE) acceptance

race: setup ## the same tests with the race detector, in tests and binary; before each merge
	go test -race $$(go list ./... | grep -v '/acceptance$$')
	MTLS_AUTHZ_RACE=1 $(MAKE) acceptance

acceptance: ## the built binary from outside; GOROUTER_BIN=path runs it against a real gorouter
	go test -count=1 -timeout 8m ./acceptance

test-heavy: setup setup-peers ## what takes too long for every change: fuzzing, 1 GiB streams, repetition
	MTLS_AUTHZ_RACE=1 MTLS_AUTHZ_HEAVY=1 go test -count=1 -timeout 60m ./acceptance
	MTLS_AUTHZ_HEAVY=1 go test -race -timeout 60m -count=3 $$(go list ./... | grep -v '/acceptance$$')
	$(MAKE) fuzz FUZZ_TIME=60s

bench: ## speed and allocations; the throughput is a ratio to a bare proxy in the same run
	@mkdir -p $(BIN)
	@go test -run '^$$' -bench . -benchmem -benchtime $(BENCH_TIME) ./identity ./grants ./rego ./rego/reads ./cache ./store ./gateway ./gateway/assertion | tee $(BIN)/bench.txt | grep -E '^(Benchmark|pkg|cpu)'
	@awk '/BenchmarkThroughput\/bare/{for(i=1;i<=NF;i++)if($$i=="requests/s")b=$$(i-1)} /BenchmarkThroughput\/gateway/{for(i=1;i<=NF;i++)if($$i=="requests/s")g=$$(i-1)} END{if(b>0)printf "throughput of the gateway / bare ReverseProxy: %.2f\n", g/b}' $(BIN)/bench.txt

bench-scale: ## start, memory and times with BENCH_BINDINGS (100000) bindings of 10 grants each, by guid and by name, on both databases
	@MTLS_AUTHZ_SCALE=$(BENCH_BINDINGS) go test -count=1 -timeout 15m -run '^TestScale' -v ./store | grep -E '^(\||---|FAIL|ok| )'

bench-policies: ## what swapping the policy costs under BENCH_RATE (1000) requests a second, and what a candidate policy costs
	@mkdir -p $(BIN)
	@go build -o $(BIN)/mtls-authz ./cmd/mtls-authz
	@MTLS_AUTHZ_BIN=$(BIN)/mtls-authz MTLS_AUTHZ_FIGURES=1 BENCH_RATE=$(BENCH_RATE) go test -count=1 -timeout 10m -run '^TestFiguresOf' -v ./acceptance | grep -vE '^===|^    --- PASS'

setup-peers: $(BIN)/nginx $(BIN)/opa ## nginx (of Debian's package, which is not installed) and OPA (go.mod's version) into .bin

$(BIN)/nginx:
	@mkdir -p $(BIN)/nginx.deb
	apt-get update -q && cd $(BIN)/nginx.deb && apt-get download -q nginx && dpkg -x nginx_*.deb .
	@mv $(BIN)/nginx.deb/usr/sbin/nginx $@ && rm -r $(BIN)/nginx.deb
	@touch $@

$(BIN)/opa: go.mod
	GOBIN=$(BIN) go install github.com/open-policy-agent/opa@$$(go list -m -f '{{.Version}}' github.com/open-policy-agent/opa)
	@touch $@

bench-peers: setup-peers ## the gateway against a bare proxy and nginx with OPA, 4 minutes; BENCH_WRITE=1 writes docs/benchmarks.*
	@go run ./acceptance/peers -nginx $(BIN)/nginx -opa $(BIN)/opa -rounds $(BENCH_ROUNDS) $(if $(BENCH_WRITE),-docs docs)

bench-overload: ## goodput, shedding and the operator's part at 0.5, 1, 2 and 3 times what 64 places before an app of 50 ms can serve
	@mkdir -p $(BIN)
	@go build -o $(BIN)/mtls-authz ./cmd/mtls-authz
	@MTLS_AUTHZ_BIN=$(BIN)/mtls-authz MTLS_AUTHZ_FIGURES=1 go test -count=1 -timeout 10m -run '^TestOverloadInFigures$$' -v ./acceptance | grep -vE '^(===|---)'

bench-size: setup ## start, memory and processor time of an instance of BENCH_MEMORY (512m) with BENCH_BINDINGS (100000) bindings
	@mkdir -p $(BIN)
	@go build -o $(BIN)/mtls-authz ./cmd/mtls-authz
	@MTLS_AUTHZ_BIN=$(BIN)/mtls-authz MTLS_AUTHZ_FIGURES=1 BENCH_BINDINGS=$(BENCH_BINDINGS) BENCH_MEMORY=$(BENCH_MEMORY) go test -count=1 -timeout 15m -run '^TestSizeInFigures$$' -v ./acceptance | grep -E '^(\||[a-zA-Z]|$$)' | grep -vE '^(PASS|===)'

soak: ## SOAK_TIME (20m) at 70 % of capacity while certificates, policies, bindings, Redis and PostgreSQL change or go; each answer is checked
	@mkdir -p $(BIN)
	@go build -o $(BIN)/mtls-authz ./cmd/mtls-authz
	@MTLS_AUTHZ_BIN=$(BIN)/mtls-authz SOAK_TIME=$(SOAK_TIME) go test -count=1 -timeout 3h -run '^TestSoak$$' -v ./acceptance | grep -vE '^=== '

lint: $(LINT) ## golangci-lint with .golangci.yml
	$(LINT) run

fuzz: ## every fuzz target for FUZZ_TIME (20s)
	@set -e; for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ_TIME) $$package; \
		done; \
	done

build: ## the release binary for Cloud Foundry: dist/mtls-authz (linux, amd64, static)
	@mkdir -p dist
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/mtls-authz ./cmd/mtls-authz
	@ls -l dist/mtls-authz

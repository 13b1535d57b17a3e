# make help lists the targets.

SHELL := /bin/bash
# sudo and cron forget where Go is.
export PATH := $(PATH):/usr/local/go/bin
GO ?= go
PREFIX ?= /usr/local
DESTDIR ?=
GOLANGCI_LINT ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 10s

.PHONY: help build demo demo-lab test bench bench-impair fuzz lint generate install uninstall clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/alptrace, bin/alplab and bin/rootd, static binaries
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -o bin/ ./cmd/alptrace ./cmd/alplab ./cmd/rootd

demo: ## real programs on the user-space stack, and the packets they sent
	@scripts/demo.sh

demo-lab: ## a network of real programs, its live page and its pictures; the same in virtual time
	@scripts/demo-lab.sh

test: ## everything: installs what is needed, then checks, unit tests, transcripts, programs
	@scripts/test.sh $(SUITES)

bench: build ## ratios to the kernel's own stack, and of one TCP to the other: tables, out/bench.svg, out/host/bench.svg (as root)
	@$(GO) run ./bench $(BENCHFLAGS)
	@$(GO) run ./bench -link host -out out/host $(BENCHFLAGS)
	@$(GO) run ./bench -against "--tcp gvisor" -flags "--tcp alp" -out out/tcp $(BENCHFLAGS)

bench-impair: ## impairments: asked against achieved
	@$(GO) run ./bench/impair $(BENCHFLAGS)

fuzz: ## every fuzz target for FUZZTIME
	@scripts/fuzz.sh $(FUZZTIME)

lint: ## golangci-lint
	$(GO) run $(GOLANGCI_LINT) run ./...

generate: ## the seccomp filters and the eBPF programs again
	@scripts/deps.sh gcc libc6-dev libseccomp-dev pkg-config clang llvm
	CGO_ENABLED=1 $(GO) generate -tags libseccomp ./...

install: build ## into PREFIX, with the man pages and rootd's systemd units
	install -D -m 755 bin/alptrace $(DESTDIR)$(PREFIX)/bin/alptrace
	install -D -m 755 bin/alplab $(DESTDIR)$(PREFIX)/bin/alplab
	install -D -m 755 bin/rootd $(DESTDIR)$(PREFIX)/sbin/rootd
	install -D -m 644 man/alptrace.1 $(DESTDIR)$(PREFIX)/share/man/man1/alptrace.1
	install -D -m 644 man/alplab.1 $(DESTDIR)$(PREFIX)/share/man/man1/alplab.1
	install -D -m 644 man/rootd.8 $(DESTDIR)$(PREFIX)/share/man/man8/rootd.8
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for u in dist/systemd/*; do sed 's,/usr/local/sbin,$(PREFIX)/sbin,' $$u >$(DESTDIR)$(PREFIX)/lib/systemd/system/$${u##*/}; done

uninstall: ## out of PREFIX
	rm -f $(DESTDIR)$(PREFIX)/bin/alptrace $(DESTDIR)$(PREFIX)/bin/alplab $(DESTDIR)$(PREFIX)/share/man/man1/alptrace.1 $(DESTDIR)$(PREFIX)/share/man/man1/alplab.1 \
		$(DESTDIR)$(PREFIX)/sbin/rootd $(DESTDIR)$(PREFIX)/share/man/man8/rootd.8
	for u in dist/systemd/*; do rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/$${u##*/}; done

clean: ## what was built
	rm -rf bin out

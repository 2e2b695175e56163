# SPDX-License-Identifier: Apache-2.0

# Everything a person or CI does with this tree. Builds run as you; what touches
# the kernel (the lab, privileged tests) runs as root, through sudo if you are
# not root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# One thing at a time: tests share the machine, and Go uses all cores by itself.
.NOTPARALLEL:
# Administrators' commands (ip, nft) are not on every user's path.
export PATH := $(PATH):/usr/sbin:/sbin

# An absolute path, since the path that sudo sets hides Go.
GO := $(or $(shell command -v go),/usr/local/go/bin/go)
export CGO_ENABLED ?= 0

# SUDO stands before a command, TEST_EXEC is how go test starts a test binary:
# go itself always runs as you, so that its caches stay yours.
ifeq ($(shell id -u),0)
SUDO :=
TEST_EXEC :=
else
SUDO := sudo -E env "PATH=$$PATH"
TEST_EXEC := -exec 'sudo -E env PATH=$(dir $(GO)):$(PATH)'
endif

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS = -s -w -X github.com/waggle-net/waggle/internal/version.Version=$(VERSION)

# What Kubernetes calls itself: the release in go.mod, and not v0.0.0-master. The
# date is that of the commit, so that the same tree builds the same program.
KUBERNETES = $(shell awk '$$1 == "k8s.io/kubernetes" { print $$2 }' go.mod)
KUBE_DATE = $(shell git log -1 --format=%cI 2>/dev/null || echo 1970-01-01T00:00:00Z)
KUBE_STAMPS = gitVersion=$(KUBERNETES) gitMajor=1 gitMinor=$(word 2,$(subst ., ,$(KUBERNETES))) \
	gitTreeState=clean gitCommit=waggle-$(VERSION) buildDate=$(KUBE_DATE)
KUBE_LDFLAGS = $(LDFLAGS) $(foreach stamp,$(KUBE_STAMPS),\
	-X k8s.io/component-base/version.$(stamp) -X k8s.io/client-go/pkg/version.$(stamp))
CONTAINERD = $(shell awk '$$1 == "github.com/containerd/containerd/v2" { print $$2 } $$2 == "github.com/containerd/containerd/v2" { print $$3 }' third_party/containerd/go.mod | head -1)
CONTAINERD_LDFLAGS = -s -w -X github.com/containerd/containerd/v2/version.Version=$(CONTAINERD)

# Run with tools/go.mod: what linters and generators need stays out of ours.
TOOL := $(GO) tool -modfile=tools/go.mod

C_FILES = $(shell git ls-files --cached --others --exclude-standard -- 'bpf/*.c' 'bpf/*.h' 'controlplane/image/pause/*.c')
SCRIPTS = .ci/run $(shell git ls-files --cached --others --exclude-standard -- '*.sh')
GENERATED := '*_bpfel.go' '*_bpfel.o' 'controlplane/image/pause/pause_*'

# The packages that hold a file behind the build tag: the others have been tested
# without root.
PRIVILEGED = $(shell grep -rlE --include='*_test.go' --exclude-dir=third_party --exclude-dir=tools '^//go:build .*\bprivileged\b' . | xargs -r dirname | sort -u)

# Passed on: `make test TESTFLAGS=-v`, `make fuzz FUZZTIME=1m`, `make shell HOST=tor`.
TESTFLAGS ?=
BENCH ?= .
COUNT ?= 1
FUZZTIME ?= 10s
HOST ?= node1

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z-]*:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Try it

# Passed on: `make up UPFLAGS=--proxy` (bin/waggle-lab cluster --help lists them).
UPFLAGS ?=

.PHONY: up
up: deps-run need-root build-waggle build-kube build-demo ## start Kubernetes on one node in the lab, with a guestbook that answers here
	$(SUDO) bin/waggle-lab cluster $(UPFLAGS)

.PHONY: lab
lab: deps-run need-root build-waggle ## start the lab without Kubernetes: two nodes with pods that talk to each other
	$(SUDO) bin/waggle-lab demo

.PHONY: down
down: need-root bin/waggle-lab ## remove the lab, of either kind, and whatever it left
	$(SUDO) bin/waggle-lab down

.PHONY: shell
shell: need-root bin/waggle-lab ## open a shell on a host of the lab (HOST=node1)
	$(SUDO) bin/waggle-lab shell $(HOST)

##@ Build

.PHONY: build
build: build-waggle build-kube ## build all programs into bin/

.PHONY: build-waggle
build-waggle: ## build bin/waggled, bin/waggle-cni, bin/waggle and bin/waggle-lab
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/waggled ./cmd/waggle-cni ./cmd/waggle
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/waggle-lab ./test/lab/cmd/lab

# Kubernetes takes minutes to compile. Without -trimpath, what it is made of is
# compiled once, for the program and for the tests.
.PHONY: build-kube
build-kube: ## build bin/waggle-kube and what it runs: Kubernetes, containerd
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/waggle-kube
	$(GO) build -ldflags '$(KUBE_LDFLAGS)' -o bin/ ./cmd/waggle-kubernetes
	$(GO) -C third_party/containerd build -trimpath -ldflags '$(CONTAINERD_LDFLAGS)' -o $(CURDIR)/bin/ ./cmd/...

.PHONY: build-demo
build-demo: deps-run ## build the images of the guestbook into bin/images/
	PATH="$(dir $(GO)):$$PATH" $(GO) run ./deploy/demo/cmd/build -o bin/images

bin/waggle-lab:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./test/lab/cmd/lab

.PHONY: generate
generate: deps-generate ## compile the eBPF programs, write their Go side, and compile pause
	$(GO) generate ./bpf/... ./controlplane/image/...

.PHONY: generate-check
generate-check: generate ## fail if what is generated differs from what is committed
	@new=$$(git ls-files --others --exclude-standard -- $(GENERATED)); \
	if ! git diff --exit-code --stat -- $(GENERATED) || [[ -n "$$new" ]]; then \
		if [[ -n "$$new" ]]; then printf 'not committed: %s\n' $$new; fi; \
		echo 'generate-check: generated files are stale. To repair: make generate && git add bpf controlplane/image'; \
		exit 1; \
	fi

##@ Test

.PHONY: test
test: test-unit test-privileged ## run all tests: first those that need no root, then the others

.PHONY: test-unit
test-unit: deps-test ## run the tests that need no root
	$(GO) test $(TESTFLAGS) ./...
	$(GO) -C third_party/containerd test $(TESTFLAGS) ./...

# One package at a time, for they share the machine; never from the cache, for
# what they test is the kernel as much as the code.
.PHONY: test-privileged
test-privileged: deps-run deps-test need-root build ## run the tests that need root: maps, programs, lab
	@uname -r
	@[[ -n "$(PRIVILEGED)" ]] || { echo 'test-privileged: no package has a test with "//go:build privileged"'; exit 1; }
	$(GO) test -tags privileged -p 1 -count=1 -timeout 30m $(TEST_EXEC) $(TESTFLAGS) $(PRIVILEGED)

.PHONY: bench
bench: deps-run need-root build ## run the benchmarks, also those that need root (BENCH=., COUNT=1) into bin/bench.txt
	$(GO) test -tags privileged -p 1 -run '^$$' -bench '$(BENCH)' -benchmem -timeout 1h -count=$(COUNT) $(TEST_EXEC) ./... | tee bin/bench.txt

.PHONY: bench-compare
bench-compare: ## compare bin/bench.txt with an earlier one (OLD=file)
	$(TOOL) benchstat $(OLD) bin/bench.txt

.PHONY: fuzz
fuzz: ## run each fuzz test for a while (FUZZTIME=10s)
	@GO='$(GO)' tools/fuzz.sh $(FUZZTIME)

##@ Keep it tidy

.PHONY: lint
lint: deps-lint ## check Go, C and shell for mistakes and style
	$(GO) vet -tags privileged,guest ./...
	$(GO) -C third_party/containerd vet ./...
	$(TOOL) golangci-lint run ./...
	clang-format-16 --dry-run --Werror $(C_FILES)
	shellcheck --external-sources $(SCRIPTS)

.PHONY: fmt
fmt: deps-lint ## format Go and C
	$(TOOL) golangci-lint fmt ./...
	clang-format-16 -i $(C_FILES)

.PHONY: deps
deps: ## install the packages that building and testing need (Debian, Ubuntu)
	@tools/deps.sh run test generate lint

# The same by purpose, so that `make up` asks for no compiler.
deps-%:
	@tools/deps.sh $*

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

.PHONY: need-root
need-root:
	@[[ $$(id -u) == 0 ]] || command -v sudo >/dev/null || \
		{ echo 'this needs root (eBPF, network namespaces): run make as root, or install sudo' >&2; exit 1; }

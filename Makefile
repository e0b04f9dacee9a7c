# GNU make. `make` alone lists the targets. They install what they miss on Debian and
# Ubuntu; elsewhere they say what to install.

GO            ?= go
NPM           ?= npm
DOCKER        ?= docker
FUZZTIME      ?= 30s
GOLANGCI_LINT ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
CYCLONEDX     ?= github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
GOVULNCHECK   ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0
ACTIONLINT    ?= github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

LINT = $(GO) run $(GOLANGCI_LINT) run --allow-serial-runners
# Most tests wait for a process or a timer, so that one core can run several.
PARALLEL = -p 4 -parallel 8

# Everything is built and tested with the release of Go that go.mod names, which comes as a
# module: that of the machine may be an older one, with known vulnerabilities in its library.
# Where it cannot be had, or GOTOOLCHAIN says otherwise, that one is taken.
ifeq ($(origin GOTOOLCHAIN),undefined)
TOOLCHAIN := $(shell awk '$$1 == "toolchain" { print $$2 }' go.mod)
ifneq ($(shell GOTOOLCHAIN=$(TOOLCHAIN) $(GO) version 2>/dev/null),)
export GOTOOLCHAIN := $(TOOLCHAIN)
endif
endif

# A source archive has no git history; it is built all the same.
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
COMMIT  ?= $(or $(shell git rev-parse HEAD 2>/dev/null),unknown)

# -buildvcs=false: version and commit come from the two lines above, so that a clone, an
# archive and the image build alike, and git's view of who owns the clone cannot fail one.
LDFLAGS  = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GO_BUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

PLATFORMS = linux-amd64 linux-arm64 darwin-amd64 darwin-arm64 windows-amd64

CHECKSUMS = cd dist && if command -v sha256sum >/dev/null; then sha256sum iamproxy*; else shasum -a 256 iamproxy*; fi >SHA256SUMS

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Build

# Phony, because go build knows better than make what is out of date.
.PHONY: build
build: ## compile bin/iamproxy
	$(GO_BUILD) -o bin/iamproxy ./cmd/iamproxy

.PHONY: release
release: $(PLATFORMS:%=release-%) ## compile for Linux, macOS and Windows into dist/
	$(GO) run ./tools/licenses -write dist/iamproxy.licenses.txt
	$(GO) run -ldflags '$(LDFLAGS)' ./cmd/iamproxy man >dist/iamproxy.1
	$(CHECKSUMS)

.PHONY: $(PLATFORMS:%=release-%)
$(PLATFORMS:%=release-%): release-%: release-clean
	GOOS=$(word 1,$(subst -, ,$*)) GOARCH=$(word 2,$(subst -, ,$*)) \
		$(GO_BUILD) -o dist/iamproxy-$*$(if $(filter windows-%,$*),.exe) ./cmd/iamproxy

# The checksums are of everything in dist/, so nothing old may be in it.
.PHONY: release-clean
release-clean:
	rm -rf dist

# What a binary was made of, read from the binary, and the whole module with its licenses.
# Without serial numbers and times, so that they can be made again, too; and -trimpath, since
# the tool puts its own checksum in.
SBOM = CGO_ENABLED=0 $(GO) run -trimpath $(CYCLONEDX)

.PHONY: sbom
sbom: release ## compile into dist/, with a bill of materials (CycloneDX) of each binary
	$(SBOM) mod -json -licenses -std -noserial -notimestamp -output dist/iamproxy.cdx.json .
	for platform in $(PLATFORMS); do \
		file=dist/iamproxy-$$platform; case $$platform in windows-*) file=$$file.exe ;; esac; \
		$(SBOM) bin -json -std -noserial -notimestamp -version $(VERSION) -output $$file.cdx.json $$file || exit 1; \
	done
	$(CHECKSUMS)

.PHONY: man
man: ## write the manual page to bin/iamproxy.1
	mkdir -p bin
	$(GO) run -ldflags '$(LDFLAGS)' ./cmd/iamproxy man >bin/iamproxy.1

.PHONY: notes
notes: ## print what CHANGELOG.md says of VERSION
	@awk -v version=$(VERSION) -f tools/notes.awk CHANGELOG.md

# The name without a tag. IMAGE=111122223333.dkr.ecr.eu-west-1.amazonaws.com/iamproxy names another registry.
IMAGE ?= ghcr.io/iamproxy/iamproxy

.PHONY: image
image: ## build the container image IMAGE:VERSION with Docker
	$(DOCKER) build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t $(IMAGE):$(VERSION) .

## Try and check

.PHONY: demo
demo: ## log in through iamproxy to a stand-in for Aurora, on this machine alone
	@sh tools/setup/install.sh postgres certs
	@$(MAKE) --no-print-directory build
	@# Not go run, which makes a failure of Ctrl-C.
	$(GO) build -o bin/demo ./test/demo
	bin/demo -binary bin/iamproxy

.PHONY: standin
standin: ## start only the cluster of the demo, for commands of your own
	@sh tools/setup/install.sh postgres certs
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/demo ./test/demo
	bin/demo -standin -env build/standin.env

# Results are cached. Lint reports only what is new since main.
.PHONY: check
check: deps ## vet, lint what changed, run unit tests, transcripts and one login: a minute
	$(GO) vet ./...
	$(LINT) $(if $(shell git rev-parse -q --verify main 2>/dev/null),--new-from-merge-base main)
	$(GO) test $(PARALLEL) $$($(GO) list ./... | grep -v /test/e2e)
	$(GO) test $(PARALLEL) -run '^TestScript$$|^TestEndToEnd$$/^first_query$$' ./test/e2e

# The limit is for slow and busy machines: two idle cores need less than five minutes.
.PHONY: test
test: deps ## run every test, with the race detector
	CGO_ENABLED=1 $(GO) test -race $(PARALLEL) -timeout 40m ./...
	IAMPROXY_PLAIN_IO=1 CGO_ENABLED=1 $(GO) test -race $(PARALLEL) -run 'Session|Relay|Copy|TLS|Pool|Connect|Probe' ./proxy/...

# Debian has one version of PostgreSQL; npm has servers of them all, for Linux on x86-64.
.PHONY: versions
versions: deps ## test against PostgreSQL 12 to 18 (160 MB to download)
	@sh tools/setup/install.sh npm
	$(NPM) ci --prefix test/versions
	POSTGRES_VERSIONS=$(CURDIR)/test/versions/node_modules CGO_ENABLED=1 \
		$(GO) test -race -v -count=1 -timeout 10m -run '^TestVersions$$' ./test/e2e

# The commands of docs/schema-migrations.md, with the tools that have to be fetched.
.PHONY: migrations
migrations: deps ## migrate through iamproxy with Prisma, and with JDBC as Flyway does (60 MB to download)
	@sh tools/setup/install.sh npm drivers
	$(NPM) ci --silent --prefix test/migrations
	MIGRATIONS=$(CURDIR)/test/migrations CGO_ENABLED=1 \
		$(GO) test -race -v -count=1 -timeout 10m -run 'Migration' ./test/e2e

# The last lines keep the tables true. They change nothing if a driver or framework fails.
.PHONY: drivers
drivers: ## run the drivers of docs/clients.md and the examples of docs/frameworks.md, and write their tables
	@sh tools/setup/install.sh postgres certs npm drivers frameworks
	@$(MAKE) --no-print-directory build
	$(NPM) ci --silent --prefix test/drivers/node
	$(NPM) ci --silent --prefix test/frameworks
	cd test/drivers/go && $(GO) mod download
	$(GO) build -o bin/ ./test/drivers ./test/frameworks
	bin/drivers -binary bin/iamproxy -write docs/clients.md
	bin/frameworks -binary bin/iamproxy -write

# PostgreSQL's tests are fetched into build/ and stay there.
.PHONY: conformance
conformance: ## run PostgreSQL's own tests with and without iamproxy, and compare (on Debian)
	@sh tools/setup/install.sh postgres cc certs dpkg-source
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/conformance ./test/conformance
	bin/conformance -binary bin/iamproxy

# With BENCH='-quick -only select' for a look, say; bin/bench -h has the flags.
BENCH ?= -write docs/performance.md

.PHONY: bench
bench: ## measure iamproxy beside PgBouncer, and write docs/performance.md (on Debian)
	@sh tools/setup/install.sh postgres certs pgbouncer
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/bench ./test/bench
	bin/bench -binary bin/iamproxy $(BENCH)

# As root: another host is made of a network namespace and two TUN devices. With
# CHAOS='-only DNS' for some of it, say; bin/chaos -h has the flags.
CHAOS ?= -write docs/reliability.md

.PHONY: chaos
chaos: chaos-build ## break what is around iamproxy, and write docs/reliability.md (as root, on Linux)
	bin/chaos -binary bin/iamproxy $(CHAOS)

SOAK ?= 1h

.PHONY: soak
soak: chaos-build ## have all kinds of clients work through iamproxy for SOAK (1h; as root, on Linux)
	bin/chaos -binary bin/iamproxy -soak $(SOAK) $(if $(filter 1h,$(SOAK)),-write docs/reliability.md)

.PHONY: chaos-build
chaos-build:
	@sh tools/setup/install.sh postgres certs netns
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/chaos ./test/chaos

# Only the weekly workflow, or a person, runs these programs. Here each starts, and chaos and
# bench run their shortest parts.
.PHONY: programs
programs: chaos-build ## start each program of test/ and tools/ (as root, on Debian)
	@sh tools/setup/install.sh pgbouncer
	rm -rf build/programs
	$(GO) build -o build/programs/ $$($(GO) list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./test/... ./tools/...)
	for program in build/programs/*; do $$program -h 2>/dev/null || exit 1; done
	bin/chaos -binary bin/iamproxy -only "^Database restarted$$|^Database's clock 2 minutes"
	build/programs/bench -binary bin/iamproxy -quick -rounds 1 -only '^(select-8|copy-in|connect|idle)$$'

# With PICTURE=$PWD/docs/status.png it makes the one in the docs anew.
.PHONY: browser
browser: deps ## look at the status page with Chromium (on Debian)
	@sh tools/setup/install.sh chromium
	CGO_ENABLED=1 $(GO) test -tags browser -count=1 -timeout 5m -run '^TestBrowser' ./internal/admin ./test/e2e

# What is deployed, tried as far as it goes without AWS.
.PHONY: deployments
deployments: workflows browser image-test ecs-test compose-test k8s-test systemd-test alerts-test cdk-test ## run the tests of what is in deploy/ (as root, on Debian)

# Without an engine and a registry: see test/container.
.PHONY: image-test
image-test: ## build the image with buildah, and run it in a container
	@sh tools/setup/install.sh buildah postgres certs netns
	cd deploy/image/check && $(GO) test -count=1 ./...

.PHONY: compose-test
compose-test: ## build and run what deploy/compose has, without Docker
	@sh tools/setup/install.sh buildah postgres certs netns
	cd deploy/compose/check && $(GO) test -count=1 ./...

.PHONY: ecs-test
ecs-test: ## check the task definitions and policies of deploy/ecs, and run what they say
	@sh tools/setup/install.sh postgres netns
	cd deploy/ecs/check && $(GO) test -count=1 ./...

.PHONY: k8s-test
k8s-test: ## build what is in deploy/kubernetes as kubectl would, and run it
	cd deploy/kubernetes/check && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: systemd-test
systemd-test: ## check the units, and that a restart refuses no client (on Linux)
	@sh tools/setup/install.sh systemd
	cd deploy/systemd/check && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: alerts-test
alerts-test: ## try the alerts and the dashboard's queries with promtool
	@sh tools/setup/install.sh promtool
	cd deploy/prometheus/check && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: cdk-test
cdk-test: ## check the AWS CDK constructs and their example (60 MB to download)
	@sh tools/setup/install.sh npm
	@$(MAKE) --no-print-directory build
	$(NPM) ci --silent --prefix deploy/cdk
	BINARY=$(CURDIR)/bin/iamproxy $(NPM) test --silent --prefix deploy/cdk

.PHONY: lint
lint: ## run golangci-lint as pinned here (the first run compiles it)
	$(LINT)

# With shellcheck installed, it reads what the workflows run, too.
.PHONY: workflows
workflows: ## check the workflows in .github/
	$(GO) run $(ACTIONLINT) .github/workflows/*.yml

# go test fuzzes one target of one package at a time.
.PHONY: fuzz
fuzz: deps ## run each fuzz target for FUZZTIME (30s)
	@list=$$($(GO) test -list '^Fuzz' ./...) || { echo "$$list"; exit 1; }; \
	echo "$$list" \
	| awk '/^Fuzz/ { f[n++] = $$1 } /^(ok|\?)[ \t]/ { for (i = 0; i < n; i++) print f[i], $$2; n = 0 }' \
	| while read -r name pkg; do \
		echo "$$pkg $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null || exit 1; \
	done

# Modules with a go.mod of their own are looked at, too. Only what is called counts.
.PHONY: vulns
vulns: ## look for known vulnerabilities in what is called, Go's own library included
	$(GO) run ./tools/vulndb -to build/vulndb
	for mod in $$(git ls-files '*go.mod' 2>/dev/null || echo go.mod); do \
		echo "$$mod"; \
		(cd "$$(dirname "$$mod")" && $(GO) run $(GOVULNCHECK) -db file://$(CURDIR)/build/vulndb ./...) || exit 1; \
	done

.PHONY: licenses
licenses: ## look at the licenses of all that is linked in
	$(GO) run ./tools/licenses

# From folders with names of different lengths, and with empty caches, or it would only copy.
.PHONY: reproducible
reproducible: ## build twice, from two folders, and compare
	rm -rf build/once build/once-more
	for copy in once once-more; do \
		mkdir -p build/$$copy/source && git ls-files -z | tar -cf - --null -T - | tar -xf - -C build/$$copy/source && \
		(cd build/$$copy/source && GOCACHE=$(CURDIR)/build/$$copy/cache $(GO_BUILD) -o ../iamproxy ./cmd/iamproxy) || exit 1; \
	done
	cmp build/once/iamproxy build/once-more/iamproxy
	rm -rf build/once build/once-more

## Keep up

.PHONY: deps
deps: ## install what the tests need, if missing: PostgreSQL, a C compiler, CA certificates, ip, zsh, fish
	@sh tools/setup/install.sh postgres cc certs netns shells

.PHONY: update-ca
update-ca: ## fetch tls/rds/*.pem as AWS publishes them, and list what has changed
	$(GO) run ./tools/updateca
	$(GO) test -count=1 -run '^TestEmbedded' ./tls ./tools/updateca
	git status --short tls/rds

.PHONY: clean
clean: ## remove bin/, build/, dist/, coverage files and what npm has installed
	rm -rf bin build dist coverage* test/drivers/node/node_modules test/frameworks/node_modules test/versions/node_modules test/migrations/node_modules deploy/cdk/node_modules deploy/cdk/build

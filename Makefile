# GNU make. `make` alone lists the targets. On Debian and Ubuntu they install missing packages;
# elsewhere they print what to install.

GO            ?= go
NPM           ?= npm
DOCKER        ?= docker
FUZZTIME      ?= 30s
GOLANGCI_LINT ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
CYCLONEDX     ?= github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
GOVULNCHECK   ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0
NFPM          ?= github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
ACTIONLINT    ?= github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

LINT = $(GO) run $(GOLANGCI_LINT) run --allow-serial-runners
# Most tests wait for a process or a timer, so one core can run several at a time.
PARALLEL = -p 4 -parallel 8

# Builds and tests use the release of Go that go.mod names, which is downloaded as a module: the
# machine's own may be older, with known vulnerabilities in its library. If the download fails,
# the machine's own is used. GOTOOLCHAIN in the environment selects another.
ifeq ($(origin GOTOOLCHAIN),undefined)
TOOLCHAIN := $(shell awk '$$1 == "toolchain" { print $$2 }' go.mod)
ifneq ($(shell GOTOOLCHAIN=$(TOOLCHAIN) $(GO) version 2>/dev/null),)
export GOTOOLCHAIN := $(TOOLCHAIN)
endif
endif

# A source archive has no git history.
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
COMMIT  ?= $(or $(shell git rev-parse HEAD 2>/dev/null),unknown)

# -buildvcs=false: version and commit come from the two lines above, so that a clone, an archive
# and the image build alike, and a build cannot fail because of the clone's owner.
LDFLAGS  = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GO_RUN   = CGO_ENABLED=0 $(GO) run -trimpath -ldflags '$(LDFLAGS)'
GO_BUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

PLATFORMS = linux-amd64 linux-arm64 darwin-amd64 darwin-arm64 windows-amd64
LINUX_ARCHS = $(patsubst linux-%,%,$(filter linux-%,$(PLATFORMS)))

# Everything of a release is built here.
DIST = dist

CHECKSUMS = cd $(DIST) && if command -v sha256sum >/dev/null; then sha256sum iamproxy*; else shasum -a 256 iamproxy*; fi >SHA256SUMS

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Build

# Phony, because go build detects what is out of date.
.PHONY: build
build: ## compile bin/iamproxy
	$(GO_BUILD) -o bin/iamproxy ./cmd/iamproxy

.PHONY: release
release: packages charts ## build all files of a release into dist/, except the bills of materials
	$(GO) run ./tools/manifests -version $(VERSION) -dist $(DIST)
	$(CHECKSUMS)

.PHONY: binaries
binaries: $(PLATFORMS:%=binary-%) ## compile for Linux, macOS and Windows into dist/, with the layers for AWS Lambda
	$(GO) run ./tools/licenses -write $(DIST)/iamproxy.licenses.txt
	for arch in $(LINUX_ARCHS); do \
		$(GO) run ./tools/layer -binary $(DIST)/iamproxy-linux-$$arch -licenses $(DIST)/iamproxy.licenses.txt -write $(DIST)/iamproxy-lambda-$$arch.zip || exit 1; \
	done
	$(GO_RUN) ./cmd/iamproxy man >$(DIST)/iamproxy.1

.PHONY: $(PLATFORMS:%=binary-%)
$(PLATFORMS:%=binary-%): binary-%: release-clean
	GOOS=$(word 1,$(subst -, ,$*)) GOARCH=$(word 2,$(subst -, ,$*)) \
		$(GO_BUILD) -o $(DIST)/iamproxy-$*$(if $(filter windows-%,$*),.exe) ./cmd/iamproxy

# The checksums cover everything in dist/, so it must not contain old files.
.PHONY: release-clean
release-clean:
	rm -rf $(DIST)

# The time of all files in the packages. A source archive has no commit.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),315532800)

# A build between releases has no version that package managers can compare. Alpine's versions end
# in _rc1, Debian's and Fedora's in ~rc.1. A tag in another form is refused.
PACKAGE_VERSION = $(or $(shell echo '$(VERSION)' | grep -Ex 'v[0-9]+[.][0-9]+[.][0-9]+(-(alpha|beta|rc)[.][0-9]+)?'),$(NO_RELEASE),0.0.0)
NO_RELEASE = $(if $(shell echo '$(VERSION)' | grep '^v[0-9]' | grep -Ev -e '-(g[0-9a-f]+|dirty)$$'),$(error VERSION $(VERSION) has no form that all package managers compare; use one such as v1.2.3 or v1.2.3-rc.1 (alpha, beta or rc)))

# The directory with the files of the packages. Scripts of apk keep their times. nfpm is in no
# package, so that it need not be built with the empty cache of "make reproducible".
STAGE = build/packages

.PHONY: packages
packages: binaries ## build the packages for Debian, Fedora and Alpine into dist/
	rm -rf $(STAGE) && mkdir -p build
	cp -R deploy/packages $(STAGE)
	cp deploy/systemd/iamproxy* deploy/systemd/env.example LICENSE $(STAGE)
	cp $(DIST)/iamproxy.licenses.txt $(STAGE)/licenses.txt
	gzip -9n <$(DIST)/iamproxy.1 >$(STAGE)/iamproxy.1.gz
	for shell in bash zsh fish; do $(GO_RUN) ./cmd/iamproxy completion $$shell >$(STAGE)/iamproxy.$$shell || exit 1; done
	find $(STAGE) -type f -exec env TZ=UTC touch -t 198001010000 {} +
	env -u GOCACHE GOBIN=$(CURDIR)/build $(GO) install $(NFPM)
	for arch in $(LINUX_ARCHS); do \
		cp $(DIST)/iamproxy-linux-$$arch $(STAGE)/iamproxy; \
		for format in deb rpm apk; do \
			version=$(PACKAGE_VERSION); [ $$format != apk ] || version=$$(echo $$version | sed 's/-\([a-z]*\)[.]/-\1/'); \
			(cd $(STAGE) && ARCH=$$arch PACKAGE_VERSION=$$version SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(CURDIR)/build/nfpm package --packager $$format \
				--target $(abspath $(DIST))/iamproxy-linux-$$arch.$$format) || exit 1; \
		done; \
	done

.PHONY: charts
charts: release-clean ## package deploy/helm into dist/
	cd deploy/kubernetes/check && $(GO) run ./charts -dist $(abspath $(DIST)) -version $(PACKAGE_VERSION:v%=%) -app-version $(VERSION) -time $(SOURCE_DATE_EPOCH)

# Bills of materials of each binary, read from the binary, and of the module with its licenses.
# They have no serial numbers and times, so that they are reproducible. -trimpath, since the tool
# adds its own checksum.
SBOM = CGO_ENABLED=0 $(GO) run -trimpath $(CYCLONEDX)

.PHONY: sbom
sbom: release ## compile into dist/, with a bill of materials (CycloneDX) of each binary
	$(SBOM) mod -json -licenses -std -noserial -notimestamp -output $(DIST)/iamproxy.cdx.json .
	for platform in $(PLATFORMS); do \
		file=$(DIST)/iamproxy-$$platform; case $$platform in windows-*) file=$$file.exe ;; esac; \
		$(SBOM) bin -json -std -noserial -notimestamp -version $(VERSION) -output $$file.cdx.json $$file || exit 1; \
	done
	$(CHECKSUMS)

# For one processor: ARCH=arm64 is for functions on Graviton.
ARCH ?= amd64

.PHONY: layer
layer: ## build bin/iamproxy-lambda-ARCH.zip, the layer for AWS Lambda (ARCH=amd64 or arm64)
	mkdir -p bin
	GOOS=linux GOARCH=$(ARCH) $(GO_BUILD) -o bin/iamproxy-linux-$(ARCH) ./cmd/iamproxy
	$(GO) run ./tools/licenses -write bin/iamproxy.licenses.txt
	$(GO) run ./tools/layer -binary bin/iamproxy-linux-$(ARCH) -licenses bin/iamproxy.licenses.txt -write bin/iamproxy-lambda-$(ARCH).zip

.PHONY: man
man: ## write the manual page to bin/iamproxy.1
	mkdir -p bin
	$(GO_RUN) ./cmd/iamproxy man >bin/iamproxy.1

.PHONY: notes
notes: ## print the release notes of VERSION, from CHANGELOG.md
	@awk -v version=$(VERSION) -f tools/notes.awk CHANGELOG.md

# From a clone of the last commit with the heading and the tag of the release, so that nothing
# here changes.
.PHONY: release-dry-run
release-dry-run: ## do what the release VERSION=v1.2.3 does, without publishing anything (on Debian)
	rm -rf build/release && git clone --quiet . build/release
	cd build/release && { grep -q '^## \[$(VERSION:v%=%)\] - ' CHANGELOG.md || \
		sed -i "s/^## \[Unreleased\]$$/&\n\n## [$(VERSION:v%=%)] - $$(date +%F)/" CHANGELOG.md; } && \
		git -c user.name=dry-run -c user.email=dry-run@example.com commit --quiet --allow-empty --all --message $(VERSION) && \
		git -c user.name=dry-run -c user.email=dry-run@example.com tag --force --annotate $(VERSION) --message $(VERSION)
	$(MAKE) -s -C build/release notes VERSION=$(VERSION) >build/release/notes.md
	$(MAKE) -C build/release sbom VERSION=$(VERSION)
	$(MAKE) -C build/release image-test
	cd build/release/dist && sha256sum --check --quiet SHA256SUMS && ls -l ../notes.md $$(cut -c67- SHA256SUMS)

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
	@# Not go run, which fails at Ctrl-C.
	$(GO) build -o bin/demo ./test/demo
	bin/demo -binary bin/iamproxy

.PHONY: standin
standin: ## start only the cluster of the demo, for commands of your own
	@sh tools/setup/install.sh postgres certs
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/demo ./test/demo
	bin/demo -standin -env build/standin.env

# Results are cached. Lint reports only findings that are new since main.
.PHONY: check
check: deps ## vet, lint changes, run unit tests, transcripts and one login (1 minute)
	$(GO) vet ./...
	$(LINT) $(if $(shell git rev-parse -q --verify main 2>/dev/null),--new-from-merge-base main)
	$(GO) test $(PARALLEL) $$($(GO) list ./... | grep -v /test/e2e)
	$(GO) test $(PARALLEL) -run '^TestScript$$|^TestEndToEnd$$/^first_query$$' ./test/e2e

# The timeout is for slow and busy machines: two idle cores need less than five minutes.
.PHONY: test
test: deps ## run every test, with the race detector
	CGO_ENABLED=1 $(GO) test -race $(PARALLEL) -timeout 40m ./...
	IAMPROXY_PLAIN_IO=1 CGO_ENABLED=1 $(GO) test -race $(PARALLEL) -run 'Session|Relay|Copy|TLS|Pool|Connect|Probe' ./proxy/...

# Debian has one version of PostgreSQL; npm has servers of all versions, for Linux on x86-64.
.PHONY: versions
versions: deps ## test against PostgreSQL 12 to 18 (160 MB to download)
	@sh tools/setup/install.sh npm
	$(NPM) ci --prefix test/versions
	POSTGRES_VERSIONS=$(CURDIR)/test/versions/node_modules CGO_ENABLED=1 \
		$(GO) test -race -v -count=1 -timeout 10m -run '^TestVersions$$' ./test/e2e

# Runs the commands of docs/schema-migrations.md with tools that are downloaded.
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
	$(NPM) ci --silent --ignore-scripts --prefix test/frameworks
	cd test/drivers/go && $(GO) mod download
	$(GO) build -o bin/ ./test/drivers ./test/frameworks
	CGO_ENABLED=1 $(GO) test -race -count=1 -run 'TestExecNode|TestExecPython' ./test/e2e
	bin/drivers -binary bin/iamproxy -write docs/clients.md
	bin/frameworks -binary bin/iamproxy -write

# The plugin is in a separate module, so that iamproxy does not depend on it.
.PHONY: ssm
ssm: ## run AWS's Session Manager plugin against the fakes of Session Manager
	@sh tools/setup/install.sh cc
	cd test/ssm/plugin && $(GO) build -o $(CURDIR)/bin/session-manager-plugin .
	SESSION_MANAGER_PLUGIN=$(CURDIR)/bin/session-manager-plugin CGO_ENABLED=1 \
		$(GO) test -race -count=1 -timeout 5m ./test/ssm

.PHONY: ssm-long
ssm-long: deps ## freeze iamproxy for a minute, and run 1,000 clients through a Session Manager session
	SSM_LONG=1 CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 20m -run '^TestSessionManager$$' ./test/e2e

# Debian's Wine is not on the PATH.
WINE ?= $(or $(shell command -v wine64),/usr/lib/wine/wine64)

.PHONY: windows-test
windows-test: ## run the binary for Windows, and the tests of the packages, under Wine (on Debian)
	@sh tools/setup/install.sh postgres certs wine
	GOOS=windows GOARCH=amd64 $(GO_BUILD) -o bin/iamproxy.exe ./cmd/iamproxy
	WINE=$(WINE) BINARY=$(CURDIR)/bin/iamproxy.exe $(GO) test -count=1 -timeout 40m ./test/windows

# Downloads PostgreSQL's tests into build/, where they stay.
.PHONY: conformance
conformance: ## run PostgreSQL's own tests with and without iamproxy, and compare (on Debian)
	@sh tools/setup/install.sh postgres cc certs dpkg-source
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/conformance ./test/conformance
	bin/conformance -binary bin/iamproxy -write docs/conformance.md

# BENCH='-quick -only select' runs a part, for example, and BENCH='-baseline OLD -targets
# iamproxy,baseline -only select' compares two binaries. bin/bench -h lists the flags.
BENCH ?= -write docs/performance.md

.PHONY: bench
bench: ## measure iamproxy beside PgBouncer, and write docs/performance.md (on Debian)
	@sh tools/setup/install.sh postgres certs pgbouncer
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/bench ./test/bench
	bin/bench -binary bin/iamproxy $(BENCH)

# The last release, without pre-releases. BASELINE=PATH names another iamproxy to compare with.
RELEASE = $(shell git tag --list 'v*' --sort=-version:refname | grep -v -e - | head -n 1)

# Git fails in a clone of another user, which must not pass as "no release".
.PHONY: bench-check
bench-check: ## fail if a measurement is 10 % worse than that of the last release (on Debian)
	@$(if $(BASELINE),,git tag >/dev/null)
	@$(if $(BASELINE)$(RELEASE),$(MAKE) --no-print-directory bench-compare,echo "There is no release to compare with. BASELINE=PATH names another iamproxy.")

.PHONY: bench-compare
bench-compare:
	@sh tools/setup/install.sh postgres certs
	@$(MAKE) --no-print-directory build $(if $(BASELINE),,bench-baseline)
	$(GO) build -o bin/bench ./test/bench
	bin/bench -binary bin/iamproxy -check -baseline $(or $(BASELINE),build/baseline/bin/iamproxy)

# With the release of Go that it was released with.
.PHONY: bench-baseline
bench-baseline:
	rm -rf build/baseline && mkdir -p build/baseline
	git archive $(RELEASE) | tar -xf - -C build/baseline
	env -u GOTOOLCHAIN $(MAKE) --no-print-directory -C build/baseline build VERSION=$(RELEASE) COMMIT=$(shell git rev-parse '$(RELEASE)^{commit}')

# As root: the other host is a network namespace with two TUN devices. CHAOS='-only DNS' runs a
# part, for example; bin/chaos -h lists the flags.
CHAOS ?= -write docs/reliability.md

.PHONY: chaos
chaos: chaos-build ## inject faults around iamproxy, and write docs/reliability.md (as root, on Linux)
	bin/chaos -binary bin/iamproxy $(CHAOS)

SOAK ?= 1h

.PHONY: soak
soak: chaos-build ## run all kinds of clients through iamproxy for SOAK (1h; as root, on Linux)
	bin/chaos -binary bin/iamproxy -soak $(SOAK) $(if $(filter 1h,$(SOAK)),-write docs/reliability.md)

.PHONY: chaos-build
chaos-build:
	@sh tools/setup/install.sh postgres certs netns
	@$(MAKE) --no-print-directory build
	$(GO) build -o bin/chaos ./test/chaos

# Other targets run these programs in full. Here each only starts; chaos and bench run their
# shortest parts.
.PHONY: programs
programs: chaos-build ## start each program of test/ and tools/ (as root, on Debian)
	@sh tools/setup/install.sh pgbouncer
	rm -rf build/programs
	$(GO) build -o build/programs/ $$($(GO) list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./test/... ./tools/...)
	for program in build/programs/*; do $$program -h 2>/dev/null || exit 1; done
	bin/chaos -binary bin/iamproxy -only "^Database restarted$$|^Database's clock 2 minutes"
	build/programs/bench -binary bin/iamproxy -quick -rounds 1 -only '^(select-8|copy-in|login|start|idle|beside-10)$$'

# PICTURE=$PWD/docs/status.png renews the picture of the status page in docs/.
.PHONY: browser
browser: deps ## test the status page in Chromium (on Debian)
	@sh tools/setup/install.sh chromium
	CGO_ENABLED=1 $(GO) test -tags browser -count=1 -timeout 5m -run '^TestBrowser' ./internal/admin ./test/e2e

# Tests the deployments as far as possible without AWS.
.PHONY: deployments
deployments: workflows browser image-test ecs-test lambda-test compose-test k8s-test systemd-test packages-check alerts-test cdk-test ## run the tests of deploy/ (as root, on Debian)

# Needs neither a container engine nor a registry: see test/container.
.PHONY: image-test
image-test: ## build the image with buildah, run it, and run docs/install.md
	@sh tools/setup/install.sh buildah postgres certs netns
	cd deploy/image/check && $(GO) test -count=1 ./...

.PHONY: compose-test
compose-test: ## build and run deploy/compose without Docker
	@sh tools/setup/install.sh buildah postgres certs netns
	cd deploy/compose/check && $(GO) test -count=1 ./...

# The machine's own OpenTofu or Terraform, if it has one.
TERRAFORM ?= $(shell command -v tofu || command -v terraform)

.PHONY: ecs-test
ecs-test: ## check deploy/ecs, deploy/terraform and deploy/cloudformation, and run their tasks
	@sh tools/setup/install.sh postgres netns jq
	cd deploy/ecs/check && $(GO) vet ./... && TERRAFORM=$(TERRAFORM) $(GO) test -count=1 ./...

# Without one, OpenTofu is compiled once, in 7 CPU minutes: it is not part of deployments.
TOFU = $(or $(TERRAFORM),$(CURDIR)/build/tofu)

.PHONY: terraform-test
terraform-test: $(TOFU) ## apply deploy/terraform with OpenTofu or Terraform, and a stand-in for AWS
	cd deploy/ecs/check && TERRAFORM=$(TOFU) $(GO) test -v -count=1 -run '^TestTerraform$$' ./

$(CURDIR)/build/tofu: deploy/ecs/check/tofu/go.mod deploy/ecs/check/tofu/go.sum
	cd deploy/ecs/check/tofu && $(GO) build -ldflags '-s -w' -o $@ github.com/opentofu/opentofu/cmd/tofu

# In place of the stand-in of terraform-test, the AWS provider itself, which needs no account for this.
.PHONY: terraform
terraform: $(TOFU) ## test deploy/terraform with the AWS provider from the registry (700 MB to download)
	rm -rf build/terraform && mkdir -p build && cp -r deploy/terraform build/terraform
	cd build/terraform && $(TOFU) init -input=false && $(TOFU) validate && $(TOFU) test
	cd build/terraform/example && $(TOFU) init -input=false && $(TOFU) validate

CFN_LINT ?= pipx run cfn-lint==1.51.0

.PHONY: cfn-lint
cfn-lint: ## check deploy/cloudformation with the linter of AWS CloudFormation (from PyPI, with pipx)
	$(CFN_LINT) --non-zero-exit-code informational deploy/cloudformation/*.yaml

.PHONY: lambda-test
lambda-test: ## run the extension for AWS Lambda in AWS's emulator, with Go, Node.js and Python
	@sh tools/setup/install.sh postgres certs netns npm drivers
	$(NPM) ci --silent --prefix deploy/lambda/example
	cd deploy/lambda/check && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: k8s-test
k8s-test: ## build deploy/kubernetes as kubectl does, and run it
	@sh tools/setup/install.sh git
	cd deploy/kubernetes/check && $(GO) vet ./... && $(GO) test -count=1 ./...

# Prints each refusal of the injection, and its cost per pod. The API server is compiled once, in 20
# CPU minutes: it is not part of deployments.
.PHONY: kubernetes
kubernetes: build/kube-apiserver ## apply deploy/kubernetes to a real API server, and inject iamproxy (on Debian)
	@sh tools/setup/install.sh etcd postgres certs
	cd deploy/kubernetes/check && KUBE_APISERVER=$(CURDIR)/build/kube-apiserver $(GO) test -v -count=1 -run '^TestAPIServer$$' ./

KUBERNETES = deploy/kubernetes/check/apiserver/kube-apiserver

build/kube-apiserver: $(KUBERNETES).mod $(KUBERNETES).sum
	cd deploy/kubernetes/check && $(GO) build -modfile=$(CURDIR)/$(KUBERNETES).mod -ldflags '-s -w' -o $(CURDIR)/$@ k8s.io/kubernetes/cmd/kube-apiserver

# Kyverno's command is compiled once, in 15 CPU minutes.
.PHONY: kyverno
kyverno: build/kyverno ## evaluate deploy/kubernetes/kyverno with Kyverno
	cd deploy/kubernetes/check && KYVERNO=$(CURDIR)/build/kyverno $(GO) test -v -count=1 -run '^TestKyverno$$' ./

KYVERNO = deploy/kubernetes/check/kyverno/kyverno

build/kyverno: $(KYVERNO).mod $(KYVERNO).sum
	cd deploy/kubernetes/check && $(GO) build -modfile=$(CURDIR)/$(KYVERNO).mod -ldflags '-s -w' -o $(CURDIR)/$@ github.com/kyverno/kyverno/cmd/cli/kubectl-kyverno

.PHONY: systemd-test
systemd-test: ## check the units, and that a restart refuses no client (on Linux)
	@sh tools/setup/install.sh systemd
	cd deploy/systemd/check && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: packages-check
packages-check: ## check the packages, the manifests and the action setup-iamproxy (on Debian)
	@sh tools/setup/install.sh rpm ruby shellcheck
	cd deploy/packages/check && $(GO) vet ./... && $(GO) test -count=1 -short ./...

# Downloads Debian into build/, where it stays.
.PHONY: packages-test
packages-test: ## install, upgrade and remove the packages in a clean Debian with systemd (as root, on Debian)
	@sh tools/setup/install.sh postgres certs netns rpm ruby shellcheck nspawn
	cd deploy/packages/check && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: alerts-test
alerts-test: ## test the alerts and the dashboard's queries with promtool
	@sh tools/setup/install.sh promtool
	cd deploy/prometheus/check && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: cdk-test
cdk-test: ## check the AWS CDK constructs, their example and deploy/cloudformation (60 MB to download)
	@sh tools/setup/install.sh npm
	@$(MAKE) --no-print-directory build
	$(NPM) ci --silent --prefix deploy/cdk
	BINARY=$(CURDIR)/bin/iamproxy $(NPM) test --silent --prefix deploy/cdk

.PHONY: lint
lint: ## run golangci-lint at the pinned version in all modules (the first run compiles it)
	for mod in $$(git ls-files '*go.mod' 2>/dev/null || echo go.mod); do \
		(cd "$$(dirname "$$mod")" && $(LINT) --config $(CURDIR)/.golangci.yml) || exit 1; \
	done

# With shellcheck installed, it also checks the scripts of the workflows.
.PHONY: workflows
workflows: ## check the workflows in .github/
	$(GO) run $(ACTIONLINT) .github/workflows/*.yml

# go test fuzzes one target at a time.
.PHONY: fuzz
fuzz: deps ## run each fuzz target for FUZZTIME (30s)
	@list=$$($(GO) test -list '^Fuzz' ./...) || { echo "$$list"; exit 1; }; \
	echo "$$list" \
	| awk '/^Fuzz/ { f[n++] = $$1 } /^(ok|\?)[ \t]/ { for (i = 0; i < n; i++) print f[i], $$2; n = 0 }' \
	| while read -r name pkg; do \
		echo "$$pkg $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null || exit 1; \
	done

# Includes the modules below deploy/ and test/. Reports only vulnerable code that is called.
.PHONY: vulns
vulns: ## find known vulnerabilities in code that is called, Go's library included
	$(GO) run ./tools/vulndb -to build/vulndb
	for mod in $$(git ls-files '*go.mod' 2>/dev/null || echo go.mod); do \
		echo "$$mod"; \
		(cd "$$(dirname "$$mod")" && $(GO) run $(GOVULNCHECK) -db file://$(CURDIR)/build/vulndb ./...) || exit 1; \
	done

.PHONY: licenses
licenses: ## check the licenses of all modules in the binary
	$(GO) run ./tools/licenses

# From directories with names of different lengths, and with empty caches: otherwise the second
# build would only copy. The packages are those of one platform.
.PHONY: reproducible
reproducible: ## build a binary and its packages twice, in two directories, and compare
	rm -rf build/once build/once-more
	for copy in once once-more; do \
		mkdir -p build/$$copy/source && git ls-files -z | tar -cf - --null -T - | tar -xmf - -C build/$$copy/source && \
		GOCACHE=$(CURDIR)/build/$$copy/cache $(MAKE) -C build/$$copy/source packages \
			VERSION=$(VERSION) COMMIT=$(COMMIT) SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) PLATFORMS=linux-amd64 DIST=$(CURDIR)/build/$$copy/dist || exit 1; \
	done
	diff -r build/once/dist build/once-more/dist
	rm -rf build/once build/once-more

## Maintain

.PHONY: deps
deps: ## install missing packages for the tests: PostgreSQL, a C compiler, CA certificates, ip, zsh, fish, OpenSSL
	@sh tools/setup/install.sh postgres cc certs netns shells openssl

.PHONY: update-ca
update-ca: ## download the RDS roots of AWS into tls/rds/, and list the changes
	$(GO) run ./tools/updateca
	$(GO) test -count=1 -run '^TestEmbedded' ./tls ./tools/updateca
	git status --short tls/rds

.PHONY: clean
clean: ## remove bin/, build/, dist/, coverage files and npm packages
	rm -rf bin build dist coverage* test/drivers/node/node_modules test/frameworks/node_modules test/versions/node_modules test/migrations/node_modules deploy/cdk/node_modules deploy/cdk/build deploy/lambda/example/node_modules

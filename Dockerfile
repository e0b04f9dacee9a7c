# One static binary on a base without a shell. `make image` sets version and commit.
# docs/install.md describes the image.

# Compiles on the build machine's platform, for the target platform.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
# Go fetches the release that go.mod names, unless this one is newer.
ENV GOTOOLCHAIN=auto

# This layer is cached until one of these two files changes.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
# BuildKit sets these two. If they are empty, Go builds for the build machine.
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
ARG COMMIT=unknown
RUN CGO_ENABLED=0 GOOS="${TARGETOS:-linux}" GOARCH="${TARGETARCH}" \
    go build -trimpath -buildvcs=false \
        -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" \
        -o /iamproxy ./cmd/iamproxy
# The licenses of the modules in the binary, which must be distributed with it.
RUN CGO_ENABLED=0 go run ./tools/licenses -write /LICENSES

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=dev
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="iamproxy" \
      org.opencontainers.image.description="Logs in to Amazon RDS and Aurora PostgreSQL with IAM tokens" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
COPY LICENSE /LICENSE
COPY --from=build /LICENSES /LICENSES
COPY --from=build /iamproxy /iamproxy

# A number, since Kubernetes cannot verify runAsNonRoot for a user name.
USER 65532:65532

# No EXPOSE: by default iamproxy listens on loopback, for clients in its network namespace. A
# published port does not reach it there.

# `wait` requests /readyz at IAMPROXY_ADMIN, or at 127.0.0.1:9090. If --admin is a flag of the
# container, pass it to the health check, too.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/iamproxy", "wait", "--timeout", "2s"]

ENTRYPOINT ["/iamproxy"]

# One static binary on a base without a shell. `make image` hands in version and commit.

# Compiles on the machine's own platform, for the one that is asked for.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
# The release of Go that go.mod names, unless this one is newer.
ENV GOTOOLCHAIN=auto

# A layer of its own: the modules are fetched anew only when these two files change.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
# BuildKit sets these two. Without it they are empty, and Go takes the machine's own.
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
ARG COMMIT=unknown
RUN CGO_ENABLED=0 GOOS="${TARGETOS:-linux}" GOARCH="${TARGETARCH}" \
    go build -trimpath -buildvcs=false \
        -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" \
        -o /iamproxy ./cmd/iamproxy
# The licenses of what is linked in, which have to go along with it.
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

# By number: Kubernetes' runAsNonRoot cannot tell who a name is.
USER 65532:65532

# No EXPOSE: unless told otherwise, iamproxy listens on loopback, for those who share its
# network namespace. A published port would lead nowhere.

# `wait` asks the /readyz at IAMPROXY_ADMIN, or 127.0.0.1:9090: iamproxy can sign, and is not
# about to end. Where the container is told --admin by a flag, the check has to be told, too.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/iamproxy", "wait", "--timeout", "2s"]

ENTRYPOINT ["/iamproxy"]

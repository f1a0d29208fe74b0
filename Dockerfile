# The image of Outrigger: one static binary and nothing else.
#
#   docker build --tag outrigger:dev .
#
# or, with the binary that `cargo xtask dist` made in the place of the stage that builds it:
#
#   docker build --tag outrigger:dev --build-context build=target/dist .
#
# The base image is named by tag. A release pipeline that can reach the registry should pin it by
# digest (rust:…@sha256:…); the final image has no base to pin.

FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The same build as a release's, so that the same compiler gives the same bytes (`cargo xtask dist --verify`).
# `cp` takes the binary out of the cache mount, which no layer keeps.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo xtask dist --binary \
    && cp target/dist/outrigger /outrigger

FROM scratch
LABEL org.opencontainers.image.title="outrigger" \
      org.opencontainers.image.description="A mutating admission webhook that injects sidecars into Kubernetes pods" \
      org.opencontainers.image.licenses="Apache-2.0"
# No CA certificates, no shell, no /etc/passwd: the webhook calls nobody, and its user is a number,
# which is also what lets the kubelet check `runAsNonRoot`.
COPY --from=build /outrigger /outrigger
USER 65532:65532
# One heap for all threads. The C library gives each its own, and what one gives back no other can use: after many
# reviews a tenth more is resident with two threads, and more with more processors.
ENV MALLOC_ARENA_MAX=1
# 8443: admission reviews over TLS. 9443: /metrics, /healthz and /readyz in plain HTTP.
EXPOSE 8443 9443
ENTRYPOINT ["/outrigger"]

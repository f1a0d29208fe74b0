# The image of Outrigger: one static binary and nothing else.
#
#   docker build --tag outrigger:dev .
#
# The base image is named by tag. A release pipeline that can reach the registry should pin it by
# digest (rust:…@sha256:…); the final image has no base to pin.

FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# +crt-static links glibc in, so that the binary runs where there is no other file. The target is
# named although it is the host's own: otherwise the flag would reach proc macros too, which cannot be static.
# `cp` takes the binary out of the cache mount, which no layer keeps.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(rustc --print host-tuple)" \
    && RUSTFLAGS="-C target-feature=+crt-static" \
       cargo build --locked --release --package outrigger --bin outrigger --target "$target" \
    && cp "target/$target/release/outrigger" /outrigger

FROM scratch
LABEL org.opencontainers.image.title="outrigger" \
      org.opencontainers.image.description="A mutating admission webhook that injects sidecars into Kubernetes pods" \
      org.opencontainers.image.licenses="Apache-2.0"
# No CA certificates, no shell, no /etc/passwd: the webhook calls nobody, and its user is a number,
# which is also what lets the kubelet check `runAsNonRoot`.
COPY --from=build /outrigger /outrigger
USER 65532:65532
# 8443: admission reviews over TLS. 9443: /metrics, /healthz and /readyz in plain HTTP.
EXPOSE 8443 9443
ENTRYPOINT ["/outrigger"]

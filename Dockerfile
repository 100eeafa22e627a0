# syntax=docker/dockerfile:1
# The image of Quorate: one static program, both roles (`quorate node`, `quorate operator run`).
#   docker build --build-arg VERSION=0.1.0 -t quorate/quorate:0.1.0 .
# Runs as a number and not as root, on a read-only root, from an empty base: no shell, no libraries.
# A node needs one volume for its data directory and nothing else to write to.
# `cargo xtask image` builds the same image without a container runtime; a test compares the two.

FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ENV RUSTFLAGS="-C target-feature=+crt-static -C strip=debuginfo"
# Naming the target keeps the flags away from build scripts and macros, which must stay dynamic.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(rustc -vV | sed -n 's/^host: //p')" && \
    cargo build --locked --release --package quorate --target "$target" && \
    mkdir -p /image/usr/local/bin /image/etc /image/tmp && \
    chmod 1777 /image/tmp && \
    cp "target/$target/release/quorate" /image/usr/local/bin/quorate
RUN ! readelf --program-headers /image/usr/local/bin/quorate | grep -q INTERP && \
    ln -s quorate /image/usr/local/bin/etcd && \
    echo 'quorate:x:65532:65532:quorate:/:/sbin/nologin' > /image/etc/passwd && \
    echo 'quorate:x:65532:' > /image/etc/group

FROM scratch
ARG VERSION
LABEL org.opencontainers.image.title="quorate"
LABEL org.opencontainers.image.description="A replicated key-value store that speaks the etcd v3 API, and its Kubernetes operator"
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.version=$VERSION
COPY --from=build /image/ /
ENV PATH=/usr/local/bin
EXPOSE 2379 2380 2381 2382
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/quorate"]

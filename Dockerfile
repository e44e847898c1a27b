# The gateway in an image: the program alone, without a shell, run as nobody in particular.
#
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" --tag embedgate .
#   docker run --publish 8080:8080 --volume /etc/embedgate:/config:ro --env EMBEDGATE_SESSION_KEY \
#     --stop-timeout 45 embedgate
#
# The configuration is /config/embedgate.toml. To have it elsewhere, set EMBEDGATE_CONFIG rather than adding --config to
# the command, so that the health check finds it as well. The time to stop has to cover drain_delay and drain_timeout.

FROM rust:1-bookworm AS build
WORKDIR /build

# The dependencies first, with an empty program: built again only when the manifest or the lockfile changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --bin embedgate \
    && rm -r src

# Cargo goes by times of change, and those of the copied files may be older than the empty program's.
COPY migrations migrations
COPY src src
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin embedgate

# glibc and nothing to run: the public certificate authorities are part of the program.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="embedgate" \
      org.opencontainers.image.description="Authenticating reverse proxy that embeds data apps and SQL warehouses" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY LICENSE /LICENSE
COPY --from=build /build/target/release/embedgate /embedgate

# In numbers, because Kubernetes cannot tell from a name that it is not root.
USER 65532:65532
# The default configuration, config/embedgate.toml, is looked for from here.
WORKDIR /
# Data, and the admin listener, which only the container itself reaches unless the configuration says otherwise.
EXPOSE 8080 9900
STOPSIGNAL SIGTERM
# Asks the admin listener of the same configuration. Kubernetes ignores this and has probes of its own.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/embedgate", "healthcheck"]
ENTRYPOINT ["/embedgate"]
CMD ["serve"]

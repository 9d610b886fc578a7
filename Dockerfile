# The image of the ingress: the program, the GStreamer plugins that it uses with their libraries, certificates, busybox for health checks
# and debugging. Built for the machine's own architecture (amd64, arm64). `./x image` builds and tests it.
#
#   docker build -t livekit-ingress .
#   docker run --read-only --cap-drop=ALL -p 1935:1935 -p 8080:8080 -p 7885:7885/udp -e INGRESS_CONFIG_BODY="$(cat config.yaml)" livekit-ingress

# What the images are made from. A machine without a registry gives images of its own (`./x image` makes them).
ARG BASE=docker.io/library/debian:13-slim
ARG BUILD_BASE=docker.io/library/rust:1.95-trixie

FROM ${BUILD_BASE} AS program
# A program that is built already, below target/image; else it is built here.
ARG PROGRAM=
RUN [ -n "$PROGRAM" ] || { \
      apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        build-essential pkg-config cmake libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libssl-dev >/dev/null && \
      rm -rf /var/lib/apt/lists/*; }
WORKDIR /src
COPY . .
RUN if [ -n "$PROGRAM" ]; then cp "target/image/$PROGRAM" /ingress; else \
      cargo build --release --locked -p ingress && strip --strip-debug -o /ingress target/release/ingress && rm -rf target; fi

FROM ${BASE} AS files
# Of good and bad only some plugins are used, so these come without most of what they depend on, and with what those plugins need:
# half a gigabyte less to fetch. collect.sh fails if a library is missing.
RUN export DEBIAN_FRONTEND=noninteractive && apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends \
      busybox-static ca-certificates libssl3t64 gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-ugly gstreamer1.0-libav \
      libaom3 libgstreamer-plugins-bad1.0-0 libmpg123-0t64 libspeex1 libsrt1.5-gnutls libsrtp2-1 libvpx9 >/dev/null && \
    cd /tmp && apt-get download -qq gstreamer1.0-plugins-good gstreamer1.0-plugins-bad && \
    dpkg --unpack --force-depends *.deb >/dev/null 2>&1 && rm -rf *.deb /var/lib/apt/lists/*
COPY deploy/image/collect.sh deploy/image/elements.txt /collect/
COPY --from=program /ingress /collect/ingress
RUN sh /collect/collect.sh /collect/ingress /collect/elements.txt /image

FROM scratch
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="livekit-ingress" \
      org.opencontainers.image.description="Brings RTMP, WHIP and URL sources into LiveKit rooms" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="debian:13-slim"
COPY --from=files /image /
ENV PATH=/usr/bin GST_REGISTRY=/usr/lib/ingress/gstreamer-registry GST_REGISTRY_UPDATE=no
USER 65532:65532
# RTMP, WHIP, WHIP's media.
EXPOSE 1935 8080 7885/udp
STOPSIGNAL SIGTERM
ENTRYPOINT ["ingress"]

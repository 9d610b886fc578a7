#!/usr/bin/env bash
# Containers: which tool this machine has, and how it runs the image. Sourced by ../x after tools/setup.sh.
#
# A machine may have no container tool and reach no registry. Then podman is installed, and the base comes from the distribution's
# packages (mmdebstrap) in place of a registry.

IMAGE=localhost/livekit-ingress
BASE=docker.io/library/debian:13-slim
LOCAL_BASE=localhost/debian:13-slim

# Sets CONTAINER, the tool's command, and BUILD, how it builds.
container_tool() {
  if have docker && timeout 20 docker info >/dev/null 2>&1; then
    CONTAINER=(docker)
    BUILD=(docker build)
  elif have podman; then
    CONTAINER=(podman)
    # As root there is no need for a container around each step, and not every kernel lets podman make one.
    BUILD=(podman build --layers)
    [ "$(id -u)" -ne 0 ] || BUILD+=(--isolation=chroot --network=host)
  else
    setup_fail "neither docker nor podman works here"
  fi
}

# Sets RUN: the command that runs a container, with nothing that the image does not need: no capability, nothing to write on but /tmp, no
# new privileges. Older runtimes cannot do without cgroups of one kind or raise limits; then those are told.
container_run() {
  local confined=(--network=host --read-only --cap-drop=ALL --security-opt=no-new-privileges --tmpfs /tmp)
  RUN=("${CONTAINER[@]}" run "${confined[@]}")
  "${RUN[@]}" --rm "$IMAGE" --version >/dev/null 2>&1 && return
  local limits=(--ulimit "nofile=$(ulimit -Hn):$(ulimit -Hn)" --ulimit nproc=4096:4096)
  RUN=("${CONTAINER[@]}" --runtime runc --cgroup-manager cgroupfs run "${limits[@]}" "${confined[@]}")
  "${RUN[@]}" --rm "$IMAGE" --version >/dev/null || setup_fail "${CONTAINER[0]} can't run the image; its own words are above"
}

# container_files DIRECTORY: the image's files.
container_files() {
  local container
  container="$("${CONTAINER[@]}" create "$IMAGE")"
  "${CONTAINER[@]}" export "$container" | tar -x -C "$1"
  "${CONTAINER[@]}" rm "$container" >/dev/null
  chmod 755 "$1"
}

# Sets BASES: the build arguments that name what the image is made from. $1 is "program" if the program is built already.
container_bases() {
  BASES=()
  if "${CONTAINER[@]}" image inspect "$BASE" >/dev/null 2>&1 || timeout 60 "${CONTAINER[@]}" pull -q "$BASE" >/dev/null 2>&1; then
    # The program's stage needs no compiler then.
    [ "${1:-}" != program ] || BASES=(--build-arg "BUILD_BASE=$BASE")
    return
  fi
  setup_say "no registry can be reached; the base is made from Debian's packages"
  local_base "$LOCAL_BASE" minbase ca-certificates
  BASES=(--build-arg "BASE=$LOCAL_BASE" --build-arg "BUILD_BASE=$LOCAL_BASE")
  [ "${1:-}" != program ] || return 0
  local_base localhost/debian:13-build minbase ca-certificates,build-essential,pkg-config,cmake,libgstreamer1.0-dev,libgstreamer-plugins-base1.0-dev,libssl-dev
  local_rust localhost/debian:13-build localhost/rust:13
  BASES=(--build-arg "BASE=$LOCAL_BASE" --build-arg BUILD_BASE=localhost/rust:13)
}

# local_base NAME VARIANT PACKAGES: an image of Debian 13 with these packages.
local_base() {
  "${CONTAINER[@]}" image inspect "$1" >/dev/null 2>&1 && return
  setup_say "making $1 with mmdebstrap (takes a minute)"
  mmdebstrap --quiet --variant="$2" --include="$3" trixie - http://deb.debian.org/debian 2>"$CACHE/mmdebstrap.log" |
    "${CONTAINER[@]}" import - "$1" >/dev/null || setup_fail "mmdebstrap failed; see $CACHE/mmdebstrap.log"
}

# local_rust FROM NAME: the image FROM with the Rust of this machine.
local_rust() {
  local toolchain context
  toolchain="$(rustc --print sysroot)"
  context="$(mktemp -d)"
  mkdir -p "$context/rust"
  cp -a "$toolchain/bin" "$toolchain/lib" "$context/rust/"
  rm -rf "$context/rust/lib/rustlib/src"
  printf 'FROM %s\nCOPY rust /usr/local\n' "$1" >"$context/Dockerfile"
  "${BUILD[@]}" -q -t "$2" "$context" >/dev/null
  rm -rf "$context"
}

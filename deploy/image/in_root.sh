#!/usr/bin/env bash
# Runs the ingress among the image's files instead of this machine's: for the tests, which start, signal and kill it as they do any
# program. IMAGE_ROOT is a directory with the image's files; the arguments are the program's. Needs root.
set -euo pipefail
exec unshare --mount --propagation private -- bash -c '
  for directory in proc dev tmp; do
    mount --rbind "/$directory" "$IMAGE_ROOT/$directory"
  done
  # As container tools do: what a name means is the machine'"'"'s affair.
  for file in hosts resolv.conf; do
    touch "$IMAGE_ROOT/etc/$file"
    mount --bind "/etc/$file" "$IMAGE_ROOT/etc/$file"
  done
  export PATH=/usr/bin GST_REGISTRY=/usr/lib/ingress/gstreamer-registry GST_REGISTRY_UPDATE=no
  exec /usr/sbin/chroot "$IMAGE_ROOT" /usr/bin/ingress "$@"' in_root "$@"

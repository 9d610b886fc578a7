#!/usr/bin/env bash
# Runs one Rust test binary: cargo calls it with the binary's path and arguments (see cmd_test in ../x). Cargo runs one binary after
# the other, and each runs its tests side by side. The binaries below run theirs one at a time:
#   transcode      feeds real decoders and encoders in real time and looks at what they drop
#   demux          plays sources at their own pace through GStreamer
#   children       starts, stops and starves worker processes and waits for their deadlines
#   rtmp_encoders  pushes with ffmpeg at the pace of the media
#   worker         looks at the processor time of its threads
#   signals        starts the whole program on ports that have to be free
set -euo pipefail
case "$(basename "$1")" in
  transcode-* | demux-* | children-* | rtmp_encoders-* | worker-* | signals-*) export RUST_TEST_THREADS=1 ;;
esac
exec "$@"

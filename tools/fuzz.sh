#!/usr/bin/env bash
# Runs each fuzz target for SECONDS: tools/fuzz.sh SECONDS [TARGET…]. Called by `./x fuzz`. A crash ends it, with the
# input's file; what was found worth keeping stays in fuzz/cargo-fuzz/corpus. libFuzzer needs a nightly compiler.
set -euo pipefail
seconds="$1"
shift
[[ "$seconds" =~ ^[0-9]+$ ]] || { echo "fuzz: how many seconds? '$seconds' is not a number" >&2; exit 64; }
tool="$INGRESS_CACHE/cargo-fuzz-0.13.2"
if ! cargo +nightly --version >/dev/null 2>&1; then
  command -v rustup >/dev/null || { echo "fuzz: please install a nightly Rust compiler (https://rustup.rs)" >&2; exit 1; }
  echo "fuzz: installing the nightly compiler with rustup"
  rustup toolchain install nightly --profile minimal </dev/null
fi
if [ ! -x "$tool/bin/cargo-fuzz" ]; then
  echo "fuzz: installing cargo-fuzz into $tool"
  cargo install -q --locked --root "$tool" cargo-fuzz@0.13.2 </dev/null
fi
PATH="$tool/bin:$PATH"
cd fuzz/cargo-fuzz
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir .)
for target in "${targets[@]}"; do
  echo "fuzz: $target for $seconds s"
  mkdir -p "corpus/$target"
  cargo +nightly fuzz run --fuzz-dir . "$target" "corpus/$target" "../seeds/$target" -- -max_total_time="$seconds" -print_final_stats=1 -verbosity=0
done

#!/usr/bin/env bash
# Makes what a release consists of, in DIRECTORY: a Debian package, a tarball, a bill of materials, checksums.
# usage: package.sh PROGRAM DIRECTORY   (PROGRAM is a release build of this tree)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program="$(realpath "$1")"
mkdir -p "$2"
out="$(realpath "$2")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

version="$("$program" --version | cut -d' ' -f2)"
arch="$(dpkg --print-architecture 2>/dev/null || uname -m)"
# Files of the same commit are the same bytes, whenever they are made.
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH

# ---- what both hold, as it lies in a system ----
root="$work/root"
install -Dm755 "$program" "$root/usr/bin/ingress"
strip --strip-debug "$root/usr/bin/ingress"
install -Dm644 deploy/systemd/livekit-ingress.service "$root/usr/lib/systemd/system/livekit-ingress.service"
install -Dm644 config-sample.yaml "$root/usr/share/doc/livekit-ingress/config-sample.yaml"
install -Dm644 LICENSE "$root/usr/share/doc/livekit-ingress/copyright"
install -Dm644 CHANGELOG.md "$root/usr/share/doc/livekit-ingress/CHANGELOG.md"
python3 tools/dependencies.py licences "$work/licences"
gzip -9n <"$work/licences" >"$root/usr/share/doc/livekit-ingress/THIRD-PARTY.gz"
install -d "$root/usr/share/man/man1" "$root/usr/share/zsh/vendor-completions" \
  "$root/usr/share/bash-completion/completions" "$root/usr/share/fish/vendor_completions.d"
"$program" manual | gzip -9n >"$root/usr/share/man/man1/ingress.1.gz"
"$program" completions bash >"$root/usr/share/bash-completion/completions/ingress"
"$program" completions zsh >"$root/usr/share/zsh/vendor-completions/_ingress"
"$program" completions fish >"$root/usr/share/fish/vendor_completions.d/ingress.fish"

python3 tools/dependencies.py sbom "$out/livekit-ingress-$version.cdx.json"

# ---- the tarball ----
name="livekit-ingress-$version-linux-$arch"
tar -C "$root" --owner=0 --group=0 --sort=name --mtime="@$SOURCE_DATE_EPOCH" --transform "s|^\.|$name|" -cf - . | gzip -9n >"$out/$name.tar.gz"

# ---- the Debian package ----
if command -v dpkg-deb >/dev/null; then
  # A file that users change is not touched by upgrades.
  install -Dm640 deploy/debian/config.yaml "$root/etc/livekit-ingress/config.yaml"
  mkdir -p "$root/DEBIAN" "$work/debian"
  echo /etc/livekit-ingress/config.yaml >"$root/DEBIAN/conffiles"
  install -m755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$root/DEBIAN/"
  # dpkg-shlibdeps wants the file of a source package.
  printf 'Source: livekit-ingress\n\nPackage: livekit-ingress\nArchitecture: any\n' >"$work/debian/control"
  libraries="$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info root/usr/bin/ingress 2>/dev/null | sed -n 's/^shlibs:Depends=//p')"
  cat >"$root/DEBIAN/control" <<CONTROL
Package: livekit-ingress
Version: $version
Architecture: $arch
Maintainer: The maintainers of livekit-ingress <maintainers@livekit-ingress.invalid>
Installed-Size: $(du -sk "$root" | cut -f1)
Depends: $libraries, passwd, ca-certificates, gstreamer1.0-plugins-base, gstreamer1.0-plugins-good, gstreamer1.0-plugins-bad, gstreamer1.0-plugins-ugly, gstreamer1.0-libav
Section: video
Priority: optional
Description: Brings RTMP, WHIP and URL sources into LiveKit rooms
 Takes what OBS, ffmpeg, browsers and hardware encoders send over RTMP and WHIP,
 or pulls files, HLS, SRT and RTSP by URL, and publishes it to a LiveKit room.
CONTROL
  dpkg-deb --root-owner-group --build "$root" "$out/livekit-ingress_${version}_$arch.deb" >/dev/null
fi

(cd "$out" && sha256sum -- *"$version"* >SHA256SUMS)
ls -l "$out"

#!/bin/sh
# Run inside the image build, on a Debian with all of GStreamer: lays out in OUT what the image consists of: the program, the plugins
# that hold the elements of elements.txt, the libraries that these need, certificates, and a small shell for debugging and for health
# checks that call wget. collect.sh PROGRAM ELEMENTS OUT
set -eu
program=$1 elements=$2 out=$3
registry=/usr/lib/ingress/gstreamer-registry

fail() { echo "collect.sh: $*" >&2; exit 1; }

# With its directory; what it is a link to, not the link. The image has /bin and /lib as links into /usr, as Debian has them.
put() {
  case "$1" in /bin/* | /sbin/* | /lib/* | /lib64/*) to="$out/usr$1" ;; *) to="$out$1" ;; esac
  [ -e "$to" ] || { mkdir -p "${to%/*}" && cp -pL "$1" "$to"; }
}

# The libraries of a file, each by its path.
libraries() {
  ldd "$1" >/tmp/ldd || fail "ldd can't read $1"
  ! grep "not found" /tmp/ldd >&2 || fail "$1 lacks libraries"
  grep -o '/[^ ]*' /tmp/ldd
}

plugins=""
for element in $(sed 's/#.*//' "$elements"); do
  file=$(gst-inspect-1.0 "$element" 2>/dev/null | sed -n 's/^ *Filename *//p')
  [ -n "$file" ] || fail "no package of the image has the element $element"
  plugins="$plugins $file"
done
# What finds out what a stream is has no element.
plugins="$plugins $(gst-inspect-1.0 typefindfunctions | sed -n 's/^ *Filename *//p')"
plugins=$(printf '%s\n' $plugins | sort -u)
directory=$(dirname "$(printf '%s\n' $plugins | head -n 1)")

mkdir -p "$out/usr/bin" "$out/usr/lib" "$out/etc" "$out/tmp" "$out/var/lib/dpkg/status.d" "$out/proc" "$out/sys" "$out/dev" "$out/run"
chmod 1777 "$out/tmp"
for link in bin sbin lib lib64; do
  [ ! -L "/$link" ] || { mkdir -p "$out/usr/$link" && ln -sfn "usr/$link" "$out/$link"; }
done

cp "$program" "$out/usr/bin/ingress"
scanner=$(find /usr/lib /usr/libexec -name gst-plugin-scanner | head -n 1)
for file in $plugins "$scanner" /etc/ssl/certs/ca-certificates.crt /etc/ssl/openssl.cnf /usr/bin/busybox; do
  put "$file"
done
for file in "$program" "$scanner" /usr/bin/busybox $plugins; do
  ldd "$file" >/dev/null 2>&1 || continue # a static program
  for library in $(libraries "$file"); do put "$library"; done
done
for name in sh wget ls cat ps env nc id grep sleep; do ln -sf busybox "$out/usr/bin/$name"; done

# The registry is made here, once: nothing can be written where the image runs, and looking through all plugins costs each worker half
# a second. It must know of no plugin that is left out.
for file in "$directory"/*.so; do
  case " $(printf '%s ' $plugins)" in *" $file "*) ;; *) rm "$file" ;; esac
done
mkdir -p "$out/${registry%/*}"
GST_REGISTRY="$out$registry" gst-inspect-1.0 >/dev/null
for element in $(sed 's/#.*//' "$elements"); do
  GST_REGISTRY="$out$registry" GST_REGISTRY_UPDATE=no gst-inspect-1.0 "$element" >/dev/null || fail "$element is lost"
done

echo 'root:x:0:0::/:/bin/sh
ingress:x:65532:65532::/tmp:/bin/sh' >"$out/etc/passwd"
echo 'root:x:0:
ingress:x:65532:' >"$out/etc/group"
echo 'hosts: files dns' >"$out/etc/nsswitch.conf"
cp /etc/os-release "$out/etc/os-release"

chmod -R a+rX "$out"

# Which packages it comes from, with their versions and licences: scanners for known faults read status.d, people the rest.
find "$out/usr" -type f | sed "s|^$out||" | while read -r file; do
  dpkg -S "$file" 2>/dev/null || dpkg -S "${file#/usr}" 2>/dev/null || dpkg -S "*${file##*/}" 2>/dev/null || true
done | sed 's/: .*//; s/, /\n/g' | cut -d: -f1 | sort -u | while read -r package; do
  dpkg -s "$package" >"$out/var/lib/dpkg/status.d/$package"
  [ ! -e "/usr/share/doc/$package/copyright" ] || put "/usr/share/doc/$package/copyright"
done

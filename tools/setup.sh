#!/bin/sh
# Installs what diffc builds with (Debian packages), and any packages named besides, as root or through sudo. Does nothing when all are there.
set -eu
packages="gcc g++ cmake ninja-build pkg-config libc6-dev libjansson-dev libutf8proc-dev libopenblas-dev libcpuinfo-dev
libpng-dev libjpeg62-turbo-dev libwebp-dev zlib1g-dev nettle-dev libsqlite3-dev libxxhash-dev libcmocka-dev $*"
missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
as_root=""
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update -q
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

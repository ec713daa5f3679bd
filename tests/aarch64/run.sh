#!/bin/sh
# run.sh SOURCE WORK - compiles every file of the library and the program for aarch64 (warnings are errors), then runs the kernels' check under
# qemu. Headers of libraries come from this machine: they do not depend on the architecture as far as we use them.
set -eu
source=$1 work=$2
mkdir -p "$work"
cd "$source"
headers="-I. -idirafter /usr/include -idirafter /usr/include/$(gcc -print-multiarch)"
flags="-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -DDIFFC_VERSION=\"0\" -DDIFFC_MODULE_DIR=\"/usr/local/lib/diffc\" $headers"
objects=""
for f in base/*.c backends/*.c backends/ref/*.c backends/cpu/*.c weights/*.c image/*.c clip/*.c unet/*.c vae/*.c scheduler/*.c prompt/*.c pipeline/*.c search/*.c apps/cli/*.c; do
    o="$work/$(echo "$f" | tr / _).o"
    aarch64-linux-gnu-gcc $flags -c "$f" -o "$o"
    case $f in base/json.c | base/npy.c) ;; base/* | backends/*) objects="$objects $o" ;; esac
done
aarch64-linux-gnu-gcc $flags -static tests/aarch64/check.c $objects -lm -lpthread -o "$work/check"
qemu-aarch64 "$work/check"

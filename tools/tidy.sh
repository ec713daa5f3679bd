#!/bin/sh
# clang-tidy over the library and the program, with the compile commands of build/release. Some minutes.
set -eu
cd "$(dirname "$0")/.."
[ -f build/release/compile_commands.json ] || cmake --preset release >/dev/null
git ls-files 'base/*.c' 'backends/*.c' 'weights/*.c' 'image/*.c' 'scheduler/*.c' 'clip/*.c' 'prompt/*.c' 'unet/*.c' 'vae/*.c' 'pipeline/*.c' 'apps/*.c' |
    grep -vE '_(avx2|avx512|portable)\.c$' | xargs -n 8 clang-tidy -p build/release --quiet

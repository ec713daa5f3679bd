#!/bin/sh
# Sets up, builds and runs all tests: release, then with the address and undefined-behaviour sanitizers.
set -eu
cd "$(dirname "$0")/.."
tools/setup.sh gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user valgrind libsdl2-dev libsdl2-ttf-dev libfontconfig-dev fonts-dejavu-core xvfb xdotool
for preset in release asan; do
    cmake --preset "$preset" -DDIFFC_TESTS=ON
    cmake --build --preset "$preset"
    ctest --preset "$preset"
done

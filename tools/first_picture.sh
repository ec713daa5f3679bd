#!/bin/sh
# Sets up, builds, and draws a picture with the model that comes with diffc.
set -eu
cd "$(dirname "$0")/.."
tools/setup.sh
cmake --preset release -DDIFFC_TESTS=OFF >/dev/null
cmake --build --preset release
build/release/diffc txt2img "a cat face" --seed 11

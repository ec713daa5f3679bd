#!/bin/sh
# Formats all C and CUDA files as .clang-format says (clang-format 14); with --check only tells which differ.
set -eu
cd "$(dirname "$0")/.."
how=-i
[ "${1:-}" = --check ] && how="--dry-run --Werror"
git ls-files '*.c' '*.h' '*.cu' '*.cc' | grep -v '^tests/bad_tree/' | xargs clang-format $how

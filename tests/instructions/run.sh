#!/bin/sh
# run.sh PROGRAM COUNTS WORK COMPILER [--write] - instructions of each kernel class (kernels.c) under callgrind, beside those recorded in COUNTS.
# A kernel that takes another number, by more than the margin and either way, fails: slower is a regression, faster is to be recorded. With
# --write they are recorded (cmake --build --preset release --target instructions).
#
# The margin: one compiler, C library and valgrind (whose processor is always the same one) give the same counts to the last digit. 3 % leaves room
# for other patch versions of them; a spilled vector in an inner loop of twelve multiply-adds is 8 %, a loop no longer in vectors several times 100.
set -eu
program=$1 counts=$2 work=$3 compiler=$4 mode=${5:-check} margin=0.03
skip() {
    echo "skipped: $1"
    exit 77
}
recorded=$(sed -n 's/^# compiler: //p' "$counts" 2>/dev/null || true)
command -v valgrind >/dev/null || skip "valgrind is not installed (tools/check.sh installs it)"
[ "$mode" = --write ] || [ "$compiler" = "$recorded" ] || skip "the compiler is $compiler, the counts are of $recorded"
grep -qw avx2 /proc/cpuinfo || skip "this machine has no AVX2"

rm -rf "$work"
mkdir -p "$work"
valgrind -q --tool=callgrind --callgrind-out-file="$work/out" --collect-atstart=no --toggle-collect=measured --dump-after=measured \
    "$program" >"$work/names"
i=0
while read -r name; do
    i=$((i + 1))
    echo "$name $(awk '/^(summary|totals):/ { n = $2 } END { print n }' "$work/out.$i")"
done <"$work/names" >"$work/found"

# One line a difference.
compare() {
    awk -v margin=$margin '
        FNR == NR { if ($1 !~ /^#/ && NF) expected[$1] = $2; next }
        !($1 in expected) { print $1 ": found " $2 " instructions, expected none: a new kernel?"; next }
        { if ($2 < expected[$1] * (1 - margin) || $2 > expected[$1] * (1 + margin))
              printf "%s: found %d instructions, expected %d (%+.1f %%)\n", $1, $2, expected[$1], 100 * ($2 / expected[$1] - 1)
          delete expected[$1] }
        END { for (name in expected) print name ": found nothing, expected " expected[name] " instructions" }' "$1" "$2"
}

if [ "$mode" = --write ]; then
    { echo "# Instructions of one call of each kernel class, AVX2, one thread (kernels.c); rewritten by: cmake --build --preset release --target instructions"
      echo "# compiler: $compiler"
      cat "$work/found"; } >"$counts"
    exit
fi
differences=$(compare "$counts" "$work/found")
if [ -n "$differences" ]; then
    echo "$differences"
    echo "Meant so? cmake --build --preset release --target instructions"
    exit 1
fi
# The comparison itself can fail: one kernel 4 % up, one 4 % down, one gone.
awk 'NR == 1 { $2 = int($2 * 1.04) } NR == 2 { $2 = int($2 * 0.96) } NR != 3' "$work/found" >"$work/wrong"
[ "$(compare "$work/found" "$work/wrong" | wc -l)" = 3 ] || { echo "the comparison does not find three wrong counts"; exit 1; }

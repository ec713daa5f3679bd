# common.sh - for the scripts beside it: sh test_X.sh DIFFC TESTS ASSETS
set -u
diffc=$1
tests=$2
export DIFFC_ASSETS=$3 DIFFC_CONFIG=
model=$tests/golden/models/sd1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 99
failures=0

fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}

# refused CODE PATTERN ARGUMENTS...: exits with CODE, one "diffc: ..." line that matches PATTERN, nothing on stdout, nothing written.
refused() {
    code=$1 pattern=$2
    shift 2
    before=$(ls -A | sort)
    "$diffc" "$@" >../out.$$ 2>../err.$$ </dev/null
    got=$?
    [ "$got" = "$code" ] || fail "exit $got, want $code: diffc $* : $(head -c 300 ../err.$$)"
    [ "$(grep -c '^diffc: ' ../err.$$)" = 1 ] || fail "not one line of error: diffc $* : $(head -c 300 ../err.$$)"
    grep -q -e "$pattern" ../err.$$ || fail "no \"$pattern\" in: diffc $* : $(head -c 300 ../err.$$)"
    [ -s ../out.$$ ] && fail "output: diffc $*"
    [ "$before" = "$(ls -A | sort)" ] || fail "wrote something: diffc $* : $(ls -A)"
    rm -f ../out.$$ ../err.$$
}

finish() {
    [ "$failures" = 0 ] && exit 0
    echo "$failures failures"
    exit 1
}

# Stopped and killed: the right exit code, quickly, and nothing half-written.
. "$2/cli/common.sh"
long="txt2img house -m $model --steps 1000 -W 128 -H 128 -s 1 -q"

stopped() { # SIGNAL CODE
    echo old >kept.png
    "$diffc" $long -o kept.png 2>err &
    pid=$!
    sleep 0.7
    kill -"$1" $pid
    began=$(date +%s%N)
    wait $pid
    got=$?
    took=$((($(date +%s%N) - began) / 1000000))
    [ $got = "$2" ] || fail "SIG$1: exit $got, want $2"
    [ $took -lt 1500 ] || fail "SIG$1: took $took ms"
    [ "$(cat kept.png)" = old ] || fail "SIG$1: the old file was touched"
    rm -f err kept.png
    [ -z "$(ls -A)" ] || fail "SIG$1: left behind $(ls -A)"
}
stopped INT 130
stopped TERM 143

# killed at random moments of writing many pictures: what carries a final name is whole
for delay in 0.05 0.1 0.15 0.2 0.3; do
    "$diffc" txt2img house -m "$model" --steps 1 -W 64 -H 64 -b 1000 -s 1 -q -o 'k-{seed}.png' 2>/dev/null &
    pid=$!
    sleep $delay
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    for f in k-*.png; do
        [ -f "$f" ] || continue
        "$diffc" inspect "$f" >/dev/null || fail "$f is not whole"
    done
    rm -f k-*.png .diffc-*.partial
done
finish

# selftest as a user meets it, at every instruction set of this machine.
. "$2/cli/common.sh"

levels=0
for level in portable avx2 avx512; do
    "$diffc" selftest --quick --cpu $level -m "$model" >out 2>err
    code=$?
    [ $code = 69 ] && [ $level != portable ] && continue # not on this machine
    levels=$((levels + 1))
    [ $code = 0 ] || fail "$level: exit $code: $(cat out err)"
    grep -q "^cpu $level, .* f32" out || fail "$level: device: $(head -1 out)"
    grep -q '^[0-9]* checks of [0-9]* cases, all right' out || fail "$level: no summary: $(tail -1 out)"
    for check in conv2d strips linear geglu attention group_norm layer_norm embed gather timestep lincomb activate rescale_std stats to_rgb8 clip-text unet vae vae-encode picture; do
        grep -q "^$check .* ok  *ref" out || fail "$level: no line of $check: $(cat out)"
    done
    [ -s err ] && fail "$level: on stderr: $(cat err)"
done
[ $levels -ge 1 ] || fail "no level was tested"

# the default model, with its encoder of pictures; JSON
"$diffc" selftest --quick --json >out && grep -q '"ok": true' out && grep -q '"name": "clip-image"' out && grep -q '"failed": 0' out || fail "--json: $(cat out)"

# Ctrl-C, once it is at work
rm -f out err
"$diffc" selftest >out 2>err &
until [ -s out ] || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
kill -INT $!
wait $!
[ $? = 130 ] && grep -q '^diffc: stopped' err || fail "stopped: $(cat err)"

refused 64 'device: found abacus' selftest --device abacus
refused 64 'selftest: found "x"' selftest x
refused 66 'nowhere' selftest --quick -m nowhere
refused 64 'steps' selftest --steps 3
finish

# Pictures made again from what they say, in every format; the command line's word over it, and the table of fields.
. "$2/cli/common.sh"
export DIFFC_CONFIG=
init=$tests/golden/txt2img/sd1/img2img-ddim/init.png
n=0

# same ENDING MODEL-OPTIONS -- OPTIONS: the picture made with all of them, and again from itself with the model's alone, has the same bytes
same() {
    ending=$1 parts=""
    shift
    while [ "$1" != -- ]; do parts="$parts $1" && shift; done
    shift
    n=$((n + 1))
    "$diffc" txt2img $parts "$@" -q -o "a$n.$ending" || fail "first picture: $*"
    "$diffc" txt2img $parts --from "a$n.$ending" -q -o "b$n.$ending" || fail "second picture: $*"
    cmp "a$n.$ending" "b$n.$ending" || fail "another picture: $* : $("$diffc" inspect "a$n.$ending" | head -20)"
}
small="--steps 2 -W 64 -H 64 -s 7"
same png -m "$model" -- "a house" $small
same png -m "$model" -- '  a "house": (big:1.2), [old]
and a caf'"$(printf '\303\251 \347\214\253')" -n "blurry, low: quality" $small --sampler "DPM++ 2M Karras" --cfg 6.5 -s 18446744073709551615
same png -m "$model" -- house --steps 3 -W 72 -H 64 -s 3 --sampler ddim --eta 0.3 --clip-skip 2 --guidance-rescale 0.7 --rng cuda
same png -m "$model" -- house -W 64 -H 64 -s 3 --sampler euler --sigmas 14.6,3.141592653589793,0.1
same png -m "$model" --vae-tiling -- house --steps 1 -W 192 -H 128 -s 1
same png -m "$model" -i "$init" -- house --steps 4 --strength 0.55 -s 9
same png -m "$model" --taesd "$tests/golden/models/taesd" -- house $small
same png -m "$tests/golden/models/sdxl" -- house $small
same png -m "$tests/golden/models/sdxl" -- house -n "" $small
same png -m "$model" -- house $small --rng a1111 --sampler "DPM++ SDE"
same png -m "$model" -- house $small --rng comfyui --sampler euler_a --scheduler karras
same png -m "$model" -- house $small --scheduler k_karras --sampler lms
same jpg -m "$model" -- house $small
same webp -m "$model" -- house $small
same webp -m "$model" --lossless -- house $small
cmp -s a8.png a9.png && fail "an empty negative prompt is none"

# the command line wins, the file of defaults does not; what became of each field is told
m="-m $model"
printf 'steps = 1\nnegative-prompt = "no"\nwidth = 128\n' >defaults
DIFFC_CONFIG=defaults "$diffc" txt2img $m --from a2.png -o c.png 2>table >/dev/null && cmp a2.png c.png || fail "defaults over a replay"
grep -q '^a2.png, as diffc wrote it:' table && grep -q '^  Schedule type  *Karras  *honoured' table && grep -q '^  Model hash  *[0-9a-f]\{10\}  *honoured$' table || fail "table: $(cat table)"
"$diffc" txt2img $m "another house" --from a2.png --steps 1 -W 72 -s -1 --cfg 2 -o d.png 2>table >told || fail "overrides"
grep -q '^  Steps  *2  *changed: --steps is given' table && grep -q '^  Prompt  *a "house.*changed' table && grep -q 'Seed .*changed: --seed is given' table || fail "table of overrides: $(cat table)"
grep -q ' 72x64 ' told && ! grep -q 'seed 18446744073709551615' told || fail "overrides: $(cat told)"
"$diffc" inspect d.png | grep -q 'Steps: 1, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 2,' || fail "overrides: $("$diffc" inspect d.png)"
printf 'a tree\n-p "a boat" --steps 1\n' | "$diffc" txt2img $m --from a1.png --prompt-file - -q -o 'e-%d.png' || fail "lines over a replay"
grep -aq 'Steps: 2,.* Seed: 7' e-1.png && grep -aq 'Steps: 1,.* Seed: 7' e-2.png || fail "lines over a replay: $(strings e-1.png | head -5)"
"$diffc" txt2img $m --from a1.png --json -o f.png >out 2>err && [ ! -s err ] && grep -q '"field": "Sampler"' out && grep -q '"fate": "honoured"' out || fail "JSON: $(cat out err)"
"$diffc" txt2img $m --from a1.png --dry-run 2>table | grep -q 'peak memory' && [ -s table ] || fail "dry run of a replay"

# other programs' pictures and texts
text=$tests/golden/image/text
"$diffc" txt2img $m --from "$text/a1111.jpg" --steps 1 --size 64x64 -o g.png 2>table >/dev/null || fail "A1111's JPEG: $(cat table)"
grep -q 'a1111.jpg, as A1111 wrote it' table && grep -q 'RNG  *(not said: GPU)  *honoured' table || fail "A1111's table: $(cat table)"
grep -aq 'Negative prompt: dog' g.png && grep -aq 'Seed: 42' g.png || fail "A1111's values: $(strings g.png | head)"
"$diffc" inspect "$text/a1111.webp" | grep -q '  Sampler: Euler a' || fail "inspect shows fields: $("$diffc" inspect "$text/a1111.webp")"
"$diffc" txt2img $m --from "$tests/malformed/seeds/graph.json" -b 1 --batch-size 1 --steps 1 --size 64x64 -o h.png 2>table >/dev/null || fail "a graph: $(cat table)"
grep -q 'LoraLoader  *detail.safetensors, .*ignored: no LoRA yet' table && grep -q 'KSampler 11 .*ignored' table || fail "a graph's table: $(cat table)"
"$diffc" txt2img $m --from "$tests/malformed/seeds/parameters.txt" --steps 1 --size 64x64 -o i.png 2>table >/dev/null || fail "a text: $(cat table)"
grep -q 'LoRA  *<lora:x:0.5>  *ignored' table && grep -q 'Model hash .*changed: .*running' table || fail "a text's table: $(cat table)"
refused 66 'found no text in it' txt2img $m --from "$init"
refused 66 'nothing.png' txt2img $m --from nothing.png
refused 65 'found neither a picture nor text' txt2img $m --from "$tests/malformed/seeds/names.safetensors"

# quality and formats
"$diffc" txt2img house $m $small -q --quality 20 -o small.jpg && "$diffc" txt2img house $m $small -q --quality 95 -o large.jpg || fail "quality"
[ "$(stat -c %s small.jpg)" -lt "$(stat -c %s large.jpg)" ] || fail "quality makes no difference"
refused 64 'quality: found 101' txt2img house $m $small -q --quality 101 -o q.webp
refused 64 'found 40000 characters, expected at most 31000' txt2img "$(head -c 40000 /dev/zero | tr '\0' a)" $m $small -q -o q.jpg
"$diffc" txt2img house $m $small -i large.jpg --strength 0.5 -q -o r.png && "$diffc" txt2img house $m $small -i a15.webp --strength 0.5 -q -o s.png || fail "start images"
finish

# Random numbers by the rules of other programs.
. "$2/cli/common.sh"
t="-m $model --steps 2 -W 64 -H 64 -q"

# pictures of a batch, where each has its own generator, are those made alone; Brownian noise too
"$diffc" txt2img house $t -s 5 --rng a1111 --sampler dpm++sde -b 2 --batch-size 2 -o 'a-{seed}.png' || fail "a batch of A1111"
"$diffc" txt2img house $t -s 6 --rng webui --sampler dpm++sde -o one.png && cmp -s one.png a-6.png || fail "a picture depends on its batch"
"$diffc" txt2img house $t -s 6 --rng cuda --sampler dpm++sde -o one.png && ! cmp -s one.png a-6.png || fail "cuda has Brownian noise"

# a batch that is drawn at once has one seed, and a number in every name
"$diffc" txt2img house $t -s 5 --rng comfyui -b 2 --batch-size 2 -o 'c-{seed}.png' && [ -f c-5-0001.png ] && [ -f c-5-0002.png ] || fail "one seed: $(ls)"
grep -aq 'Seed: 5,.*RNG: CPU, RNG convention: comfyui, Batch size: 2, Batch pos: 1' c-5-0002.png || fail "a batch's text: $(strings c-5-0002.png | head -3)"
"$diffc" txt2img house $t -s 5 -o one.png && cmp -s one.png c-5-0001.png && fail "a batch's first picture is one drawn alone"

# variations, and what a picture's text says of them
"$diffc" txt2img house $t -s 5 --rng a1111-cpu --subseed 9 --subseed-strength 0.25 --ensd 31337 --seed-resize-from 32x48 -b 2 -o 'v-{seed}.png' || fail "variations"
grep -aq 'Seed: 5,.*Variation seed: 10, Variation seed strength: 0.25, Seed resize from: 32x48, .*ENSD: 31337, RNG: CPU' v-5-0002.png || fail "a variation's text: $(strings v-5-0002.png | head -3)"
cmp -s v-5-0001.png v-5-0002.png && fail "variations are the same"
"$diffc" txt2img house $t -s 5 --variation-seed 9 --variation-strength 0 -o w.png && cmp -s w.png one.png || fail "a variation of strength 0"

# start noise without a model
"$diffc" noise --rng a1111 -s 3 --shape 2,4,8,8 -o n.npy && "$diffc" noise --rng cuda -s 4 --shape 1,4,8,8 -o m.npy || fail "noise"
[ "$(tail -c 1024 n.npy | md5sum)" = "$(tail -c 1024 m.npy | md5sum)" ] || fail "the second picture's noise is not that of seed + 1"

t="txt2img house -m $model --steps 2 -W 64 -H 64"
refused 64 'ensd: found it with rng comfyui' $t --rng comfyui --ensd 1
refused 64 'variation-strength: found it with rng diffusers' $t --rng diffusers --variation-strength 0.1
refused 64 'variation-strength: found 1.1' $t --variation-strength 1.1
refused 64 'seed-resize-from: width: found 4' $t --seed-resize-from 4x64
refused 64 'rng: found nvidia' $t --rng nvidia
refused 64 'ensd: found "x"' $t --ensd x
finish

# The program in ordinary use.
. "$2/cli/common.sh"
t="-m $model --steps 2 -W 64 -H 64"

# the default model, the next free number, nothing overwritten
"$diffc" txt2img "a cat face" -s 11 --steps 2 >out || fail "default model"
grep -q '^diffc-0001.png  seed 11  128x128' out || fail "result line: $(cat out)"
cp diffc-0001.png first.png
"$diffc" txt2img "a cat face" -s 11 --steps 2 -q || fail "second run"
cmp -s diffc-0001.png diffc-0002.png || fail "same seed, other bytes"
cmp -s diffc-0001.png first.png || fail "the first picture was overwritten"
rm ./*.png

# patterns and stdout
"$diffc" txt2img house $t -s 5 -b 2 -q -o 'a-{seed}.png' && [ -f a-5.png ] && [ -f a-6.png ] || fail "{seed}: $(ls)"
"$diffc" txt2img house $t -s 5 -b 2 -q -o b.png && [ -f b-0001.png ] && [ -f b-0002.png ] || fail "several pictures: $(ls)"
cmp -s a-5.png b-0001.png || fail "{seed} and number differ"
"$diffc" txt2img house $t -s 5 -o - 2>err >c.png || fail "stdout"
cmp -s a-5.png c.png || fail "stdout is another picture"
"$diffc" txt2img house $t -s 5 -q -o c.png -t 3 && cmp -s a-5.png c.png || fail "a named file is replaced; threads do not matter"
ln -s target.png link.png
"$diffc" txt2img house $t -s 5 -q -o link.png && [ -L link.png ] && cmp -s a-5.png target.png || fail "a link is followed"
rm -f ./*.png

# a scheduler file from before steps_offset: diffusers' pipeline of Stable Diffusion 1.x and 2.x reads it as 1
mkdir -p old/sd1/scheduler
ln -s "$model"/model_index.json "$model"/text_encoder "$model"/unet "$model"/vae old/sd1
grep -v steps_offset "$model/scheduler/scheduler_config.json" >old/sd1/scheduler/scheduler_config.json
"$diffc" txt2img house $t -s 5 --sampler ddim -q -o new.png && "$diffc" txt2img house -m old/sd1 --steps 2 -W 64 -H 64 -s 5 --sampler ddim -q -o old.png || fail "steps_offset"
cmp -s new.png old.png || fail "a scheduler without steps_offset draws another picture"

# parameters in the picture, random seed told
"$diffc" txt2img -p "a house" -n "blurry" $t -s 7 --sampler "DPM++ 2M Karras" --cfg 6.5 -q -o p.png || fail "aliases"
grep -aq "Negative prompt: blurry" p.png && grep -aq "Steps: 2, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 7, Size: 64x64, Model hash: e59ea943e0, Model: sd1, RNG: CPU" p.png || fail "parameters: $(strings p.png | head -5)"
"$diffc" txt2img house $t -o r.png | grep 'seed [0-9]' >/dev/null || fail "random seed not told"

# JSON, dry run, profile, latent, trace
"$diffc" txt2img house $t -s 1 --json -o j.png >out && grep -q '"seed": 1' out && grep -q '"path": "j.png"' out || fail "JSON result: $(cat out)"
"$diffc" txt2img house $t --dry-run >out && grep -q 'peak memory' out || fail "dry run"
"$diffc" txt2img house $t --dry-run --json | grep '"peak_bytes"' >/dev/null || fail "dry run as JSON"
"$diffc" txt2img house $t -s 1 --profile -q -o j.png 2>err && grep -q 'conv2d' err || fail "profile: $(cat err)"
"$diffc" txt2img house $t -s 1 -q --save-latent l.npy --trace traced -o j.png || fail "trace"
head -c 200 l.npy | grep -aq "(1,4,8,8)" || fail "latent's shape: $(head -c 128 l.npy)"
for f in text_encoder/hidden.0 unet/step-000/conv_in unet/step-000/down_blocks.0.resnets.0 unet/step-001/mid_block; do
    [ -s "traced/$f.npy" ] || fail "no traced/$f.npy: $(ls traced traced/* | head)"
done

# the other commands
[ "$("$diffc" tokenize 'a red apple')" = "[49406, 320, 736, 3055, 49407]" ] || fail "tokenize: $("$diffc" tokenize 'a red apple')"
[ "$("$diffc" tokenize -m "$DIFFC_ASSETS/default" "a red apple, noto style")" = "[8190, 320, 736, 3055, 267, 578, 531, 1844, 8191]" ] || fail "tokenize with a model"
"$diffc" noise --rng cpu -s 42 --shape 1,4,8,8 -o n.npy && [ "$(stat -c %s n.npy)" = $((128 + 1024)) ] || fail "noise"
"$diffc" schedule --sampler euler --scheduler karras --steps 5 --json | grep '"timesteps"' >/dev/null || fail "schedule"
"$diffc" schedule --sampler ddim --steps 5 -m "$model" | grep '801' >/dev/null || fail "schedule of a model"
"$diffc" schedule --sampler euler --scheduler ddim_uniform --steps 30 | grep '31 steps (asked for: 30)' >/dev/null || fail "a schedule of more steps"
"$diffc" schedule --sampler "DPM++ 2M" --rng a1111 --scheduler karras,ays,kl_optimal --steps 9 --plot plot.png && "$diffc" inspect plot.png | grep '900' >/dev/null || fail "schedule --plot"
"$diffc" txt2img "a red apple" -m "$model" --sampler dpm_adaptive -g 1 -W 32 -H 32 -q -o adaptive.png && "$diffc" txt2img "a red apple" -m "$model" --sampler "Euler CFG++" -g 1 --steps 2 -W 64 -H 64 -q -o pp.png || fail "samplers"
"$diffc" inspect "$model" | grep 'StableDiffusionPipeline' >/dev/null || fail "inspect a model"
"$diffc" inspect "$model/unet/diffusion_pytorch_model.safetensors" --json | grep '"conv_in.weight"' >/dev/null || fail "inspect a file"
"$diffc" inspect n.npy | grep 'f4' >/dev/null || fail "inspect .npy"
"$diffc" inspect j.png | grep 'Steps: 2' >/dev/null || fail "inspect a picture: $("$diffc" inspect j.png)"
"$diffc" bench unet -m "$model" --seconds 0 --json | grep '"seconds"' >/dev/null || fail "bench unet"
"$diffc" bench vae -m "$model" --seconds 0 | grep 'GFLOP' >/dev/null || fail "bench vae"
"$diffc" bench unet -m "$model" --plan | grep 'attention .* keys  *streaming f32 .* queries' >/dev/null || fail "bench --plan"
"$diffc" bench vae -m "$model" --plan --exact --json >p.json || fail "bench --plan --json"
grep '"algorithm": "direct f32"' p.json >/dev/null && ! grep '"algorithm": "winograd' p.json >/dev/null || fail "bench --plan --exact: $(cat p.json)"
grep '"scope": "decoder.mid_block' p.json >/dev/null && ! grep '"seconds"' p.json >/dev/null || fail "bench --plan --json: $(cat p.json)"
"$diffc" bench clip-text -m "$model" --seconds 0 --batch 2 -o text.npy >/dev/null || fail "bench clip-text"
"$diffc" inspect text.npy | grep 'shape: \[2,77,' >/dev/null || fail "bench -o: $("$diffc" inspect text.npy)"
"$diffc" tokenize --explain "a (red:1.3) [house:boat:0.5] AND x :0.5" --steps 4 | grep 'red</w>:1.3 boat</w>' >/dev/null || fail "tokenize --explain"
"$diffc" tokenize --explain "a (red:1.3) [house:boat:0.5]" --json | grep '"weight": 1.3' >/dev/null || fail "tokenize --explain --json"
"$diffc" txt2img "a {red|blue} __color__ house" --wildcards "$tests/golden/prompt/wildcards" $t -b 2 -s 1 -q -o wild.png || fail "wildcards"
"$diffc" inspect wild-0002.png >p.txt && grep 'parameters: a [rb][a-z]* [a-z]* house' p.txt >/dev/null && grep 'Template: a {red|blue} __color__ house' p.txt >/dev/null ||
    fail "wildcards: $(cat p.txt)"
"$diffc" version | grep '^diffc [0-9]' >/dev/null || fail "version"
"$diffc" --help | grep txt2img >/dev/null || fail "help"
"$diffc" txt2img --help | grep -e '--cfg-scale' >/dev/null || fail "help of a command"

# Under a limit the VAE works in strips, and the picture is the same.
large="-m $model --steps 1 -W 384 -H 512 -s 1"
peak_of() { "$diffc" txt2img house $large --dry-run --json "$@" >p.json && sed -n 's/.*"peak_bytes": \([0-9]*\).*/\1/p' p.json; }
whole=$(peak_of)
limit=$((whole - 8000000))
grep '"strip_rows": [1-9]' p.json && fail "strips without a limit"
strips=$(peak_of --max-memory $limit)
[ "$(grep -c '"strip_rows": [1-9]' p.json)" = 1 ] && [ "$strips" -le "$limit" ] || fail "whole $whole, limit $limit, strips $strips: $(cat p.json)"
"$diffc" txt2img house $large -q -o w.png && "$diffc" txt2img house $large -q --max-memory $limit -o s.png && cmp w.png s.png || fail "strips change the picture"
"$diffc" txt2img house $large --dry-run --max-memory $limit | grep 'in strips of [0-9]* rows' >/dev/null || fail "dry run of strips"
"$diffc" txt2img house $large --max-memory $((whole / 3)) -o n.png 2>err
[ $? = 71 ] && grep 'vae decoder in strips of 32 rows' err >/dev/null || fail "no strip fits: $(cat err)"

# img2img, a TAESD, tiling
init=$tests/golden/txt2img/sd1/img2img-ddim/init.png
"$diffc" txt2img house $t -i "$init" --strength 0.5 -s 1 -q -o i.png || fail "img2img"
"$diffc" txt2img house $t -i - --strength 0.5 -s 1 -q -o i2.png <"$init" && cmp -s i.png i2.png || fail "img2img from stdin"
"$diffc" txt2img house $t --taesd "$tests/golden/models/taesd" -s 1 -q -o t.png || fail "TAESD"
"$diffc" txt2img house -m "$model" --steps 1 -W 192 -H 128 --vae-tiling -s 1 -q -o v.png || fail "tiling"
finish

# Bad input: one clear line, the right exit code, nothing written.
. "$2/cli/common.sh"
t="txt2img house -m $model --steps 2 -s 1"

# options and values
refused 64 "found --stepz" txt2img house --stepz 3
refused 64 "Did you mean --steps" txt2img house --stepz 3
refused 64 "whole number" txt2img house --steps abc
refused 64 "steps: found 0" txt2img house -m "$model" --steps 0
refused 64 "steps: found 100000" txt2img house -m "$model" --steps 100000
refused 64 "multiple of 8 (96 or 104)" $t -W 100
refused 64 "expected 8 to 4096" $t -W 4
refused 64 "expected 8 to 4096" $t -H 8192
refused 64 "did you mean euler" $t --sampler eulre
refused 64 "scheduler: found krras" $t --scheduler krras
refused 64 "own timesteps" $t --sampler ddim --scheduler karras
refused 64 "cfg-scale" $t --cfg-scale -3
refused 64 "batch-size" $t --batch-size 100
refused 64 "clip-skip" $t --clip-skip 60
refused 64 "rng: found" $t --rng dice
refused 64 "UTF-8" txt2img "$(printf 'caf\351')" -m "$model"
refused 64 "byte 5: weight: found" txt2img "a (b:1.2.3)" -m "$model"
refused 64 "prompt-syntax: found sd" $t --prompt-syntax sd
refused 64 "emphasis: found much" $t --emphasis much
refused 77 "inside the folder" txt2img "__../x__" -m "$model" --wildcards "$tests/golden/prompt/wildcards"
refused 66 "wildcard __nothing__" txt2img "__nothing__" -m "$model" --wildcards "$tests/golden/prompt/wildcards"
refused 64 "prompt: found none" txt2img -m "$model"
refused 64 "quotes" txt2img two words -m "$model"
refused 64 "found nothing after it" txt2img house --steps
refused 64 "WIDTHxHEIGHT" $t --size 64
refused 64 "device: found abacus" $t --device abacus
export CUDA_VISIBLE_DEVICES= # none, where there are some
if [ -e "${diffc%/*}/diffc-cuda.so" ]; then refused 69 'no GPU\|no NVIDIA driver' $t --device cuda; else refused 69 "cuda" $t --device cuda; fi
refused 69 "precision int8" $t --precision int8 --cpu portable
refused 69 "precision f16" $t --precision f16
refused 64 "precision" $t --precision f7
refused 64 "cpu level" $t --cpu mmx
refused 64 "command: found txt2igm" txt2igm house
refused 64 "mask: found one without" $t --mask "$tests/golden/txt2img/sd1-inpaint/inpaint-ddim/mask.png"
refused 64 "strength" $t -i "$tests/golden/txt2img/sd1/img2img-ddim/init.png" --strength 1.5
refused 64 "input channels" $t -i "$tests/golden/txt2img/sd1/img2img-ddim/init.png" --mask "$tests/golden/txt2img/sd1-inpaint/inpaint-ddim/mask.png"
refused 64 "an inpaint model" txt2img house -m "$tests/golden/models/sd1-inpaint"

# files that are not there
refused 66 "no-such-model" txt2img house -m no-such-model
refused 66 "no-such-picture" $t -i no-such-picture.png
refused 66 "no-such-vae" $t --vae no-such-vae
refused 66 "no-such-file" inspect no-such-file

# a model that lacks a part, or has the wrong one
mkdir ../m.$$ && cp -r "$model/." ../m.$$/ && chmod -R u+w ../m.$$
m=$work/../m.$$
rm -rf "$m/vae"
refused 66 "no folder vae" txt2img house -m "$m"
cp -r "$model/vae" "$m/vae" && chmod -R u+w "$m"
mv "$m/unet/diffusion_pytorch_model.safetensors" "$m/unet/x.bin"
refused 66 "x.bin" txt2img house -m "$m"
cp "$model/vae/diffusion_pytorch_model.safetensors" "$m/unet/diffusion_pytorch_model.safetensors"
refused 65 "looks like a VAE" txt2img house -m "$m"
# truncated and damaged weights and configs
u=$m/unet/diffusion_pytorch_model.safetensors
good=$model/unet/diffusion_pytorch_model.safetensors
size=$(stat -L -c %s "$good")
for n in 0 4 8 100 $((size / 2)) $((size - 1)); do
    head -c "$n" "$good" >"$u"
    refused 65 "diffusion_pytorch_model.safetensors" txt2img house -m "$m"
done
{ cat "$good"; echo; } >"$u"
refused 65 "data: found" txt2img house -m "$m"
{ printf '\377\377\377\377\377\377\377\177'; tail -c +9 "$good"; } >"$u"
refused 65 "header length" txt2img house -m "$m"
cp "$good" "$u" && chmod u+w "$u"
printf '\000\176' | dd of="$u" bs=1 seek=$((size - 1000)) conv=notrunc 2>/dev/null
refused 65 "non-finite value at index" txt2img house -m "$m"
cp "$good" "$u"
echo '{"in_channels": 4,' >"$m/unet/config.json"
refused 65 "unet/config.json: JSON, line" txt2img house -m "$m"
echo '{"in_channels": "four"}' >"$m/unet/config.json"
refused 65 "in_channels" txt2img house -m "$m"
rm "$m/unet/config.json"
refused 66 "unet/config.json" txt2img house -m "$m"
cp "$model/unet/config.json" "$m/unet/"
echo '{"_class_name": "FluxPipeline"}' >"$m/model_index.json"
refused 65 "FluxPipeline" txt2img house -m "$m"
rm -rf "$m"
refused 66 "found only UNet in it, expected also text encoder and VAE" txt2img house -m "$good"
refused 64 "expected it with a single file" txt2img house -m "$model" --config "$model"
echo "not a picture" >../p.$$
refused 65 "unknown format" $t -i "$work/../p.$$"
rm ../p.$$

# places that cannot be written
refused 73 "cannot be written" $t -o no-such-folder/a.png
refused 73 "cannot be written" $t -o /proc/a.png
refused 73 "cannot be written" $t --save-latent no-such-folder/a.npy
mkdir folder
refused 73 "cannot be written" $t -o folder
# a full disk: the device stays in place, a file limit leaves no file
refused 74 "No space left" $t -o /dev/full
[ -c /dev/full ] || fail "/dev/full was replaced"
"$diffc" $t -q -o /dev/null || fail "/dev/null cannot be written"
[ -c /dev/null ] || fail "/dev/null was replaced"
echo old >kept.png
( ulimit -f 1; exec "$diffc" $t -q -W 256 -H 256 -o kept.png ) 2>err
[ $? = 74 ] || fail "file size limit: $(cat err)"
[ "$(cat kept.png)" = old ] || fail "the old file was touched"
rm err kept.png
[ "$(ls -A)" = folder ] || fail "left behind: $(ls -A)"

# more memory than there is, told before the first step, with the bytes
refused 71 "bytes available, expected at least" $t --max-memory 1M
if ( ulimit -v 1000000; "$diffc" version ) >/dev/null 2>&1; then # not so in a sanitizer build
    ( ulimit -v 1000000; exec timeout 20 "$diffc" $t -W 2048 -H 2048 --batch-size 16 -b 16 2>err )
    [ $? = 71 ] && grep -q "bytes available, expected at least [0-9]" err || fail "memory: $(cat err)"
fi
rm -f err

# errors as JSON
"$diffc" txt2img house --steps abc --json 2>err
grep -q '"code":64' err || fail "no JSON error: $(cat err)"
finish

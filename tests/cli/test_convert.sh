# convert: what it writes and says, what it refuses, and that nothing half-written stays.
. "$2/cli/common.sh"

"$diffc" convert "$model" -o model.safetensors >out || fail "convert to a file"
grep -q "^unet  *684 tensors  *1627304 bytes$" out || fail "parts told: $(cat out)"
grep -q "^model.safetensors: written, $(stat -c %s model.safetensors) bytes$" out || fail "bytes told: $(cat out)"
"$diffc" convert model.safetensors --config "$model" -o folder --precision bf16 --json >out || fail "convert to a folder"
grep -q '"kind": "folder"' out || fail "JSON: $(cat out)"
"$diffc" inspect folder/unet/diffusion_pytorch_model.safetensors | grep "BF16: 684" >out || fail "not in bf16"
for f in model_index.json scheduler/scheduler_config.json unet/config.json vae/config.json text_encoder/config.json tokenizer/tokenizer_config.json; do
    [ -s folder/$f ] || fail "no $f"
done
# CLIP's vocabulary as published (openai/clip-vit-large-patch14)
echo "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a  folder/tokenizer/merges.txt" | sha256sum -c --quiet || fail "merges.txt"
"$diffc" txt2img house -m folder --steps 1 -s 1 -q -o p.png || fail "the folder does not run"
"$diffc" convert model.safetensors --config "$model" -o - 2>out | cmp - model.safetensors || fail "stdout"
grep -q "written" out || fail "nothing told beside stdout"

# a part of its own; a part replaced by another file
"$diffc" convert folder/unet/diffusion_pytorch_model.safetensors -o unet -q --type f16 || fail "one part to a folder"
"$diffc" txt2img house -m folder --unet unet --steps 1 -s 1 -q -o q.png || fail "the component does not run"
"$diffc" convert folder/vae/diffusion_pytorch_model.safetensors -o vae.safetensors -q || fail "one part to a file"
"$diffc" convert model.safetensors --config "$model" --vae vae.safetensors -o merged.safetensors -q || fail "another VAE"
"$diffc" inspect merged.safetensors | grep "BF16: 244" >out || fail "the VAE is not the other one"
rm -rf ./*

"$diffc" convert "$model" -o m.safetensors -q || fail "convert"
"$diffc" convert "$model" -o taken -q || fail "convert"
touch file
m=m.safetensors
refused 64 "found 0 models" convert -o x
refused 64 "found no -o" convert $m
refused 64 "expected auto (as stored), f32, f16 or bf16" convert $m -o x --precision int8
refused 64 "expected a folder or a name ending in .safetensors" convert $m -o x.ckpt
refused 64 "prediction" convert $m --config "$model" -o x --prediction z
refused 66 "not found" convert nothing -o x
refused 66 "only UNet in it" convert "$model/unet/diffusion_pytorch_model.safetensors" --vae "$model/vae" -o x
refused 65 "expected a VAE" convert "$model" --vae "$tests/golden/models/taesd" -o x.safetensors
refused 73 "not empty" convert $m -o taken
refused 73 "a file of that name" convert $m -o file
refused 73 "No such file" convert $m -o nowhere/x
refused 73 "No such file" convert $m -o nowhere/x.safetensors
refused 74 "No space" convert $m --config "$model" -o /dev/full
(
    failures=0
    ulimit -f 2000 # blocks of 512 bytes
    refused 74 "writing failed" convert "$model" -o x
    refused 74 "writing failed" convert "$model" -o x.safetensors
    exit $failures
) || fail "with a limit of file sizes"

# a file with holes that takes long to write
header='{"1.weight":{"dtype":"F32","shape":[536870912],"data_offsets":[0,2147483648]}}'
printf '\116\0\0\0\0\0\0\0%s' "$header" >long.safetensors
[ ${#header} = 78 ] || fail "the header's length"
truncate -s $((8 + 78 + 2147483648)) long.safetensors
refused 65 "half of a TAESD" convert long.safetensors -o x
mkdir out
stopped() { # OUT INPUT SIGNAL CODE
    "$diffc" convert "$2" -o "out/$1" --type bf16 -q 2>../err.$$ &
    pid=$!
    sleep 0.4
    kill -"$3" $pid
    [ "$5" = twice ] && kill -"$3" $pid
    wait $pid
    got=$?
    [ $got = "$4" ] || fail "SIG$3: exit $got: $(cat ../err.$$)"
    [ -z "$(ls -A out)" ] || fail "SIG$3 left $(ls -A out)"
    rm -f ../err.$$
}
stopped l.safetensors long.safetensors INT 130 once
stopped l.safetensors long.safetensors TERM 143 once
stopped l.safetensors long.safetensors INT 130 twice
# the same as half of a folder
printf '\151\0\0\0\0\0\0\0%s' '{"decoder.layers.0.weight":{"dtype":"F32","shape":[536870912],"data_offsets":[0,2147483648]}}            ' >whole.safetensors
truncate -s $((8 + 105 + 2147483648)) whole.safetensors
stopped f whole.safetensors INT 130 once
stopped f whole.safetensors TERM 143 twice
# cut short meanwhile
"$diffc" convert long.safetensors -o out/l.safetensors --type bf16 -q 2>err &
pid=$!
sleep 0.4
truncate -s 100000 long.safetensors
wait $pid
got=$?
[ $got = 74 ] || fail "a file cut short: exit $got: $(cat err)"
[ -z "$(ls -A out)" ] || fail "a file cut short left $(ls -A out)"
finish

#!/bin/bash
# all.sh DATA RUN FOLDER: all stages one after the other, then the model as a diffusers folder. Each stage goes on from where it was stopped
# (kill -TERM), and is passed over when its steps are done, so this can be started again at any time. Steps and options by environment.
set -eu
data=$1 run=$2 folder=$3
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
stage() { exec "$python" "$here/$1.py" --data "$data" --run "$run" "${@:2}"; }
done_at() { "$python" -c "import sys, torch; sys.exit(torch.load(sys.argv[1], map_location='cpu', weights_only=False)['step'] < int(sys.argv[2]))" "$1" "$2" 2>/dev/null; }

stop() { kill -TERM "$child" 2>/dev/null; wait "$child"; exit 143; }
trap stop TERM INT
wait_for() { "$@" & child=$!; wait "$child"; }

vae_steps=${VAE_STEPS:-6000} vae_cool=${VAE_COOL:-600} core_steps=${CORE_STEPS:-8000} unet_steps=${UNET_STEPS:-40000} unet_cool=${UNET_COOL:-1500}
if [ ! -e "$run/vae-folded.pt" ]; then
    wait_for stage vae --steps "$vae_steps" ${VAE_OPTIONS:-}
    done_at "$run/vae.pt" "$vae_steps"
    wait_for stage vae --cooldown "$vae_cool" ${VAE_COOL_OPTIONS:---crop 128 --batch 6}
    done_at "$run/vae-cool.pt" "$((vae_steps + vae_cool))"
fi
[ -e "$run/latents.pt" ] || wait_for stage latents ${LATENT_OPTIONS:-}
done_at "$run/unet.pt" "$core_steps" || wait_for stage unet --concepts "$here/core.txt" --steps "$core_steps" ${UNET_OPTIONS:-}
done_at "$run/unet.pt" "$core_steps"
wait_for stage unet --steps "$unet_steps" ${UNET_OPTIONS:-} ${UNET_MORE:-}
done_at "$run/unet.pt" "$unet_steps"
wait_for stage unet --cooldown "$unet_cool" ${UNET_OPTIONS:-} ${UNET_MORE:-}
# What goes with the model; 0 steps: left out.
few_steps=${FEW_STEPS:-400} tiny_steps=${TINY_STEPS:-600} clip_steps=${CLIP_STEPS:-800}
[ "$few_steps" = 0 ] || wait_for stage few --concepts "$here/${FEW_CONCEPTS:-core.txt}" --cooldown "$few_steps" ${FEW_OPTIONS:-}
[ "$tiny_steps" = 0 ] || wait_for stage tiny --cooldown "$tiny_steps" ${TINY_OPTIONS:-}
[ "$clip_steps" = 0 ] || wait_for stage clip --cooldown "$clip_steps" ${CLIP_OPTIONS:-}
"$python" "$here/export.py" --run "$run" --out "$folder"

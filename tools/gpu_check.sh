#!/bin/sh
# One command on a machine with an NVIDIA GPU: builds, checks that the GPU computes right, measures beside PyTorch, and writes what came of it.
#
#     tools/gpu_check.sh [-o gpu_check.json] [--minutes 9] [--only SECTION,..] [--skip SECTION,..] [--diffc PROGRAM] [--work FOLDER]
#                        [--cmake "OPTIONS"]
#
# Sections, in this order: build selftest weights diffc torch selftest-f32 selftest-bf16 selftest-sd15 compile sanitizer. Each has a limit of its own
# within --minutes; one that fails does not stop the others. Without network. --diffc: a program that is built already, with diffc-cuda.so beside it.
# Files go to --work (default: a folder below $TMPDIR, 12 GB; kept, so that a second run need not make the weights again).
# To try the script itself on a machine without a GPU: DEVICE=cpu tools/gpu_check.sh --small
# Exit code: 0, or that of the first section that failed; 69: what the build needs is missing.
set -u
here=$PWD
cd "$(dirname "$0")/.." || exit 1
device=${DEVICE:-cuda} output=gpu_check.json minutes=9 only="" skip="" diffc="" work=${TMPDIR:-/tmp}/diffc-gpu-check cmake="" size=0 seconds=2
kinds=taesd,sd15,sd21,sdxl
while [ $# -gt 0 ]; do
    case $1 in
    -o) output=$2 && shift ;;
    --minutes) minutes=$2 && shift ;;
    --only) only=,$2, && shift ;;
    --skip) skip=,$2, && shift ;;
    --diffc) diffc=$2 && shift ;;
    --work) work=$2 && shift ;;
    --cmake) cmake=$2 && shift ;;
    --small) size=64 seconds=0.1 kinds=taesd,sd15 ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' tools/gpu_check.sh && exit 64 ;;
    esac
    shift
done
absolute() { case $1 in "" | /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
output=$(absolute "$output") diffc=$(absolute "$diffc") work=$(absolute "$work")
mkdir -p "$work" || exit 73
rm -f "$work"/*.jsonl "$work"/selftest*.json "$work"/*.npy
began=$(date +%s)
worst=0

left() { echo $((minutes * 60 - 8 - $(date +%s) + began)); } # seconds, less what the summary takes

wanted() {
    case $skip in *,$1,*) return 1 ;; esac
    [ -z "$only" ] && return 0
    case $only in *,$1,*) return 0 ;; esac
    return 1
}

# section NAME LIMIT COMMAND...: runs it for so many seconds at most, what it prints also into the log; notes how it ended.
section() {
    name=$1 limit=$2
    shift 2
    wanted "$name" || return 0
    [ "$limit" -gt "$(left)" ] && limit=$(left)
    if [ "$limit" -lt 10 ]; then
        echo "== $name: left out, the time is over"
        return 0
    fi
    echo "== $name (at most $limit s)"
    from=$(date +%s)
    { timeout -k 5 "$limit" "$@" 2>&1; echo $? >"$work/code"; } | tee "$work/$name.log"
    code=$(cat "$work/code")
    echo "{\"section\": \"$name\", \"code\": $code, \"seconds\": $(($(date +%s) - from))}" >>"$work/sections.jsonl"
    [ "$code" = 0 ] || echo "== $name: exit code $code"
    [ "$worst" = 0 ] && worst=$code
    return "$code"
}

# ---- what is there ---------------------------------------------------------------------------------------------------

missing=""
need() { eval "$2" >/dev/null 2>&1 || missing="$missing $1"; }
for pair in cmake:cmake ninja:ninja-build pkg-config:pkg-config gcc:gcc; do need "${pair#*:}" "command -v ${pair%:*}"; done
for pair in jansson:libjansson-dev libutf8proc:libutf8proc-dev openblas:libopenblas-dev libpng:libpng-dev libjpeg:libjpeg62-turbo-dev libwebp:libwebp-dev \
    zlib:zlib1g-dev nettle:nettle-dev sqlite3:libsqlite3-dev libxxhash:libxxhash-dev; do
    need "${pair#*:}" "pkg-config --exists ${pair%:*}"
done
need libcpuinfo-dev "echo '#include <cpuinfo.h>' | gcc -E -"
if [ -z "$diffc" ] && [ -n "$missing" ]; then
    echo "missing Debian packages:$missing"
    echo "Install them (tools/setup.sh does, with network), or name a built program with --diffc."
    exit 69
fi
command -v python3 >/dev/null || { echo "missing: python3" && exit 69; }
torch=$(python3 -c 'import torch; print(torch.__version__)' 2>/dev/null)
gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -1)
machine="${gpu:-no GPU}; $(uname -m), $(nproc) CPUs; torch ${torch:-none}; diffc $(git rev-parse --short HEAD 2>/dev/null)"
echo "$machine"

# ---- the sections ----------------------------------------------------------------------------------------------------

# python NAME LIMIT WHAT OPTIONS...: a section that bench/gpu.py does.
python() {
    name=$1 limit=$2 what=$3
    shift 3
    section "$name" "$limit" python3 bench/gpu.py "$what" -d "$work" --diffc "$diffc" --device "$device" --size $size --seconds $seconds "$@"
}

if [ -z "$diffc" ]; then
    diffc=build/gpu/diffc
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .) # kernels for this GPU alone
    cmake="${capability:+-DDIFFC_CUDA_ARCHITECTURES=$capability} $cmake"
    if [ "$device" = cpu ]; then cuda=OFF target=diffc; else cuda=ON target="diffc diffc_cuda"; fi
    section build 200 sh -c "cmake -S . -B build/gpu -G Ninja -DCMAKE_BUILD_TYPE=Release -DDIFFC_TESTS=OFF -DDIFFC_CUDA=$cuda $cmake && cmake --build build/gpu --target $target"
fi
[ -x "$diffc" ] || { echo "$diffc: no program" && exit 66; }
python selftest 150 selftest
if [ -n "$torch" ]; then
    python weights 100 weights --kinds $kinds
    python diffc 110 diffc
    python torch 110 torch
else
    echo "== weights, diffc, torch, compile: left out, python3 has no torch"
fi
python selftest-f32 60 selftest --name selftest-f32 --more="--quick --precision f32"
[ "$device" = cpu ] || python selftest-bf16 60 selftest --name selftest-bf16 --more="--quick --precision bf16"
[ -f "$work/sd15.safetensors" ] && python selftest-sd15 80 selftest --name selftest-sd15 --more="--quick -m $work/sd15.safetensors"
[ -n "$torch" ] && python compile 150 compile
if command -v compute-sanitizer >/dev/null; then
    section sanitizer 150 compute-sanitizer --tool memcheck --leak-check full --error-exitcode 70 "$diffc" selftest --quick --device "$device"
else
    echo "== sanitizer: left out, there is no compute-sanitizer"
fi
echo "== summary"
python3 bench/gpu.py summary -d "$work" --machine "$machine" -o "$output" || worst=74
exit "$worst"

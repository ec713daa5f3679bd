# Previews: into a file, as events, in the terminal; of lines of prompts; what is refused; and that pictures stay as they are.
. "$2/cli/common.sh"
t="-m $model -W 64 -H 64 -t 1 -s 7 --steps 4"
tiny="--taesd $tests/golden/models/taesd --taesd-preview-only"

# what goes wrong is told before any work
refused 64 'preview: found "\?prof' txt2img house $t --preview prof
refused 66 'no tiny decoder' txt2img house $t --preview tae
refused 64 'preview-path: found -, ' txt2img house $t --preview proj --preview-path -
refused 73 'nowhere/p.png: cannot be written' txt2img house $t --preview proj --preview-path nowhere/p.png
refused 64 'preview-interval: found -2' txt2img house $t --preview proj --preview-interval -2
refused 64 'preview-interval: found "x"' txt2img house $t --preview proj --preview-interval x

# a file that is replaced, and the same picture whatever is shown
"$diffc" txt2img house $t -q -o plain.png || fail "no previews"
[ "$(ls)" = plain.png ] || fail "previews that nobody asked for: $(ls)"
for kind in none proj tae vae; do
    "$diffc" txt2img house $t $tiny --preview $kind -q -o $kind.png || fail "--preview $kind"
    cmp -s plain.png $kind.png || fail "--preview $kind changes the picture"
    [ $kind = none ] && [ -e preview.png ] && fail "--preview none writes one"
    [ $kind != none ] && { [ -s preview.png ] || fail "--preview $kind writes none"; }
    mv -f preview.png $kind-preview.png 2>/dev/null
done
[ "$(od -An -tx1 -j16 -N8 proj-preview.png | tr -d ' \n')" = 0000000800000008 ] || fail "a pixel a latent"
[ "$(od -An -tx1 -j16 -N8 vae-preview.png | tr -d ' \n')" = 0000004000000040 ] || fail "the VAE's preview has another size than the picture"
"$diffc" txt2img house $t --taesd "$tests/golden/models/taesd" -q -o tiny.png && ! cmp -s tiny.png plain.png || fail "--taesd alone decodes"
rm -f ./*.png

# a path alone takes the best there is; formats by name; an interval; events
"$diffc" txt2img house $t --preview-path p.jpg --preview-interval 2 --progress json -q -o a.png 2>events || fail "--preview-path: $(cat events)"
[ "$(grep -c '"event":"preview"' events)" = 1 ] && grep -q '"path":"p.jpg","step":2,"steps":4,"image":0,"images":1,"width":8,"height":8,' events ||
    fail "events: $(grep preview events)"
[ "$(od -An -tx1 -N2 p.jpg | tr -d ' ')" = ffd8 ] || fail "p.jpg is no JPEG"
"$diffc" txt2img house $t --preview-path p.png --preview-interval 1 --progress json -q -o a.png 2>events
[ "$(grep -c '"event":"preview"' events)" = 3 ] || fail "a preview of each step but the last: $(grep preview events)"
"$diffc" txt2img house $t --preview proj --preview-path 'q%d.png' -b 3 --batch-size 2 -q -o b.png || fail "a batch"
[ -s q1.png ] && [ -s q2.png ] && [ -s q3.png ] || fail "a file for each picture of a batch: $(ls)"
rm -f ./*

# a line of prompts has its own
printf -- '-p house --preview proj --preview-path one.png\n-p tree\n-p lake --preview-path two.png --preview vae --preview-interval 3\n' >prompts
"$diffc" txt2img --prompt-file prompts $t -q || fail "lines of prompts"
[ -s one.png ] && [ -s two.png ] && [ ! -e preview.png ] && [ -s diffc-0003.png ] || fail "lines of prompts: $(ls)"
rm -f ./*

# memory is planned
"$diffc" txt2img house $t $tiny --preview tae --dry-run >plan && grep -q '^preview .* 3$' plan || fail "the plan: $(cat plan)"
[ "$(ls)" = plan ] || fail "--dry-run writes: $(ls)"

# no terminal, nothing drawn; a terminal: in place, and only there
"$diffc" txt2img house $t --preview-terminal --show -o a.png >out 2>err || fail "--preview-terminal without one"
[ "$(wc -l <out)" = 1 ] && [ ! -s err ] && [ ! -e preview.png ] || fail "drawn without a terminal: $(cat out err; ls)"
if ldd "$diffc" 2>/dev/null | grep -q chafa && script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    drawn() { TERM=$1 script -qec "$diffc txt2img house $t ${2-} -o a.png" /dev/null </dev/null | tr '\033' '@' | grep -o '@\[[0-9]*A@7' | wc -l; }
    [ "$(drawn xterm-256color '--preview-terminal --preview-interval 1')" = 4 ] || fail "three previews and the picture: $(drawn xterm-256color '--preview-terminal --preview-interval 1')"
    [ "$(drawn xterm-256color --show)" = 1 ] || fail "--show"
    [ "$(drawn xterm-256color)" = 0 ] || fail "drawn though nobody asked"
    [ "$(drawn dumb '--preview-terminal --preview-interval 1')" = 0 ] || fail "drawn on a dumb terminal"
    [ "$(drawn xterm-256color '--preview-terminal --preview-interval 1 --progress json')" = 0 ] || fail "drawn among events"
fi
finish

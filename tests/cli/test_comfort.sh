# Defaults from a file, prompts from files and pipes, names with marks, progress for programs, the manual and completions.
. "$2/cli/common.sh"
t="-m $model -W 64 -H 64"

# the file of defaults: named, under XDG_CONFIG_HOME, under HOME; the command line wins; sections and other commands' options are skipped
mkdir -p xdg/diffc home/.config/diffc
printf '# mine\nsteps = 3\nseconds = 1\n[bench]\nsteps-of-nobody = 1\n[txt2img]\nseed=7\nnegative = "  blurry "\nquiet = no\n' >defaults
cp defaults xdg/diffc/config
printf 'seed = 9\n' >home/.config/diffc/config
DIFFC_CONFIG=defaults "$diffc" txt2img house $t -o a.png >out || fail "a file of defaults: $(cat out)"
grep -q 'seed 7 ' out && grep -aq 'Steps: 3,' a.png && grep -aq 'Negative prompt:   blurry $' a.png || fail "defaults are not used: $(cat out)"
(unset DIFFC_CONFIG; XDG_CONFIG_HOME=$work/xdg HOME=$work/home "$diffc" txt2img house $t --steps 2 -o b.png) | grep -q 'seed 7 ' || fail "XDG_CONFIG_HOME"
grep -aq 'Steps: 2,' b.png || fail "the command line does not win"
(unset DIFFC_CONFIG XDG_CONFIG_HOME; HOME=$work/home "$diffc" txt2img house $t --steps 2 -o b.png) | grep -q 'seed 9 ' || fail "HOME/.config"
(unset DIFFC_CONFIG XDG_CONFIG_HOME; HOME=$work/home "$diffc" txt2img house $t --steps 2 --no-defaults -o b.png) | grep -q 'seed 9 ' && fail "--no-defaults"
(unset DIFFC_CONFIG; XDG_CONFIG_HOME=$work/nowhere HOME=$work/nowhere "$diffc" version >/dev/null) || fail "no file of defaults is an error"
bad_defaults() { # CODE PATTERN TEXT
    printf "$3" >bad
    export DIFFC_CONFIG=bad
    refused "$1" "$2" txt2img house $t
    export DIFFC_CONFIG=
}
bad_defaults 65 'bad:2: found stepz, expected the name' 'seed = 1\nstepz = 3\n'
bad_defaults 65 'bad:1: steps: found "x", expected a whole' 'steps = x\n'
bad_defaults 65 'bad:1: quiet: found "maybe", expected true or false' 'quiet = maybe'
bad_defaults 65 'bad:1: found "steps", expected "name = value"' 'steps\n'
bad_defaults 65 'bad:1: found \[dance\], expected the name of a command' '[dance]\n'
bad_defaults 65 'bad: found a zero byte' 'steps = 3\n\0'
export DIFFC_CONFIG=missing
refused 66 'missing: cannot be read' version
export DIFFC_CONFIG=
rm -f ./*.png

# prompts from a file, options for one picture, failures told by line and passed over
printf '# two pictures\nhouse\n\n-p "a \\"red\\" house" -s 3 --steps 1\n' >prompts
"$diffc" txt2img --prompt-file prompts $t --steps 2 -s 5 >out || fail "a file of prompts: $(cat out)"
grep -q '^diffc-0001.png  seed 5 ' out && grep -q '^diffc-0002.png  seed 3 ' out || fail "a file of prompts: $(cat out)"
grep -aq 'a "red" house' diffc-0002.png && grep -aq 'Steps: 1,' diffc-0002.png || fail "options of a line"
"$diffc" txt2img house $t --steps 2 -s 5 -q -o one.png && cmp -s one.png diffc-0001.png || fail "a line's picture differs from the same one made alone"
printf -- '--steps 1\n-s 8 --steps 1\n' | "$diffc" txt2img house --prompt-file - $t -s 5 -q -o s.png && [ -s s-0001.png ] && [ -s s-0002.png ] || fail "prompts from a pipe: $(ls)"
rm -f ./*.png
printf -- '--steps 0\n-m x\nhouse\n-s 4 "open\n-o named.png house\n' >prompts
"$diffc" txt2img --prompt-file prompts $t --steps 1 -s 5 -q -o x.png 2>err
[ $? = 64 ] && [ -s x-0001.png ] && [ -s named.png ] || fail "a bad line hinders the next: $(ls; cat err)"
grep -q '^diffc: prompts:2: option: found -m' err && grep -q '^diffc: prompts:4: found a quote' err || fail "bad lines: $(cat err)"
refused 66 'none: cannot be read' txt2img --prompt-file none $t
echo house | "$diffc" txt2img -p - $t --steps 2 -s 5 -q -o p.png && grep -aq 'parameters.house$' p.png || fail "a prompt from stdin"
rm -f ./*.png

# marks in names
"$diffc" txt2img "a/house" $t --steps 2 -s 5 --cfg 6.5 --sampler euler -q -o '{prompt}_{seed}_{steps}_{cfg}_{sampler}_{width}x{height}_{model}_{else}.png' || fail "marks"
[ -s 'a_house_5_2_6.5_euler_64x64_sd1_{else}.png' ] || fail "marks: $(ls)"
"$diffc" txt2img ".." $t --steps 1 -s 5 -q -o '{prompt}' && [ -s _. ] || fail "a name of dots: $(ls -a)"
rm -f ./*.png

# of several pictures only those most like their prompt, best first: the very pictures that are made without it
"$diffc" txt2img "a cat face" --steps 2 -s 5 -b 3 -q -o 'all-{seed}.png' || fail "three pictures"
"$diffc" txt2img "a cat face" --steps 2 -s 5 -b 3 --keep-best 2 --json -o 'best-{seed}.png' >out || fail "--keep-best: $(cat out)"
[ "$(ls best-*.png | wc -l)" = 2 ] || fail "--keep-best 2 of 3: $(ls)"
for i in best-*.png; do cmp -s $i "all${i#best}" || fail "$i is another picture"; done
scores=$(grep -o '"score": [-0-9.e]*' out | cut -d' ' -f2)
[ "$(echo "$scores" | sort -rg)" = "$scores" ] && [ "$(echo "$scores" | wc -l)" = 2 ] || fail "not best first: $scores"
"$diffc" txt2img "a cat face" --steps 2 -s 5 -b 2 --keep-best 1 -q -o one.png && [ -s one.png ] || fail "--keep-best 1: $(ls)"
refused 64 'keep-best: found 0, expected 1 to' txt2img house $t --keep-best 0
refused 66 'nowhere' txt2img house $t --keep-best 1 --clip nowhere
rm -f ./*.png

# progress for programs
"$diffc" txt2img house $t --steps 2 -s 5 --progress json -o a.png 2>err >out || fail "progress: $(cat err)"
[ -s out ] && fail "progress as JSON and text: $(cat out)"
grep -q '^{"event":"progress","stage":"sample",.*"done":2,"total":2' err && grep -q '^{"event":"image","path":"a.png","seed":5,' err || fail "progress: $(cat err)"
tail -n 1 err | grep -q '^{"event":"done","images":1,' || fail "progress ends: $(tail -n 1 err)"
grep -v '^{.*}$' err && fail "not an object a line: $(cat err)"
"$diffc" txt2img house $t --steps 0 --progress json 2>&1 | grep -q '^{"error":{"code":64' || fail "errors as objects"
refused 64 'progress: found "loud", expected auto' txt2img house $t --progress loud

# the manual and the completions know every option
"$diffc" man >man || fail "man"
"$diffc" txt2img --help | grep -o -e '--[a-z0-9-]*' | sort -u >options
for shell in bash zsh fish; do
    "$diffc" completion $shell >c.$shell || fail "completion $shell"
    for o in $(sed 's/^--//' options); do grep -q -e "$o" c.$shell || fail "completion $shell does not know $o"; done
done
for o in $(sed 's/^--//' options); do sed 's/\\-/-/g' man | grep -q -e "--$o" || fail "the manual does not know $o"; done
refused 64 'completion: found "csh", expected bash, zsh or fish' completion csh
bash -n c.bash || fail "completion bash: syntax"
bash -c '. ./c.bash; COMP_WORDS=(diffc txt2img --sampler dpm++2); COMP_CWORD=3; _diffc; printf "%s\n" "${COMPREPLY[@]}"' | grep -q -x 'dpm++2m' || fail "bash completes samplers"
bash -c '. ./c.bash; COMP_WORDS=(diffc txt2img --ste); COMP_CWORD=2; _diffc; printf "%s\n" "${COMPREPLY[@]}"' | grep -q -x -e '--steps' || fail "bash completes options"
bash -c '. ./c.bash; COMP_WORDS=(diffc txt2img --device ""); COMP_CWORD=3; _diffc; printf "%s\n" "${COMPREPLY[@]}"' | grep -q -x 'cpu' || fail "bash completes words of an option"
bash -c '. ./c.bash; COMP_WORDS=(diffc ins); COMP_CWORD=1; _diffc; printf "%s\n" "${COMPREPLY[@]}"' | grep -q -x 'inspect' || fail "bash completes commands"
if command -v man >/dev/null && command -v groff >/dev/null; then
    [ -z "$(LC_ALL=C.UTF-8 groff -man -ww -Tutf8 man 2>&1 >/dev/null)" ] || fail "the manual: $(groff -man -ww -Tutf8 man 2>&1 >/dev/null | head -3)"
fi
finish

# embed, classify and bench clip-image as a user meets them.
. "$2/cli/common.sh"
clip=$tests/golden/clip/tiny/hf
pictures=$tests/golden/image/src

# rows in the order of the command line, whatever comes together
"$diffc" embed -m "$clip" --text "a cat" "a dog" --image "$pictures/icon_rgb.png" "$pictures/zone_rgb.png" --json >all || fail "embed"
[ "$(wc -l <all)" = 4 ] && [ "$(sed 's/:.*//' all | tr -d '\n')" = '{"text"{"text"{"image"{"image"' ] || fail "lines: $(cut -c1-60 all)"
"$diffc" embed -m "$clip" "$pictures/zone_rgb.png" --text "a dog" --json >some || fail "a picture without --image"
[ "$(sed -n 4p all)" = "$(sed -n 1p some)" ] && [ "$(sed -n 2p all)" = "$(sed -n 2p some)" ] || fail "other rows: $(cat all some)"
printf '%s\n' "$pictures/icon_rgb.png" "$pictures/zone_rgb.png" | "$diffc" embed -m "$clip" --stdin image --json >listed || fail "--stdin image"
sed -n 3,4p all | cmp -s - listed || fail "--stdin image: other rows"
printf 'a cat\n\na dog\n' | "$diffc" embed -m "$clip" --stdin text --json >listed || fail "--stdin text"
sed -n 1,2p all | cmp -s - listed || fail "--stdin text: other rows"
"$diffc" embed -m "$clip" --image - --json <"$pictures/icon_rgb.png" | grep -q '^{"image":"-"' || fail "a picture on stdin"
"$diffc" embed -m "$clip" --text "a cat" "a dog" -o rows.npy && [ "$(wc -c <rows.npy)" = $((128 + 2 * 7 * 4)) ] || fail "embed -o: $(wc -c <rows.npy)"
"$diffc" embed -m "$clip" --text "a cat" "a dog" -o - -t 1 | cmp -s - rows.npy || fail "embed -o -: other bytes"

# classify: the best first, probabilities together 100 %
"$diffc" classify -m "$clip" --labels "cat, dog ,house" "$pictures/icon_rgb.png" "$pictures/zone_rgb.png" >out || fail "classify"
[ "$(grep -c '^  *[0-9.]* %  ' out)" = 6 ] && grep -q '%  dog$' out || fail "classify: $(cat out)"
awk '/%/ { sum += $1; if (n++ % 3 && $1 > last) bad = 1; last = $1 } END { exit bad || sum < 199.9 || sum > 200.1 }' out || fail "order or sum: $(cat out)"
printf 'cat\ndog\n' >labels
"$diffc" classify -m "$clip" --labels-file labels --template "a {}" --template "the {}." --top 1 --json "$pictures/icon_rgb.png" >out || fail "classify --json"
[ "$(grep -o '"label"' out | wc -l)" = 1 ] && grep -q '"probability":0\.' out || fail "--top: $(cat out)"

"$diffc" bench clip-image -m "$clip" --seconds 0 --batch 3 --json >out && grep -q '"what": "clip-image"' out || fail "bench: $(cat out)"
"$diffc" bench clip-image -m "$clip" --plan | grep -q attention || fail "bench --plan"

refused 64 'expected -o FILE.npy or --json' embed -m "$clip" --text a
refused 64 'expected texts or pictures' embed -m "$clip" -o -
refused 64 'stdin: found "x"' embed -m "$clip" -o - --stdin x
refused 66 'nothing.png' embed -m "$clip" -o - nothing.png
refused 65 'picture: found' embed -m "$clip" -o - labels
refused 73 '' embed -m "$clip" --text a -o missing/a.npy
refused 66 'expected a CLIP model' embed -m nowhere --text a -o -
refused 65 'expected a CLIP model' embed -m "$tests/golden/models/sd1/unet" --text a -o -
refused 64 'no picture' classify -m "$clip" --labels a,b
refused 64 'no labels' classify -m "$clip" a.png
refused 64 'no labels' classify -m "$clip" a.png --labels ' , '
refused 66 'nowhere: cannot be read' classify -m "$clip" a.png --labels-file nowhere
refused 64 'expected {} in it' classify -m "$clip" --labels a,b --template "a photo" "$pictures/icon_rgb.png"
refused 64 'top: found -1' classify -m "$clip" --labels a,b --top -1 "$pictures/icon_rgb.png"
finish

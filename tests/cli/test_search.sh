# index and search as a user meets them: output forms, where an index is found, what is refused, signals.
. "$2/cli/common.sh"
clip=$tests/golden/clip/tiny/hf
src=$tests/golden/image/src

mkdir -p photos/sub
cp "$src/icon_rgb.png" photos/icon.png
cp "$src/zone_rgb.png" "photos/sub/zone 1.png"
cp "$src/icon_rgb.png" photos/sub/copy.png
echo "no picture" >photos/bad.jpg
touch -d '1 hour ago' photos/*.* photos/sub/*
"$diffc" index photos -m "$clip" >out 2>err || fail "index: $(cat err)"
grep -q '^photos: 4 pictures: 3 new, 0 changed, 0 gone, 0 as they were; 2 encoded, 1 known by their content, 1 could not be read;' out || fail "summary: $(cat out)"
grep -q '^diffc: warning: bad.jpg: picture: found an unknown format' err || fail "no reason: $(cat err)"
"$diffc" index photos -m "$clip" --json >out 2>&1 || fail "again"
grep -q '"found":4,"unchanged":4,"added":0' out || fail "again: $(cat out)"
"$diffc" index photos --failures | grep -q '^bad.jpg: picture' || fail "--failures"
"$diffc" index photos --check | grep -q '^photos/.diffc: sound: 4 pictures, 2 vectors of 7 numbers by ' || fail "--check"

# from below; one picture is all three of its forms, and equal scores come by path
cd photos/sub || exit 99
"$diffc" search ../icon.png -t 2 >out || fail "a path"
[ "$(cat out)" = "$(printf '1.0000\t../icon.png\n1.0000\t../sub/copy.png')" ] || fail "a path: $(cat out)"
for q in @../icon.png 2:../icon.png copy.png; do "$diffc" search "$q" -t 2 | cmp -s - out || fail "$q"; done
"$diffc" search @- -t 2 <../icon.png | cmp -s - out || fail "@-"
[ "$("$diffc" search "a dog" -f | wc -l)" = 3 ] || fail "-f"
[ "$("$diffc" search "a dog" -0 | tr '\0' '\n' | wc -l)" = 3 ] || fail "-0"
"$diffc" search "./zone 1.png" -t 1 --json >out
grep -q '^{"path":"../sub/zone 1.png","score":\(1.0\|0.999999[0-9]*\),"width":64,"height":48}$' out || fail "--json: $(cat out)"
"$diffc" search cat + "2:dog" - ./copy.png -s house -a tree --template "a {}" -t 1 >out || fail "terms"
printf 'cat\n\ndog\n' | "$diffc" search --queries - -t 1 | cut -f 1 | tr '\n' ' ' | grep -q '^cat dog $' || fail "--queries"
"$diffc" search cat --threshold 1.5 >out 2>err || fail "nothing"
[ ! -s out ] && grep -q 'nothing found' err || fail "nothing found: $(cat out err)"
"$diffc" search cat --sheet ../../sheet.png -f >out && "$diffc" inspect ../../sheet.png | grep -q 'width: 344' || fail "--sheet: $("$diffc" inspect ../../sheet.png)"
cd ../.. || exit 99
"$diffc" search --index photos/.diffc cat -f -t 1 | grep -q '^photos/' || fail "--index"

# duplicates; out and in
"$diffc" search --index photos/.diffc --duplicates --distance 0 >out || fail "--duplicates"
[ "$(cat out)" = "$(printf 'the same\n1.0000\tphotos/icon.png\n1.0000\tphotos/sub/copy.png')" ] || fail "--duplicates: $(cat out)"
"$diffc" search --index photos/.diffc --duplicates --distance 0 --json | grep -q '^{"kind":"same","files":\[{"path":"photos/icon.png","score":1.0},' || fail "groups as JSON"
"$diffc" search --index photos/.diffc --export v.npy || fail "--export"
[ "$(wc -l <v.paths)" = 3 ] && [ "$(wc -c <v.npy)" = $((128 + 3 * 7 * 4)) ] || fail "exported"
mkdir two && cp -rp photos/icon.png photos/sub two
"$diffc" index two -m "$clip" --import v.npy >out || fail "--import: $(cat out)"
"$diffc" index two -m "$clip" >out 2>&1 && grep -q '0 new, 0 changed, 0 gone, 3 as they were; 0 encoded' out || fail "after --import: $(cat out)"

# --fast-decode: another model for the index, which a search knows by itself; sizes are those of the files
mkdir fast && (cd photos && "$diffc" search cat --sheet ../fast/sheet.jpg -q >/dev/null) && cp photos/icon.png fast || fail "a large JPEG"
"$diffc" index fast -m "$clip" --fast-decode -q && "$diffc" index fast --check | grep -q ' by clip-7-[0-9a-f]*-fast, ' || fail "--fast-decode"
refused 64 'found an index of clip-7-[0-9a-f]*-fast, 7 numbers a picture; expected one of clip-7' index fast -m "$clip"
refused 64 'was made with --fast-decode' index fast -m "$clip"
refused 64 'was made without --fast-decode' index photos -m "$clip" --fast-decode
"$diffc" search --index fast/.diffc fast/sheet.jpg -t 1 --json >out
"$diffc" inspect fast/sheet.jpg >size
grep -q '^{"path":"fast/sheet.jpg","score":\(1.0\|0.999999[0-9]*\),"width":'"$(sed -n 's/.*width: *//p' size | head -1)," out || fail "asked of a fast index: $(cat out size)"
"$diffc" embed -i fast/sheet.jpg -i photos/icon.png -m "$clip" -o slow.npy && "$diffc" embed -i fast/sheet.jpg -i photos/icon.png -m "$clip" --fast-decode -o fast.npy || fail embed
cmp -s slow.npy fast.npy && fail "the same, fast or not"
tail -c 28 slow.npy >a && tail -c 28 fast.npy | cmp -s - a || fail "a PNG is not read in another way"

# an index elsewhere, and its model by itself
"$diffc" index photos --index elsewhere -m "$clip" -q 2>/dev/null || fail "--index"
[ "$("$diffc" search --index elsewhere "$PWD/photos/icon.png" -f -t 1)" = "$PWD/photos/icon.png" ] || fail "from elsewhere"

refused 64 'found 2 folders' index photos two -m "$clip"
refused 64 'batch-size' index photos -m "$clip" -b 0
refused 66 'found none of that name' index nowhere -m "$clip"
refused 66 'found a file' index v.npy -m "$clip"
refused 66 'found no .diffc there' search cat
refused 66 'index: found none' search --index nowhere cat
cd photos || exit 99
refused 64 'found no query' search
refused 64 'expected + or - before it' search cat dog
refused 64 'found nothing after +' search cat +
refused 64 'found a query beside --duplicates' search cat --duplicates
refused 64 'expected a text with {}' search cat --template dog
refused 64 'cancel each other out' search cat - cat
refused 64 'distance: found 3' search --duplicates --distance 3
refused 66 'nothing.png' search ./nothing.png
refused 73 'No such file' search cat --sheet nowhere/x.png
cd ..
printf x >>photos/.diffc/index.sqlite-wal
truncate -s 50 photos/.diffc/index.sqlite
refused 65 'damaged index' search --index photos/.diffc cat
"$diffc" index photos -m "$clip" --rebuild -q 2>/dev/null || fail "--rebuild"
"$diffc" index photos --check >out || fail "after --rebuild"

# a watch ends by a signal; meanwhile nobody else writes, and all may search
"$diffc" index photos -m "$clip" --watch >watched 2>/dev/null &
pid=$!
for i in $(seq 300); do [ -s watched ] && break; sleep 0.1; done
refused 69 'found another program that writes it' index photos -m "$clip"
cp -p "$src/zone_rgb.png" photos/later.png
for i in $(seq 300); do [ "$(wc -l <watched)" -ge 2 ] && break; sleep 0.1; done
grep -q '5 pictures: 1 new' watched || fail "watched: $(cat watched)"
(cd photos && "$diffc" search ./later.png -f | grep -q later.png) || fail "search beside a watch"
kill -INT $pid
wait $pid
[ $? = 130 ] || fail "exit code of a stopped watch"
finish

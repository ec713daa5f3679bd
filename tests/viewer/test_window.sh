# The window as its user has it: the real program on a display in memory, keys by xdotool; what happened is in the event log.
# sh test_window.sh DIFFC TESTS ASSETS [FOLDER for screenshots]. Skipped where Xvfb or xdotool are missing, or the window is not built.
for tool in Xvfb xdotool; do command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 77; }; done
[ -f "$(dirname "$1")/diffc-view.so" ] || { echo "skipped: no window"; exit 77; }
shots=${4:+$(cd "$4" && pwd)}
. "$2/cli/common.sh"
slow=${DIFFC_SLOW:-1} # so many times as long may all take
server= pid=
trap 'kill $pid $server 2>/dev/null; wait; rm -rf "$work"' EXIT

# ---- a display, and hands ------------------------------------------------------------------------------------------

Xvfb -displayfd 3 -screen 0 1280x900x24 -nolisten tcp -noreset 3>display 2>/dev/null &
server=$!
for i in $(seq 100); do [ -s display ] && break; sleep 0.1; done
[ -s display ] || { echo "skipped: Xvfb does not start"; exit 77; }
export DISPLAY=":$(cat display)" SDL_VIDEODRIVER=x11 XMODIFIERS=@im=none
unset WAYLAND_DISPLAY
printf 'leak:libdbus-1.so\nleak:libfontconfig.so\n' >caches # what these keep until a process ends is no leak of ours
export LSAN_OPTIONS="suppressions=$PWD/caches:print_suppressions=0"

count() { if [ -f log ]; then grep -c -e "$1" log; else echo 0; fi; }
happens() { # PATTERN TIMES [SECONDS]: the log has it so often by then
    n=0
    while [ "$(count "$1")" -lt "$2" ]; do
        n=$((n + 1))
        if [ $n -gt $((${3:-60} * 20 * slow)) ] || ! kill -0 "$pid" 2>/dev/null; then
            fail "$(count "$1") of $2 times: $1; the last: $(tail -n 3 log) $(cat err)"
            return 1
        fi
        sleep 0.05
    done
}
last() { grep -e "$1" log | tail -n 1; } # line of the log
value() { sed "s/.*\"$1\":\"*\([^,}\"]*\).*/\1/"; }
ms_between() { # two lines of the log, as seconds since 1970 with decimals
    echo "$1" "$2" | awk '{printf "%d", ($2 - $1) * 1000}'
}
keys() { for k in "$@"; do xdotool key --clearmodifiers "$k"; done; }
write() { xdotool type --clearmodifiers --delay 15 "$1"; }
shot() { [ -z "$shots" ] || { sleep 0.4; import -window root "$shots/$1.png"; }; }

open_window() { # ARGUMENTS...
    rm -f log
    "$diffc" view --event-log log "$@" >out 2>err &
    pid=$!
    happens '"event":"opened"' 1 || finish
    for i in $(seq 100); do
        id=$(xdotool search --name '^diffc - ' 2>/dev/null | head -n 1)
        [ -n "$id" ] && xdotool windowfocus --sync "$id" 2>/dev/null && break
        sleep 0.1
    done
}
ends() { # CODE WITHIN: the window was told to close
    began=$(date +%s%N)
    wait "$pid"
    got=$?
    took=$((($(date +%s%N) - began) / 1000000))
    pid=
    [ $got = "$1" ] || fail "exit $got, want $1: $(cat err)"
    [ $took -le $(($2 * slow)) ] || fail "closing took $took ms, want at most $2"
    grep -q '"event":"closed"' log || fail "the log does not end"
    [ -s err ] && fail "said: $(head -c 500 err)"
}

# ---- a picture: typed, drawn, saved --------------------------------------------------------------------------------------

open_window --steps 4
shot empty
write 'a red aple'
keys Left Left
write p
keys End
write ' blue'
keys ctrl+BackSpace ctrl+BackSpace ctrl+z BackSpace Return # the first takes "blue", the second "apple ", which comes back
happens '"event":"draw"' 1
happens '"event":"preview"' 1
happens '"event":"done"' 1 200
[ "$(last '"draw"' | value prompt)" = 'a red apple' ] || fail "typed: $(last '"draw"')"
seed=$(last '"draw"' | value seed)
[ "$(last '"event":"picture"' | value seed)" = "$seed" ] || fail "the picture's seed: $(last '"picture"'), want $seed"
[ "$(count '"event":"preview"')" -le 3 ] || fail "previews of 4 steps: $(count '"preview"')"
shot picture
keys ctrl+s
happens '"event":"saved"' 1
file=$(last '"saved"' | value path)
"$diffc" txt2img 'a red apple' --steps 4 -s "$seed" -q -o by-txt2img.png || fail "txt2img"
cmp -s "$file" by-txt2img.png || fail "the saved file is not that of txt2img"
keys ctrl+s # saved once is enough
happens 'it is saved' 1

# ---- seeds, undo, history ------------------------------------------------------------------------------------------------

keys Escape plus # from the text to the picture
happens '"event":"draw"' 2
[ "$(last '"draw"' | value seed)" = $((seed + 1)) ] || fail "+: $(last '"draw"'), want $((seed + 1))"
happens '"event":"done"' 2 200
keys minus
happens '"event":"done"' 3 200
[ "$(last '"event":"picture"' | value seed)" = "$seed" ] || fail "-: $(last '"picture"'), want $seed"
keys Tab Tab Tab # the prompt is the first field behind the picture and the settings; go there by the mouse
xdotool mousemove --window "$id" 900 90 click --repeat 3 --delay 20 1 # all of it
write 'a green leaf'
keys Return
happens '"event":"draw"' 4
[ "$(last '"draw"' | value prompt)" = 'a green leaf' ] || fail "typed over: $(last '"draw"')"
[ "$(last '"draw"' | value seed)" = "$seed" ] || fail "a kept seed: $(last '"draw"')"
happens '"event":"done"' 4 200
keys Up Return
happens '"event":"draw"' 5
[ "$(last '"draw"' | value prompt)" = 'a red apple' ] || fail "history: $(last '"draw"')"
happens '"event":"done"' 5 200
shot strip

# ---- replay: the saved file opened --------------------------------------------------------------------------------------------

keys Down ctrl+o
write "$file"
keys Return
sleep 1
shot dropped
keys r
happens '"event":"replay"' 1
[ "$(last '"replay"' | value seed)" = "$seed" ] || fail "replay: $(last '"replay"')"
keys Return
happens '"event":"done"' 6 200
[ "$(last '"draw"' | value prompt)" = 'a red apple' ] || fail "replayed: $(last '"draw"')"
keys ctrl+s
happens '"event":"saved"' 2
cmp -s "$file" "$(last '"saved"' | value path)" || fail "drawn again it is another file"

# ---- sizes, pages ---------------------------------------------------------------------------------------------------------

for size in '700 500' '480 360' '1270 890'; do
    xdotool windowsize "$id" $size
    happens "\"width\":${size% *},\"height\":${size#* },\"event\":\"resized\"" 1
    shot "size-${size% *}"
done
keys F1
shot keys
keys Escape ctrl+t
shot light
keys ctrl+t F11
shot full-screen
keys F11 Escape
keys ctrl+q
ends 0 1000

# ---- stopped, and closed in the middle --------------------------------------------------------------------------------------

open_window --steps 500 -s 3 'a house'
happens '"event":"preview"' 3
shot preview
keys Escape
happens '"event":"stopped"' 1 10
took=$(ms_between "$(last '"cancel"' | value at)" "$(last '"stopped"' | value at)")
[ "$took" -le $((1000 * slow)) ] || fail "stopping took $took ms"
n=$(count '"event":"preview"')
keys Return Escape Return Escape Return # what was stopped before it began does not hold up the next
happens '"event":"preview"' $((n + 2))
grep -q '"event":"failed"' log && fail "$(last '"failed"')"
keys ctrl+q
ends 0 1000

open_window --steps 500 -s 3 'a house'
happens '"event":"preview"' 1
kill -TERM $pid
ends 143 1500

# a picture that is being saved is saved
open_window --steps 2 -s 7 'a cat' -o kept.png
happens '"event":"done"' 1 200
keys Return ctrl+s ctrl+q
ends 0 1500
"$diffc" txt2img 'a cat' --steps 2 -s 7 -q -o cat.png
cmp -s kept-0001.png cat.png || fail "the picture saved on the way out is not there: $(ls)"

# ---- live: while it is typed ------------------------------------------------------------------------------------------------------

open_window --live -s 1
write 'a red apple on a table'
happens '"event":"picture"' 1 200
sleep 1
happens '"prompt":"a red apple on a table"' 1
drawn=$(count '"event":"draw"')
[ "$drawn" -lt 22 ] || fail "live: $drawn runs for 22 letters"
for i in $(seq 100); do # the last run's end is the last thing that happens
    [ "$(grep -n '"event":"draw"' log | tail -n 1 | cut -d : -f 1)" -lt "$(grep -n '"event":"done"' log | tail -n 1 | cut -d : -f 1)" ] 2>/dev/null && break
    sleep 0.1
done
[ "$(count '"event":"done"')" -ge 1 ] || fail "live: nothing was drawn to its end"
shot live

# answers to keys while it draws; on a machine that others use, too, most of them
grep '"event":"answered"' log | value ms | sort -n >answers
half=$(sed -n "$((($(wc -l <answers) + 1) / 2))p" answers) most=$(tail -n 1 answers)
echo "answers to $(wc -l <answers) inputs in live mode: half within $half ms, all within $most ms"
[ "${half%.*}" -lt $((50 * slow)) ] || fail "half of the answers took more than $half ms"
keys ctrl+q
ends 0 1500

# ---- the search pane --------------------------------------------------------------------------------------------------------------

mkdir pictures
cp "$file" pictures/apple.png
cp "$tests/golden/image/src/icon_rgb.png" "$tests/golden/image/src/zone_rgb.png" pictures
touch -d '1 hour ago' pictures/*
"$diffc" index pictures -q 2>/dev/null || fail "index"
open_window --index pictures/.diffc
keys F3
write 'a red apple'
happens '"pictures":3,"event":"found"' 1
sleep 1
shot found
keys Down Return
sleep 1
shot start-or-replay
keys i
happens '"picture":true,' 1
keys ctrl+q
ends 0 1000
open_window --index nowhere
keys F3
write x
happens '"pictures":0,"error":"nowhere: index: found none' 1
shot no-index
keys Escape ctrl+q
ends 0 1000

# ---- without a display --------------------------------------------------------------------------------------------------------------

DISPLAY= refused 69 'window: found no display' view
finish

#!/bin/sh
# A fuzzing campaign: builds the fuzz preset (clang), runs every target one after the other, keeps new corpus files that add coverage, and prints
# a table. What is found lies in build/fuzz/findings.
#
#     tests/fuzz/campaign.sh [-s SECONDS in all, 3600] [-n EXECUTIONS a target instead] [-j JOBS, 2: of building] [TARGET...]
set -eu
cd "$(dirname "$0")/../.."
seconds=3600 runs='' jobs=2
while getopts s:n:j: o; do
    case $o in
    s) seconds=$OPTARG ;;
    n) runs=$OPTARG ;;
    j) jobs=$OPTARG ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
targets=${*:-$(cd tests/fuzz && ls fuzz_*.c | sed 's/^fuzz_//; s/\.c$//')}
build=build/fuzz found=build/fuzz/findings
cmake --preset fuzz -DDIFFC_TESTS=ON >/dev/null
mkdir -p $found
cmake --build $build -j "$jobs" --target $(for t in $targets; do echo "fuzz_$t"; done) >$build/campaign-build.log || { tail -20 $build/campaign-build.log; exit 1; }
each=$((seconds / $(echo $targets | wc -w)))
limits="-timeout=5 -rss_limit_mb=512 -malloc_limit_mb=256 -max_len=65536 -print_final_stats=1"
export DIFFC_ASSETS=$PWD/assets

row() { printf '%-12s %12s %9s %9s %9s  %s\n' "$@"; }
row target executions 'exec/s' coverage features findings
bad=0
for t in $targets; do
    work=$build/corpus-$t log=$build/campaign-$t.log
    mkdir -p $work
    how="-max_total_time=$each"
    [ -n "$runs" ] && how="-runs=$runs"
    before=$(ls $found | wc -l)
    # new inputs go to the first folder; a finding ends the run of its target
    $build/tests/fuzz_$t $how $limits -artifact_prefix=$found/$t- $work tests/fuzz/corpus/$t >$log 2>&1 || true
    new=$(($(ls $found | wc -l) - before))
    [ $new = 0 ] || bad=1
    last=$(grep -a '	\(DONE\|NEW\|REDUCE\|pulse\|INITED\) *cov:' $log | tail -1)
    row $t "$(sed -n 's/^stat::number_of_executed_units: *//p' $log)" "$(sed -n 's/^stat::average_exec_per_sec: *//p' $log)" \
        "$(echo "$last" | sed -n 's/.* cov: \([0-9]*\).*/\1/p')" "$(echo "$last" | sed -n 's/.* ft: \([0-9]*\).*/\1/p')" $new
    # the smallest set of new inputs that keeps the coverage, small files only
    if [ $new = 0 ]; then
        find $work -type f -size +8k -delete
        $build/tests/fuzz_$t -merge=1 $limits tests/fuzz/corpus/$t $work >$log.merge 2>&1 || true
    fi
done
exit $bad

#!/usr/bin/env bash
# Builds the fuzz targets with AddressSanitizer, UndefinedBehaviorSanitizer (C) and coverage, then runs each under
# libFuzzer from its committed corpus. Prints one line a target; fails when anything was found.
#
#   Tests/fuzz.sh [SECONDS]          60 by default, for each target
#
# FUZZ_TARGETS="envelope body" chooses targets. FUZZ_GROW=1 adds what found new code to the corpora afterwards, smallest
# inputs first. ZOETROPE_SCRATCH names the build folder, where logs, findings and the working corpora lie as well.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
scratch=${ZOETROPE_SCRATCH:-.build-fuzz}
all="envelope protobuf upload download safetensors body"
declare -A longest=([body]=20000 [envelope]=4096 [safetensors]=4096) # bytes of an input; 1024 otherwise
kept=64      # inputs of a committed corpus at most
mkdir -p "$scratch"
scratch=$(cd "$scratch" && pwd)

toolchain=$(dirname "$(readlink -f "$(command -v swiftc)")")/..
driver=$(find "$toolchain/lib" -name "libclang_rt.fuzzer_no_main-$(uname -m).a" 2>/dev/null | head -n 1)
[ -n "$driver" ] || { echo "fuzz: the Swift toolchain has no libFuzzer" >&2; exit 2; }

echo "fuzz: building into $scratch"
export ZOETROPE_FUZZ=1 ZOETROPE_TARGETS=FuzzMain
flags=(-c release --scratch-path "$scratch" -j "${ZOETROPE_JOBS:-$(nproc)}" --sanitize=address
    -Xswiftc -sanitize-coverage=edge,indirect-calls,trace-cmp,inline-8bit-counters,pc-table
    -Xswiftc -use-ld=lld -Xcc -fsanitize=fuzzer-no-link,undefined -Xcc -fno-sanitize-recover=undefined
    -Xlinker "$driver" -Xlinker -lstdc++)
swift build "${flags[@]}" ${FUZZ_BUILD_FLAGS:-} > "$scratch/build.log" 2>&1 \
    || { grep -E 'error|warning: var' "$scratch/build.log" | head -n 20; tail -n 5 "$scratch/build.log"; exit 1; }

# Swift's backtrace on a crash hangs under AddressSanitizer; libFuzzer prints one itself.
export SWIFT_BACKTRACE=enable=no ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" UBSAN_OPTIONS="print_stacktrace=1"
failed=0
printf '%-12s %10s %8s %9s %8s %9s  %s\n' target executions seconds "per s" corpus coverage findings
for target in ${FUZZ_TARGETS:-$all}; do
    seeds=Tests/Fuzz/Corpus/$target grown=$scratch/corpus/$target findings=$scratch/findings/$target
    log=$scratch/$target.log
    mkdir -p "$seeds" "$grown" "$findings"
    export ZOETROPE_FUZZ_TARGET=$target
    timeout $((seconds + 120)) "$scratch/release/FuzzMain" -max_total_time="$seconds" -timeout=20 \
        -max_len="${longest[$target]:-1024}" \
        -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$findings/" "$grown" "$seeds" < /dev/null > "$log" 2>&1
    status=$?
    # libFuzzer ends the process itself, so nothing tidies up behind it.
    rm -rf -- /dev/shm/zt-fuzz-"$target"-* /tmp/zt-fuzz-"$target"-*
    runs=$(awk '/stat::number_of_executed_units/ {print $2}' "$log")
    rate=$(awk '/stat::average_exec_per_sec/ {print $2}' "$log")
    coverage=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2)
    found=$(find "$findings" -type f | wc -l)
    [ "$status" -eq 0 ] || { failed=1; [ "$found" -gt 0 ] || found="exit status $status"; }
    printf '%-12s %10s %8s %9s %8s %9s  %s\n' "$target" "${runs:-?}" "$seconds" "${rate:-?}" \
        "$(find "$grown" "$seeds" -type f | wc -l)" "${coverage:-?}" "$found"
    [ "$status" -eq 0 ] || { grep -m 5 -a 'FINDING\|ERROR: \|runtime error\|SUMMARY' "$log"; echo "    see $log"; }
    if [ -n "${FUZZ_GROW:-}" ] && [ "$status" -eq 0 ]; then
        merged=$scratch/merged/$target
        rm -rf -- "$merged" && mkdir -p "$merged"
        "$scratch/release/FuzzMain" -merge=1 "$merged" "$seeds" "$grown" < /dev/null > "$scratch/merge.log" 2>&1
        find "$merged" -type f -printf '%s %f\n' | sort -n | head -n "$kept" | while read -r _ name; do
            [ "$(find "$seeds" -type f | wc -l)" -ge "$kept" ] || cp "$merged/$name" "$seeds/$name"
        done
    fi
done
exit "$failed"

#!/usr/bin/env bash
# Builds layers with ThreadSanitizer and then with AddressSanitizer and runs their tests, one at a time because they are
# many times slower. Ends with one line for each sanitizer; fails when a test does or anything was reported.
#
#   Tests/sanitize.sh [TEST TARGET…]
#
# ZOETROPE_SANITIZERS="thread" chooses one, ZOETROPE_SCRATCH names the folder that holds both builds.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

layers=("$@")
if [ ${#layers[@]} -eq 0 ]; then
    layers=(BusTests WireTests StageTests WorkTests LedgerTests TensorTests ComputeTests)
fi
export ZOETROPE_TARGETS="${layers[*]}"
scratch=${ZOETROPE_SCRATCH:-.build-sanitize}
jobs=${ZOETROPE_JOBS:-$(nproc)}
mkdir -p "$scratch"
failed=0

# sanitize NAME SANITIZER-FLAG…: the build, the tests, and a summary of both.
sanitize() {
    local name=$1 folder=$scratch/$1 log=$scratch/$1.log status=0 preload=""
    shift
    echo "== $name: building ${layers[*]}"
    local flags=(-c release --build-tests --scratch-path "$folder" -j "$jobs" "$@")
    swift build "${flags[@]}" > "$log" 2>&1 || { tail -n 40 "$log"; echo "== $name: does not build"; return 1; }
    if [ "$name" = thread ]; then
        preload=$(cd "$folder" && pwd)/swift_mutex.so
        clang -O1 -Wall -shared -fPIC -o "$preload" Tests/Sanitizers/swift_mutex.c || return 1
    fi
    echo "== $name: running"
    # The test process itself, not `swift test`: what is preloaded is for it alone.
    LD_PRELOAD=$preload SWIFT_BACKTRACE=enable=no \
        TSAN_OPTIONS="halt_on_error=0 exitcode=66 ${TSAN_OPTIONS:-}" \
        ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" \
        "$folder/release/zoetropePackageTests.xctest" --testing-library swift-testing --no-parallel \
        > "$log" 2>&1 || status=$?
    local reports
    reports=$(grep -ac '^SUMMARY: .*Sanitizer' "$log")
    grep -a '^SUMMARY: .*Sanitizer\|✘\|Assertion failed\|Fatal error' "$log" | sort | uniq -c
    grep -a 'Test run with' "$log" || echo "the test process died (exit status $status)"
    echo "== $name: $reports reports, exit status $status; all of it is in $log"
    [ "$status" -eq 0 ] && [ "$reports" -eq 0 ]
}

for sanitizer in ${ZOETROPE_SANITIZERS:-thread address}; do
    case $sanitizer in
        thread) sanitize thread --sanitize=thread || failed=1 ;;
        address) sanitize address --sanitize=address || failed=1 ;;
        *) echo "unknown sanitizer $sanitizer" >&2; failed=1 ;;
    esac
done
exit "$failed"

#!/usr/bin/env bash
# Runs the tests that `swift build --build-tests` left in a build folder, in phases from the cheapest to the dearest,
# and ends with one line: "N passed, N failed" (and "N skipped" where there are any).
#
#   Tests/run.sh [SCRATCH_PATH]
#
# End-to-end tests start real processes and measure what they do, so they run one at a time and after the rest.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=${1:-.build}
reports=$(mktemp -d)
trap 'rm -rf -- "$reports"' EXIT
passed=0 failed=0 skipped=0

# phase NAME FILTER-ARGUMENTS…: one `swift test`, whose xunit report is added to the totals.
phase() {
    local name=$1 started=$SECONDS report status=0
    shift
    report=$reports/$name.xml
    echo
    echo "== $name tests"
    swift test -c release --scratch-path "$scratch" --skip-build --disable-xctest \
        --xunit-output "$report" "$@" || status=$?
    if [ ! -s "$report" ]; then
        echo "== $name tests: no report (exit status $status): the test process died" >&2
        failed=$((failed + 1))
        return
    fi
    local cases failures skips
    cases=$(grep -c '<testcase ' "$report" || true)
    failures=$(awk '/<testcase /{counted = 0} /<failure/ && !counted {counted = 1; n++} END {print n + 0}' "$report")
    skips=$(grep -c '<skipped' "$report" || true)
    if [ "$cases" -eq 0 ]; then
        echo "== $name tests: none were found" >&2
        failures=1
        cases=1
    elif [ "$status" -ne 0 ] && [ "$failures" -eq 0 ]; then
        echo "== $name tests: exit status $status without a failed test" >&2
        failures=1
        cases=$((cases + 1))
    fi
    passed=$((passed + cases - failures - skips))
    failed=$((failed + failures))
    skipped=$((skipped + skips))
    echo "== $name tests: $((cases - failures - skips)) passed, $failures failed, $skips skipped," \
        "$((SECONDS - started)) s"
}

# The check with OpenAI's own client needs Python with openai. Without PyPI the test says that it is skipped.
if [ -z "${ZOETROPE_PYTHON:-}" ]; then
    client=$scratch/openai-client
    if [ ! -x "$client/ready" ]; then
        echo "== installing the openai client into $client"
        python3 -m venv "$client" && "$client/bin/pip" install --quiet openai && ln -sf bin/python "$client/ready" \
            || echo "== no openai client: its test will be skipped" >&2
    fi
    if [ -x "$client/ready" ]; then
        ZOETROPE_PYTHON=$(cd "$client" && pwd)/bin/python
        export ZOETROPE_PYTHON
    fi
fi

# Instructions of the kernels, a few seconds; status 3 says that there is no valgrind.
guard() {
    local status=0
    echo
    echo "== kernel guard"
    Tests/kernel-guard.sh "$scratch" || status=$?
    case $status in
        0) passed=$((passed + 1)) ;;
        3) skipped=$((skipped + 1)) ;;
        *) failed=$((failed + 1)) ;;
    esac
}

# The chaos harness's judge against histories that it must refuse.
checker() {
    echo
    echo "== chaos checker"
    if python3 Tests/Chaos/checker_test.py; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

phase architecture --filter '^ArchitectureTests\.'
phase unit --skip '^(ArchitectureTests|SimulatorTests|EndToEndTests)\.'
phase simulator --filter '^SimulatorTests\.'
guard
checker
phase end-to-end --no-parallel --filter '^EndToEndTests\.'

echo
summary="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || echo "($skipped skipped; each says why above)"
echo "$summary"
[ "$failed" -eq 0 ]

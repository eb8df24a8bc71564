#!/usr/bin/env bash
# Counts the instructions of every kernel on a fixed small shape and compares them with
# Tests/KernelGuard/instructions.txt: a kernel that takes over 3 % more fails. Counts are the same on every machine,
# which seconds are not; they say nothing about memory. Valgrind knows no AVX-512: generic and AVX2 kernels are counted.
#
#   Tests/kernel-guard.sh [--update] [SCRATCH_PATH]
#
# --update writes the table anew. Status 0: nothing regressed; 1: something did; 3: skipped, and says why.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

update=false
if [ "${1:-}" = --update ]; then
    update=true
    shift
fi
program=${1:-.build}/release/zoetrope-kernel-guard
table=Tests/KernelGuard/instructions.txt
tolerance=3

if ! command -v valgrind >/dev/null; then
    echo "kernel guard: skipped, there is no valgrind here"
    exit 3
fi
if [ ! -x "$program" ]; then
    echo "kernel guard: $program is missing; make build" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# Older valgrinds cannot read a newer compiler's debug information; names of functions are enough.
strip --strip-debug -o "$work/program" "$program"
# One dump follows each call of `guarded`, in the order of the names.
if ! valgrind --tool=callgrind --toggle-collect=guarded --dump-after=guarded --callgrind-out-file="$work/out" \
    "$work/program" all >"$work/names" 2>"$work/log"; then
    cat "$work/log" >&2
    exit 1
fi
number=0
while read -r name; do
    number=$((number + 1))
    echo "$name $(awk '/^summary:/ {print $2}' "$work/out.$number")"
done <"$work/names" >"$work/counts"

if $update; then
    {
        echo "# Instructions of each kernel on the shapes of main.c (Tests/kernel-guard.sh --update)."
        cat "$work/counts"
    } >"$table"
    echo "kernel guard: $number counts written to $table"
    exit 0
fi

awk -v tolerance="$tolerance" '
    FNR == NR { if ($0 !~ /^#/ && NF == 2) { expected[$1] = $2; order[++known] = $1 }; next }
    {
        measured[$1] = 1
        if (!($1 in expected)) { verdict = "not in the table: --update"; failed++; change = "" }
        else {
            percent = 100 * ($2 - expected[$1]) / expected[$1]
            change = sprintf("%+.1f %%", percent)
            verdict = ""
            if (percent > tolerance) { verdict = "SLOWER"; failed++ }
            else if (percent < -tolerance) verdict = "better: --update keeps it"
        }
        printf "%-34s %10d %10s %9s  %s\n", $1, $2, $1 in expected ? expected[$1] : "-", change, verdict
    }
    END {
        for (i = 1; i <= known; i++) if (!(order[i] in measured)) { missing++; name = order[i] }
        if (missing) printf "%d entries were not counted here, such as %s\n", missing, name
        printf "kernel guard: %d counted, %d failed (more than %d %% over the table)\n", FNR, failed, tolerance
        exit failed > 0
    }' "$table" "$work/counts"

#!/usr/bin/env bash
# Validates compose.yaml with docker-compose, alone, with the optional profile and with cells.yaml, and that the Dockerfile has a target
# for every service that builds from it. Says SKIPPED where docker-compose is not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v docker-compose >/dev/null 2>&1; then
    echo "compose: SKIPPED: docker-compose is not installed (Debian package docker-compose)"
    exit 0
fi
docker-compose -f compose.yaml config --quiet
docker-compose -f compose.yaml --profile upsampler config --quiet
docker-compose -f compose.yaml -f cells.yaml config --quiet
resolved=$(docker-compose -f compose.yaml --profile upsampler config)
targets=$(sed -n 's/^ *target: *//p' <<<"$resolved" | sort -u)
services=$(docker-compose -f compose.yaml --profile upsampler config --services | sort -u)
[ "$targets" = "$services" ] || { echo "compose: services and build targets differ" >&2; exit 1; }
for target in $targets; do
    grep -qE "^FROM runtime AS $target\$" Dockerfile || { echo "compose: the Dockerfile has no target $target" >&2; exit 1; }
done
echo "compose: compose.yaml is valid: $(tr '\n' ' ' <<<"$services")"

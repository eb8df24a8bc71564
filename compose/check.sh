#!/usr/bin/env bash
# Validates compose.yaml with docker-compose, alone, with the optional profiles and with cells.yaml, that the Dockerfile has
# a target for every service, and that every service on the bus has a key of its own. Says SKIPPED where docker-compose is
# not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v docker-compose >/dev/null 2>&1; then
    echo "compose: SKIPPED: docker-compose is not installed (Debian package docker-compose)"
    exit 0
fi
docker-compose -f compose.yaml config --quiet
fail() { echo "compose: $*" >&2; exit 1; }
every=(docker-compose -f compose.yaml --profile upsampler --profile keys)
"${every[@]}" config --quiet
docker-compose -f compose.yaml -f cells.yaml config --quiet
resolved=$("${every[@]}" config)
services=$("${every[@]}" config --services | sort -u)
targets=$(sed -n 's/^ *target: *//p' <<<"$resolved" | sort -u)
[ "$targets" = "$(sed 's/^keys$/command-line/' <<<"$services" | sort -u)" ] || fail "services and build targets differ"
for target in $targets; do
    grep -qE "^FROM runtime AS $target\$" Dockerfile || fail "the Dockerfile has no target $target"
done
for service in $services; do
    [ "$service" != keys ] || continue
    grep -qF -- "- --key=/keys/$service.key" <<<"$resolved" || fail "$service has no key"
    grep -qE "^ *- /.*/$service:/keys:ro$" <<<"$resolved" || fail "$service does not see its key, or sees others'"
done
adapters=$(ZOETROPE_ADAPTERS=/srv/loras "${every[@]}" config)
[ "$(grep -cF -- --adapters=/adapters <<<"$adapters")" -eq 2 ] && [ "$(grep -cF /srv/loras:/adapters:ro <<<"$adapters")" -eq 2 ] \
    || fail "gateway and denoiser do not see the adapters, or others do"
both=$(docker-compose -f compose.yaml -f cells.yaml config)
[ "$(grep -cF -- --adapters=/adapters <<<"$both")" -eq 2 ] || fail "cells.yaml forgets the adapters"
[ "$(grep -cF -- --insecure <<<"$resolved")" -eq 1 ] || fail "only the gateway's HTTP goes without keys"
echo "compose: compose.yaml is valid: $(tr '\n' ' ' <<<"$services")"

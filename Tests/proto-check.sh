#!/usr/bin/env bash
# Fails when the committed protoc-c output differs from what Shared/CWire/generate.sh makes of the .proto files now.
# Works on a copy: the checkout is not touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v protoc-c >/dev/null 2>&1; then
    echo "proto-check: protoc-c is not installed (Debian package protobuf-c-compiler)" >&2
    exit 1
fi
copy=$(mktemp -d)
trap 'rm -rf -- "$copy"' EXIT
cp -R Shared/CWire "$copy/CWire"
(cd "$copy/CWire" && ./generate.sh)
if ! diff -ru Shared/CWire "$copy/CWire"; then
    echo "proto-check: the committed files are stale; run 'make proto' and commit the result" >&2
    exit 1
fi
echo "proto-check: the committed protoc-c output is current"

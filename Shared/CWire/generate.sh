#!/bin/sh
# Regenerates zoetrope.pb-c.{c,h} from proto/zoetrope.proto; needs protoc-c 1.4.1 (Debian: protobuf-c-compiler).
# The output is committed: CI runs this and requires an empty `git diff`.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
protoc-c --proto_path=proto --c_out="$work" proto/zoetrope.proto
mv "$work/zoetrope.pb-c.c" zoetrope.pb-c.c
mv "$work/zoetrope.pb-c.h" include/zoetrope.pb-c.h

#!/usr/bin/env bash
# Installs the Debian packages that building, testing and running Zoetrope needs: only those that are missing.
#
#   compose/setup.sh             install what is missing (through sudo when not root)
#   compose/setup.sh --list      print the package names, one a line
#   compose/setup.sh --with P    install P as well (may be repeated)
set -euo pipefail

packages=(
    libzmq3-dev                                      # the message bus
    libprotobuf-c-dev protobuf-c-compiler protobuf-compiler  # the wire format, and regenerating it
    libavcodec-dev libavformat-dev libavutil-dev libswscale-dev ffmpeg  # video files, and checking them
    libsqlite3-dev                                   # the broker's ledger
    pkg-config make curl iproute2 python3-venv       # build, HTTP and network-namespace tests
)

while [ $# -gt 0 ]; do
    case "$1" in
        --list) printf '%s\n' "${packages[@]}"; exit 0 ;;
        --with) packages+=("${2:?--with needs a package name}"); shift 2 ;;
        *) echo "setup: unknown option '$1' (known: --list, --with PACKAGE)" >&2; exit 2 ;;
    esac
done

if ! command -v swift >/dev/null 2>&1; then
    echo "setup: no 'swift' in PATH. Install Swift 6.3 or newer from https://www.swift.org/install/linux/" >&2
    exit 1
fi

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: this is not a Debian-like system, so nothing was installed. What is needed, by its Debian names:"
    printf '  %s\n' "${packages[@]}"
    echo "setup: continuing; the build will say what is missing."
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
    echo "setup: all ${#packages[@]} system packages are installed"
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "setup: not root and no sudo. As root, run: apt-get install -y ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "setup: installing ${#missing[@]} of ${#packages[@]} system packages: ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
echo "setup: done"

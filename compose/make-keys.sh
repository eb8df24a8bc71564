#!/usr/bin/env bash
# Makes the keys of a cluster of one process a stage: a folder for each service, which is all that the service gets to see.
#
#   compose/make-keys.sh                                    into compose/keys, with the package's own zoetrope
#   docker-compose -f compose/compose.yaml run --rm keys    the same where nothing but containers is at hand
#
#   make-keys.sh [--zoetrope PROGRAM] [--owner UID] [FOLDER]
#
#   FOLDER/broker/    broker.key, broker.pub and authorized-keys: whom the broker admits, and as what
#   FOLDER/gateway/   gateway.key, broker.pub and admin.token, which administrators show to the gateway
#   FOLDER/STAGE/     STAGE.key and broker.pub
#
# --owner gives the files to the user that containers run as (10001; needs root). What is there already stays: run it again
# after an upgrade that brings a new service. Files are of mode 0600, folders of 0700.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
zoetrope='' owner='' folder=''
fail() { echo "make-keys: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case "$1" in
        --zoetrope) [ $# -ge 2 ] || fail "$1 needs a value"; zoetrope=$2; shift 2 ;;
        --owner) [ $# -ge 2 ] || fail "$1 needs a value"; owner=$2; shift 2 ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        -*) fail "'$1' is no option (see --help)" ;;
        *) folder=$1; shift ;;
    esac
done
[ -n "$folder" ] || folder=$here/keys
[ -n "$zoetrope" ] || zoetrope=${ZOETROPE_SCRATCH:-$here/../.build}/release/zoetrope
[ -x "$zoetrope" ] || zoetrope=$(command -v zoetrope) || fail "zoetrope is not built; run 'make build' or give --zoetrope"
[ -z "$owner" ] || [ "$(id -u)" -eq 0 ] || fail "--owner needs root"

umask 077
# An owner of an earlier run is no reason to fail: root may do everything.
mkdir -p "$folder/broker"
authorized=$folder/broker/authorized-keys

# make SERVICE: a key pair in the service's own folder.
make() {
    mkdir -p "$folder/$1"
    [ -e "$folder/$1/$1.key" ] || "$zoetrope" keys new "$1" --directory "$folder/$1" >/dev/null
}

# admit SERVICE ROLE [STAGES]: once, so that what an operator has changed since stays.
admit() {
    ! grep -qF -- " $(cat "$folder/$1/$1.pub")" "$authorized" 2>/dev/null || return 0
    "$zoetrope" keys authorize "$1" "$folder/$1/$1.pub" --role "$2" ${3:+--stages "$3"} \
        --authorized-keys "$authorized"
}

make broker
for service in gateway prompt-upsampler text-encoder vae-encoder denoiser vae-decoder video-muxer; do
    make "$service"
    # No secret, but the pin by which a service knows its broker.
    cp "$folder/broker/broker.pub" "$folder/$service/broker.pub"
    # The gateway may administrate, for those who show it the token.
    if [ "$service" = gateway ]; then admit gateway admin; else admit "$service" worker "$service"; fi
done
[ -e "$folder/gateway/admin.token" ] || "$zoetrope" keys token admin --directory "$folder/gateway" >/dev/null
[ -z "$owner" ] || chown -R "$owner:$owner" "$folder"/*/
echo "make-keys: keys in $folder; administrators use --admin-token-file $folder/gateway/admin.token"

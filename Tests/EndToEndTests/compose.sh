#!/usr/bin/env bash
# compose.yaml without containers: every service's own command, user, keys and environment, as docker-compose resolves them,
# each process in a root of its own that has the container's folders and nothing of the other services'. All of them share
# a network namespace in which only "broker" is a name. Makes a video and administrates the cluster.
#
#   Tests/EndToEndTests/compose.sh [--bin FOLDER]      needs root; says "SKIPPED: why" and succeeds where it cannot run
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${ZOETROPE_SCRATCH:-$root/.build}/release
if [ "${1:-}" = --bin ]; then bin=$2; shift 2; fi
export PATH=$PATH:/usr/sbin:/sbin
user=10001

skip() { echo "compose: SKIPPED: $*"; exit 0; }

# Second half, inside a mount namespace of one service: its root, then its command.
#   --inside ROOT KEYS MODEL BIN COMMAND…
if [ "${1:-}" = --inside ]; then
    jail=$2 keys=$3 model=$4 executables=$5
    shift 5
    mount -t tmpfs -o mode=755 tmpfs "$jail"
    for folder in usr etc proc sys dev; do
        mkdir "$jail/$folder"
        mount --rbind "/$folder" "$jail/$folder"
    done
    for link in bin sbin lib lib64; do
        if [ -L "/$link" ]; then ln -s "$(readlink "/$link")" "$jail/$link"; else
            mkdir "$jail/$link"; mount --rbind "/$link" "$jail/$link"
        fi
    done
    # What this build needs of the machine beside Debian's folders: Swift's libraries, wherever they lie.
    for library in $(ldd "$executables/zoetrope-broker" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p'); do
        case "$library" in /usr/* | /lib*) continue ;; esac
        mkdir -p "$jail$(dirname "$library")"
        touch "$jail$library"
        mount --bind "$library" "$jail$library"
    done
    mkdir -p "$jail/model" "$jail/adapters" "$jail/keys" "$jail/bin-zoetrope" "$jail/tmp" "$jail/run/zoetrope" "$jail/var/lib/zoetrope"
    mount --bind "$model" "$jail/model"
    mount --bind "$keys" "$jail/keys"
    mount --bind "$executables" "$jail/bin-zoetrope"
    case "$(basename "$keys")" in gateway | denoiser) mount --bind "$keys/../../adapters" "$jail/adapters" ;; esac
    [ ! -d "$keys/../../data" ] || [ "$(basename "$keys")" != broker ] \
        || mount --bind "$keys/../../data" "$jail/var/lib/zoetrope"
    chmod 1777 "$jail/tmp"
    chown 10001:10001 "$jail/run/zoetrope" "$jail/var/lib/zoetrope"
    chmod 0700 "$jail/run/zoetrope"
    hosts=$jail/run/hosts
    echo "127.0.0.1 localhost broker" >"$hosts"
    mount --bind "$hosts" "$jail/etc/hosts"
    program=/bin-zoetrope/$1
    shift
    exec chroot --userspec=10001:10001 "$jail" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/var/lib/zoetrope \
        ZOETROPE_RUN_DIRECTORY=/run/zoetrope XDG_CACHE_HOME=/run/zoetrope/cache "$program" "$@"
fi

[ "$(id -u)" -eq 0 ] || skip "roots and users of their own need root"
for tool in docker-compose curl unshare chroot; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done
[ -x "$bin/zoetrope" ] || { echo "compose: $bin/zoetrope is not built" >&2; exit 1; }
if [ -z "${ZOETROPE_COMPOSE_NETWORK:-}" ]; then
    unshare -n true 2>/dev/null || skip "unshare -n is not permitted"
    ZOETROPE_COMPOSE_NETWORK=1 exec unshare -n "$0" --bin "$bin"
fi
ip link set lo up

work=$(mktemp -d /tmp/zt-compose-XXXXXX)
pids=()
clean_up() {
    trap - EXIT INT TERM
    [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf -- "$work"
}
trap clean_up EXIT INT TERM
chmod 755 "$work"
fail() { echo "compose: FAILED: $*" >&2; tail -n 15 "$work"/*.log >&2; exit 1; }

# The documented command. Containers run as user 10001.
"$root/compose/make-keys.sh" --zoetrope "$bin/zoetrope" --owner $user "$work/keys" >"$work/make-keys.log" \
    || fail "make-keys.sh"
for service in gateway denoiser; do
    [ "$(stat -c '%a %u' "$work/keys/$service/$service.key")" = "600 $user" ] || fail "$service.key is not its owner's alone"
done
before=$(sha256sum "$work"/keys/*/* | sha256sum)
"$root/compose/make-keys.sh" --zoetrope "$bin/zoetrope" --owner $user "$work/keys" >"$work/make-keys-2.log" \
    || fail "make-keys.sh, the second time"
[ "$before" = "$(sha256sum "$work"/keys/*/* | sha256sum)" ] || fail "a second run of make-keys.sh changed something"

mkdir "$work/data" "$work/roots" "$work/adapters"
cp "$root/Tests/Golden/loras/demo/dusk.safetensors" "$work/adapters/"
chown $user:$user "$work/data"
model=$bin/zoetrope_DemoModel.resources/cogvideox-demo
# docker-compose says what each service runs: one word a line.
ZOETROPE_KEYS=$work/keys ZOETROPE_ADAPTERS=$work/adapters docker-compose -f "$root/compose/compose.yaml" config >"$work/resolved.yaml" \
    || fail "docker-compose config"
command_of() {
    sed -n "/^  $1:/,/^  [a-z]/p" "$work/resolved.yaml" | sed -n '/^    command:/,/^    [a-z]/s/^    - //p' | tr -d "'\""
}
start() {
    local words
    mapfile -t words < <(command_of "$1")
    [ "${words[0]:-}" = "zoetrope-$1" ] || fail "$1 has no command: ${words[*]:-}"
    mkdir "$work/roots/$1"
    unshare -m --propagation private "$0" --inside "$work/roots/$1" "$work/keys/$1" "$model" "$bin" "${words[@]}" \
        >>"$work/$1.log" 2>&1 </dev/null &
    pids+=($!)
}
for service in broker gateway text-encoder denoiser vae-decoder video-muxer; do start "$service"; done

server=http://127.0.0.1:8080
for ((attempt = 0; ; attempt++)); do
    ! curl -fsS -m 2 "$server/healthz" >"$work/health" 2>/dev/null || break
    [ $attempt -lt 600 ] || fail "the cluster is not ready: $(cat "$work/health")"
    sleep 0.1
done
echo "compose: six processes with the commands of compose.yaml are connected behind CURVE"

zoetrope() { (cd "$work" && "$bin/zoetrope" "$@"); }
id=$(zoetrope submit "the sun rising over green hills" --lora dusk:0.5 --num-inference-steps 4 --num-frames 9 --seed 7) || fail "submit"
zoetrope watch "$id" >"$work/watch.log" 2>&1 || fail "watch: $(cat "$work/watch.log")"
zoetrope fetch "$id" --output "$work/out.mp4" >"$work/fetch.log" || fail "fetch"
[ -s "$work/out.mp4" ] || fail "no video"

grep -q '/adapters:/adapters:ro' "$work/resolved.yaml" || fail "the adapters are not mounted"
zoetrope status --workers >"$work/workers.out" || fail "status --workers"
grep -q 'float32 with dusk:0.5' "$work/workers.out" || fail "no adapter is ready: $(cat "$work/workers.out")"

# Administration is for those who show the token.
! zoetrope drain denoiser-none >"$work/drain.out" 2>&1 || fail "drain without a token went through"
grep -q admin_token_required "$work/drain.out" || fail "$(cat "$work/drain.out")"
zoetrope dead list --admin-token-file "$work/keys/gateway/admin.token" >"$work/dead.out" 2>&1 \
    || fail "dead list: $(cat "$work/dead.out")"

# A key that is revoked on the host, as root, shuts its owner out.
"$bin/zoetrope" keys revoke denoiser --directory "$work/keys/broker" >"$work/revoke.out" || fail "revoke"
[ "$(stat -c %u "$work/keys/broker/authorized-keys")" = $user ] || fail "the list was taken away from the broker"
for ((attempt = 0; ; attempt++)); do
    ! curl -sS -m 2 "$server/healthz" | grep -q '"missing":\["denoiser"\]' || break
    [ $attempt -lt 300 ] || fail "the revoked denoiser is still there"
    sleep 0.1
done
curl -fsS -m 2 "$server/metrics" >"$work/metrics" || fail "metrics"
grep -q '^zoetrope_sessions_revoked_total 1$' "$work/metrics" || fail "$(cat "$work/metrics")"
grep -q '^zoetrope_admin_refusals_total 1$' "$work/metrics" || fail "$(cat "$work/metrics")"
echo "compose: passed: a video was made with an adapter, administration took the token, a revoked denoiser is gone"

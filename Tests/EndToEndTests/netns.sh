#!/usr/bin/env bash
# The demo video from stages that could be on six machines: every service is a process of its own in a network namespace
# of its own, with its own address on a bridge and its own key, and they speak TCP behind CURVE. The frames must be those
# of `zoetrope generate`.
#
#   Tests/EndToEndTests/netns.sh [--bin FOLDER]      needs root; says "SKIPPED: why" and succeeds where it cannot run
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${ZOETROPE_SCRATCH:-$root/.build}/release
[ "${1:-}" != --bin ] || bin=$2
export PATH=$PATH:/usr/sbin:/sbin
prompt="the sun rising over green hills"
request='"num_inference_steps": 10, "num_frames": 9, "seed": 7, "container": "mkv"'

skip() { echo "netns: SKIPPED: $*"; exit 0; }

[ "$(id -u)" -eq 0 ] || skip "network namespaces need root"
for tool in ip curl ffmpeg; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done
[ -x "$bin/zoetrope" ] || { echo "netns: $bin/zoetrope is not built" >&2; exit 1; }

# Names and the subnet carry the process id, so that two runs do not meet.
tag=zt$$
subnet=10.$((64 + $$ / 250 % 64)).$(($$ % 250))
bridge=br$tag
work=$(mktemp -d /tmp/zt-netns-XXXXXX)
pids=()

clean_up() {
    trap - EXIT INT TERM
    [ ${#pids[@]} -eq 0 ] || kill -TERM "${pids[@]}" 2>/dev/null || true
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    for service in "${services[@]}"; do ip netns delete "$tag-$service" 2>/dev/null || true; done
    ip link delete "$bridge" 2>/dev/null || true
    rm -rf -- "$work"
}
services=(broker gateway text-encoder denoiser vae-decoder video-muxer)
declare -A address
for index in "${!services[@]}"; do address[${services[$index]}]=$subnet.$((10 + index)); done

ip netns add "$tag-broker" 2>"$work/error" || { why=$(cat "$work/error"); rm -rf -- "$work"; skip "ip netns add: $why"; }
trap clean_up EXIT INT TERM
ip link add "$bridge" type bridge 2>"$work/error" || skip "ip link add: $(cat "$work/error")"
ip address add "$subnet.1/24" dev "$bridge"
ip link set "$bridge" up

for index in "${!services[@]}"; do
    service=${services[$index]} namespace=$tag-${services[$index]}
    [ "$service" = broker ] || ip netns add "$namespace"
    ip link add "v$index$tag" type veth peer name "p$index$tag" 2>"$work/error" || skip "veth: $(cat "$work/error")"
    ip link set "v$index$tag" master "$bridge" up
    ip link set "p$index$tag" netns "$namespace" name eth0
    ip -n "$namespace" address add "${address[$service]}/24" dev eth0
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link set eth0 up
    echo "netns: $service is ${address[$service]} in namespace $namespace"
done

logs() { tail -n 15 "$work"/start-* "$work"/logs/* >&2; }
fail() { echo "netns: FAILED: $*" >&2; logs; exit 1; }
# A key for each: six strangers to each other meet behind CURVE.
"$root/compose/make-keys.sh" --zoetrope "$bin/zoetrope" "$work/keys" >"$work/keys.log" 2>&1 \
    || fail "make-keys.sh: $(cat "$work/keys.log")"

for service in "${services[@]}"; do
    # A run directory for each: nothing can reach another stage by a local socket.
    mkdir -m 0700 "$work/run-$service"
    # Only HTTP goes without keys.
    http=()
    [ "$service" != gateway ] || http=(--insecure)
    ZOETROPE_RUN_DIRECTORY=$work/run-$service ip netns exec "$tag-$service" \
        "$root/compose/start-by-hand.sh" --bin "$bin" "${http[@]}" --keys "$work/keys" --broker "${address[broker]}" \
        --gateway "${address[gateway]}" --address "${address[$service]}" --data-port 7711 \
        --data-directory "$work/data" --log-directory "$work/logs" "$service" >"$work/start-$service" 2>&1 &
    pids+=($!)
done

server=http://${address[gateway]}:8080

for ((attempt = 0; ; attempt++)); do
    ! curl -fsS -m 2 "$server/healthz" >"$work/health" 2>/dev/null || break
    [ $attempt -lt 300 ] || fail "the cluster is not ready: $(cat "$work/health")"
    sleep 0.1
done
echo "netns: all stages are connected to tcp://${address[broker]}:7710 behind CURVE"

began=$(date +%s%N)
id=$(curl -fsS -m 10 "$server/v1/videos" -H 'Content-Type: application/json' \
    -d "{\"prompt\": \"$prompt\", $request}" | sed -E 's/.*"id" ?: ?"(video_[0-9a-f]+)".*/\1/') || fail "submit"
for ((attempt = 0; ; attempt++)); do
    status=$(curl -fsS -m 10 "$server/v1/videos/$id")
    case "$status" in
        *'"status":"completed"'* | *'"status" : "completed"'*) break ;;
        *'"status":"failed"'* | *'"status" : "failed"'*) fail "$status" ;;
    esac
    [ $attempt -lt 900 ] || fail "$id is not done: $status"
    sleep 0.1
done
echo "netns: $id took $((($(date +%s%N) - began) / 1000000)) ms from submit to done"
curl -fsS -m 30 -o "$work/apart.mkv" "$server/v1/videos/$id/content" || fail "download"

(cd "$work" && "$bin/zoetrope" generate "$prompt" --num-inference-steps 10 --num-frames 9 --seed 7 \
    --output "$work/together.mkv" >"$work/generate" 2>&1) || { cat "$work/generate" >&2; fail "generate on one host"; }

for name in apart together; do
    ffmpeg -v error -i "$work/$name.mkv" -f framemd5 - | grep -v '^#' >"$work/$name.frames"
done
[ "$(wc -l <"$work/apart.frames")" -eq 9 ] || fail "$(wc -l <"$work/apart.frames") frames instead of 9"
cmp "$work/apart.frames" "$work/together.frames" || fail "the frames differ from those of a single host"
echo "netns: identical: 9 frames from six namespaces over TCP equal those of a single host"

#!/usr/bin/env bash
# Starts the services of a cluster by hand, each as its own process with named addresses, and stops them on Ctrl-C.
#
#   compose/start-by-hand.sh                              everything on this machine, over TCP on 127.0.0.1
#   compose/start-by-hand.sh --insecure --address 10.0.0.2 --broker 10.0.0.1 denoiser
#                                                         one denoiser here, the broker on another machine
#
# Arguments: the services to start, of broker, gateway, text-encoder, vae-encoder, denoiser, vae-decoder, video-muxer and
# prompt-upsampler; a name given twice starts two. Without any: all but the prompt-upsampler.
#
#   --broker HOST[:PORT]     where the broker listens                          (127.0.0.1:7710)
#   --gateway HOST[:PORT]    where the gateway listens                         (127.0.0.1:8080)
#   --address ADDRESS        where the others reach this machine's data ports  (127.0.0.1)
#   --data-port PORT         first data port; each further process takes the next (default: any free port)
#   --model DIR              a model folder in diffusers layout                (the demo model)
#   --adapters DIR           adapters that requests may name, for gateway and denoisers  (none)
#   --data-directory DIR     the broker's ledger and blobs                     (./zoetrope-data)
#   --log-directory DIR      one log file a process                            (./zoetrope-logs)
#   --bin DIR                the executables                                   (the package's .build/release)
#   --keys DIR               keys from make-keys.sh: DIR/SERVICE/SERVICE.key; or DIR/SERVICE.key and DIR/broker.pub
#   --insecure               allow addresses beyond loopback without keys, and the gateway's HTTP there
#   --dry-run                print the commands instead of running them
set -euo pipefail

fail() { echo "start-by-hand: $*" >&2; exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
broker=127.0.0.1:7710 gateway=127.0.0.1:8080 address=127.0.0.1 data_port='' model='' adapters=()
data_directory=$PWD/zoetrope-data log_directory=$PWD/zoetrope-logs
bin=${ZOETROPE_SCRATCH:-$root/.build}/release
insecure=() keys='' dry_run=no services=()

while [ $# -gt 0 ]; do
    case "$1" in
        --insecure) insecure=(--insecure); shift; continue ;;
        --dry-run) dry_run=yes; shift; continue ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        --*) [ $# -ge 2 ] || fail "$1 needs a value" ;;
    esac
    case "$1" in
        --broker) broker=$2; shift 2 ;;
        --gateway) gateway=$2; shift 2 ;;
        --address) address=$2; shift 2 ;;
        --data-port) data_port=$2; shift 2 ;;
        --model) model=$2; shift 2 ;;
        --adapters) adapters=(--adapters "$2"); shift 2 ;;
        --data-directory) data_directory=$2; shift 2 ;;
        --log-directory) log_directory=$2; shift 2 ;;
        --bin) bin=$2; shift 2 ;;
        --keys) keys=$2; shift 2 ;;
        broker | gateway | text-encoder | vae-encoder | denoiser | vae-decoder | video-muxer | prompt-upsampler)
            services+=("$1"); shift ;;
        *) fail "'$1' is neither an option nor a service (see --help)" ;;
    esac
done
[[ $broker == *:* ]] || broker=$broker:7710
[[ $gateway == *:* ]] || gateway=$gateway:8080
[ ${#services[@]} -gt 0 ] || services=(broker gateway text-encoder vae-encoder denoiser vae-decoder video-muxer)
[ -n "$model" ] || model=$bin/zoetrope_DemoModel.resources/cogvideox-demo

# command_of SERVICE: sets `line` to the command of one service and `name` to a name that is unique on its address.
declare -A count=()
started_workers=0
command_of() {
    local service=$1 data=() key=() folder=$keys
    if [ -n "$keys" ]; then
        [ ! -d "$keys/$service" ] || folder=$keys/$service
        key=(--key "$folder/$service.key")
        [ "$service" = broker ] || key+=(--broker-public-key "$folder/broker.pub")
        [ "$service" != gateway ] || [ ! -e "$folder/admin.token" ] || key+=(--admin-token-file "$folder/admin.token")
    fi
    count[$service]=$((${count[$service]:-0} + 1))
    if [ -n "$data_port" ] && [ "$service" != gateway ]; then
        data=(--data-port $((data_port + started_workers)))
        started_workers=$((started_workers + 1))
    fi
    name=$service-${count[$service]}@$address
    line=("$bin/zoetrope-$service")
    case "$service" in
        broker)
            line+=(--listen "tcp://$broker" --data-directory "$data_directory" --advertise-host "$address"
                "${data[@]}" "${key[@]}" "${insecure[@]}") ;;
        gateway)
            line+=(--listen "$gateway" --broker "tcp://$broker" --model "$model" "${adapters[@]}" "${key[@]}"
                "${insecure[@]}") ;;
        text-encoder | vae-encoder | denoiser | vae-decoder)
            line+=(--broker "tcp://$broker" --name "$name" --advertise-host "$address" --model "$model"
                "${data[@]}" "${key[@]}" "${insecure[@]}")
            [ "$service" != denoiser ] || line+=("${adapters[@]}") ;;
        video-muxer | prompt-upsampler)
            line+=(--broker "tcp://$broker" --name "$name" --advertise-host "$address"
                "${data[@]}" "${key[@]}" "${insecure[@]}") ;;
    esac
}

if [ "$dry_run" = yes ]; then
    for service in "${services[@]}"; do
        command_of "$service"
        printf '%q ' "${line[@]}"
        echo
    done
    exit 0
fi

mkdir -p "$log_directory"
pids=()
stop() {
    trap - INT TERM EXIT
    [ ${#pids[@]} -eq 0 ] || kill -TERM "${pids[@]}" 2>/dev/null || true
    wait || true
}
trap stop EXIT
trap 'exit 0' INT TERM

for service in "${services[@]}"; do
    command_of "$service"
    [ -x "${line[0]}" ] || fail "${line[0]} is not there; run 'make build' or name the folder with --bin"
    log=$log_directory/$service-${count[$service]}.log
    "${line[@]}" >>"$log" 2>&1 </dev/null &
    pids+=($!)
    echo "start-by-hand: $name, process $!, log $log"
done
for service in "${services[@]}"; do
    [ "$service" != gateway ] || echo "start-by-hand: gateway on http://$gateway (ready when /healthz answers 200)"
done

# The first service that ends takes the others with it, and its log says why.
status=0
wait -n || status=$?
echo "start-by-hand: a service ended with status $status; stopping the others. Logs: $log_directory" >&2
exit 1

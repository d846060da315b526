#!/usr/bin/env bash
# The paper's measurement on Docker: AS, NMS, TRS, two nodes and NAT routers with real netfilter, in each pattern and under
# both methods. Pings 100 times between the nodes' names, measures TCP, captures the underlay, takes everything down,
# appends to results/real/table4.csv and prints the paper's Table 4 beside it.
#
#   run.sh [PATTERN [METHOD]]    every pattern and method if none is named
#   run.sh build                 only make the image
#   run.sh up PATTERN METHOD     bring up and leave it so:  docker exec cyphonic_a_1 ping b.cyphonic.test
#   run.sh down                  take down
#
# On Debian and Ubuntu, as root, it installs what it needs. It needs Rust to build the program, or CYPHONIC=PROGRAM.
# Environment: PINGS (100), SECONDS_TCP (5), RESULTS (results/real), WORK (a folder for keys, logs and captures).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export WORK=${WORK:-/tmp/cyphonic-docker}
RESULTS=${RESULTS:-$root/results/real}
PINGS=${PINGS:-100}
SECONDS_TCP=${SECONDS_TCP:-5}
IMAGE=cyphonic-testbed
ZONE=cyphonic.test
PROJECT=cyphonic
our_daemon=""

say() { printf '%s\n' "$*"; }

die() {
    say "FAILED: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set -euo/p' "${BASH_SOURCE[0]}" | sed '$d;s/^# \{0,1\}//'
    exit "${1:-0}"
}

# have COMMAND PACKAGE: installs it where that can be done.
have() {
    command -v "$1" >/dev/null && return
    if command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
        say "installing $2"
        apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null && return
    fi
    die "$1 is missing. Debian and Ubuntu: apt install $2 (or run this as root). Fedora: dnf install moby-engine docker-compose. Others: https://docs.docker.com/engine/install"
}

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose -p "$PROJECT" "$@"
    else
        docker-compose -p "$PROJECT" "$@"
    fi
}

# Ready to use Docker.
docker_ready() {
    have docker docker.io
    docker compose version >/dev/null 2>&1 || have docker-compose docker-compose
    [[ -c /dev/net/tun ]] || die "there is no /dev/net/tun: modprobe tun"
    docker info >/dev/null 2>&1 && return
    have dockerd docker.io
    [[ $(id -u) == 0 ]] || die "no Docker daemon answers: start it (systemctl start docker), or run this as root"
    say "starting dockerd (its log: $WORK/dockerd.log)"
    mkdir -p "$WORK"
    dockerd >"$WORK/dockerd.log" 2>&1 &
    our_daemon=$!
    for _ in $(seq 100); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$our_daemon" 2>/dev/null || die "dockerd ended: $(tail -1 "$WORK/dockerd.log")"
        sleep 0.2
    done
    die "dockerd does not answer: $(tail -1 "$WORK/dockerd.log")"
}

# The name of a base image with Debian in it.
base() {
    if docker image inspect debian:bookworm-slim >/dev/null 2>&1 || timeout 60 docker pull -q debian:bookworm-slim >/dev/null 2>&1; then
        echo debian:bookworm-slim
        return
    fi
    if ! docker image inspect cyphonic-base >/dev/null 2>&1; then
        say "images cannot be pulled: making one with debootstrap" >&2
        have debootstrap debootstrap >&2
        [[ $(id -u) == 0 ]] || die "debootstrap needs root"
        local folder mirror
        folder=$(mktemp -d)
        mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 || true)
        debootstrap --variant=minbase --include=iproute2,iputils-ping,iperf3,nftables,tcpdump bookworm "$folder" \
            "${mirror:-http://deb.debian.org/debian}" >"$WORK/debootstrap.log" 2>&1 ||
            die "debootstrap: $(tail -2 "$WORK/debootstrap.log")"
        tar -C "$folder" -c . | docker import - cyphonic-base >/dev/null
        rm -rf "$folder"
    fi
    echo cyphonic-base
}

build() {
    local program=${CYPHONIC:-} base_image
    if [[ -z $program ]]; then
        command -v cargo >/dev/null || die "Rust is missing (https://rustup.rs), or set CYPHONIC to the program"
        (cd "$root" && cargo build --release -p cyphonic)
        program=${CARGO_TARGET_DIR:-$root/target}/release/cyphonic
    fi
    mkdir -p "$WORK/image"
    cp "$program" "$WORK/image/cyphonic"
    cp "$here/entry.sh" "$here/Dockerfile" "$WORK/image/"
    base_image=$(base)
    # The old builder: Debian's docker.io has no other.
    DOCKER_BUILDKIT=0 docker build -q --build-arg BASE="$base_image" -t "$IMAGE" "$WORK/image" >"$WORK/build.log" 2>&1 ||
        die "the image cannot be built: $(tail -2 "$WORK/build.log")"
    docker run --rm --entrypoint cyphonic "$IMAGE" --version >/dev/null ||
        die "the program does not run in Debian 12: build it there, or on a system with glibc 2.36 or older, and set CYPHONIC"
}

# cyphonic in the image, on the work folder.
tool() { docker run --rm -i -v "$WORK/run:/etc/cyphonic" -w /etc/cyphonic --network none --entrypoint cyphonic "$IMAGE" "$@"; }

configuration() {
    local pattern=$1 method=$2 name
    rm -rf "$WORK/run"
    mkdir -p "$WORK/run"
    chmod 700 "$WORK/run"
    tool ca init --zone "$ZONE" >/dev/null
    tool ca issue as.$ZONE nms.$ZONE trs.$ZONE a.$ZONE b.$ZONE >/dev/null
    tool device add a.$ZONE b.$ZONE >/dev/null
    for name in as nms trs a b; do
        exec 3>"$WORK/run/$name.toml"
        printf 'certificate = "pki/%s.pem"\nkey = "pki/%s.key"\nroots = "pki/root.pem"\n' "$name.$ZONE" "$name.$ZONE" >&3
        case $name in
        as) printf 'database = "cyphonic.db"\nnms = ["[2001:db8::3]:443", "203.0.113.3:443"]\n' >&3 ;;
        nms) printf 'database = "cyphonic.db"\ntrs = ["[2001:db8::4]:443", "203.0.113.4:443"]\nservice-key = "pki/service.key"\n' >&3 ;;
        trs) printf 'service-key = "pki/service.key"\n' >&3 ;;
        *)
            printf 'name = "%s"\nmethod = "%s"\ndns = "resolv-conf"\n' "$name.$ZONE" "$method" >&3
            printf 'as-addresses = ["[2001:db8::2]:443", "203.0.113.2:443"]\n' >&3
            # Docker gives every container both families; the paper's nodes have one.
            case $pattern$name in
            1a) printf 'addresses = ["2001:db8::5"]\n' >&3 ;;
            1b) printf 'addresses = ["2001:db8::6"]\n' >&3 ;;
            2a) printf 'addresses = ["203.0.113.5"]\n' >&3 ;;
            esac
            ;;
        esac
    done
}

files_of() { printf -- '-f\n%s\n-f\n%s\n' "$here/compose.yml" "$here/pattern-$1.yml"; }

container() { docker ps -q --filter "label=com.docker.compose.project=$PROJECT" --filter "label=com.docker.compose.service=$1"; }

in_container() {
    local name=$1
    shift
    docker exec "$(container "$name")" "$@"
}

down() {
    local id
    for id in $(docker ps -aq --filter "label=com.docker.compose.project=$PROJECT"); do docker rm -f "$id" >/dev/null; done
    for id in $(docker network ls -q --filter "label=com.docker.compose.project=$PROJECT"); do docker network rm "$id" >/dev/null; done
}

# Docker would take an address of this machine's own network away without a word.
no_collision() {
    local range
    for range in 203.0.113. 10.1.0. 10.2.0. 2001:db8::; do
        if ip -o addr show | awk '{ print $4 }' | grep -q "^${range//./\\.}"; then
            die "this machine has an address in $range*, which the containers' networks use: change both compose files and run.sh"
        fi
    done
}

up() {
    local pattern=$1 method=$2 name files
    [[ $pattern =~ ^[123]$ ]] || die "a pattern is 1, 2 or 3, not $pattern"
    [[ $method =~ ^(conventional|proposed)$ ]] || die "a method is conventional or proposed, not $method"
    down
    no_collision
    configuration "$pattern" "$method"
    mapfile -t files < <(files_of "$pattern")
    WORK=$WORK/run compose "${files[@]}" up -d >"$WORK/compose.log" 2>&1 || die "compose: $(tail -3 "$WORK/compose.log")"
    for name in a b; do
        for _ in $(seq 100); do
            in_container "$name" cyphonic status --json 2>/dev/null | grep -q '"registered": true' && continue 2
            sleep 0.2
        done
        docker logs "$(container "$name")" 2>&1 | tail -5 >&2
        die "$name did not register"
    done
}

# The underlay's round trip between the nodes, or as far as it goes: mean, ms.
underlay() {
    local address
    case $1 in
    1) address=2001:db8::6 ;;
    2) address=203.0.113.102 ;;
    3) address=203.0.113.4 ;;
    esac
    # A NAT answers no ping from outside: in pattern 2 the router is asked by the node behind it.
    if (($1 == 2)); then
        in_container b ping -n -q -c 20 -i 0.05 203.0.113.5
    else
        in_container a ping -n -q -c 20 -i 0.05 "$address"
    fi | awk -F/ '/^rtt/ { print $5 }'
}

measure() {
    local pattern=$1 method=$2 stats sent received mbps=0 below
    up "$pattern" "$method"
    docker exec -d "$(container a)" tcpdump -U -s 200 -i eth0 -w "/etc/cyphonic/underlay-$pattern-$method.pcap"
    in_container a ping -n -c 2 -W 12 b.$ZONE >/dev/null || die "no ping by name"
    in_container a ping -n -c "$PINGS" -i 0.1 b.$ZONE >"$WORK/ping-$pattern-$method.txt" || die "pings were lost"
    stats=$(awk -F'[ /]+' '/^rtt/ { printf "%s,%s,%s,%s", $7, $8, $9, $10 }' "$WORK/ping-$pattern-$method.txt")
    sent=$(awk '/packets transmitted/ { print $1 }' "$WORK/ping-$pattern-$method.txt")
    received=$(awk '/packets transmitted/ { print $4 }' "$WORK/ping-$pattern-$method.txt")
    in_container a cyphonic status --json | grep -q "\"pattern\": $pattern" || die "not pattern $pattern"
    in_container a cyphonic ping b --count 1
    docker exec -d "$(container b)" iperf3 -s -1
    sleep 0.5
    mbps=$(in_container a iperf3 -c b.$ZONE -t "$SECONDS_TCP" -f m | awk '/receiver/ { print $7 }')
    below=$(underlay "$pattern")
    mkdir -p "$WORK/captures"
    cp "$WORK/run/underlay-$pattern-$method.pcap" "$WORK/captures/"
    down
    mkdir -p "$RESULTS"
    local csv=$RESULTS/table4.csv
    [[ -s $csv ]] ||
        echo "date,host,kernel,pattern,method,sent,received,min_ms,mean_ms,max_ms,stddev_ms,underlay_mean_ms,tcp_mbps" >"$csv"
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ),$(hostname),$(uname -r),$pattern,$method,$sent,$received,$stats,$below,$mbps" >>"$csv"
    say "pattern $pattern, $method: $received of $sent, min/mean/max/stddev ${stats//,//} ms; underlay $below ms; TCP $mbps Mbit/s"
}

# The paper's Table 4 (pattern 1) beside our last run of it.
table4() {
    awk -F, '
        FNR == NR { if (FNR > 1) paper[$1] = $2 "," $3; next }
        $4 == 1 { min[$5] = $8; mean[$5] = $9; max[$5] = $10; stddev[$5] = $11; under[$5] = $12 }
        END {
            if (!("conventional" in mean) && !("proposed" in mean)) exit
            print "Table 4. Round trip through the tunnel, pattern 1, ms"
            printf "%-10s %12s %12s %12s %12s\n", "", "paper conv.", "ours conv.", "paper prop.", "ours prop."
            n = split("min mean max stddev", names, " ")
            for (i = 1; i <= n; i++) {
                name = names[i]; split(paper[name], printed, ",")
                c = name == "min" ? min["conventional"] : name == "mean" ? mean["conventional"] : name == "max" ? max["conventional"] : stddev["conventional"]
                p = name == "min" ? min["proposed"] : name == "mean" ? mean["proposed"] : name == "max" ? max["proposed"] : stddev["proposed"]
                printf "%-10s %12s %12s %12s %12s\n", name, printed[1], c, printed[2], p
            }
            printf "%-10s %12s %12s %12s %12s\n", "underlay", "-", under["conventional"], "-", under["proposed"]
        }' "$root/results/paper/table4-rtt.csv" "$RESULTS/table4.csv"
}

finish() {
    local code=$?
    [[ ${1:-} == keep ]] || down || true
    if [[ -n $our_daemon ]] && [[ ${1:-} != keep ]]; then kill "$our_daemon" && wait "$our_daemon" || true; fi
    exit "$code"
}

case ${1:-all} in
-h | --help | help) usage ;;
build)
    docker_ready
    build
    ;;
down)
    docker_ready
    down
    ;;
up)
    docker_ready
    build
    up "${2:?pattern}" "${3:?method}"
    say "up; try  docker exec $(container a) ping b.$ZONE"
    ;;
all | 1 | 2 | 3)
    docker_ready
    trap finish EXIT
    build
    pattern=${1:-all}
    for p in ${pattern/all/1 2 3}; do
        for m in ${2:-conventional proposed}; do measure "$p" "$m"; done
    done
    table4
    ;;
*) usage 2 ;;
esac

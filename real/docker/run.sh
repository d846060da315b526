#!/usr/bin/env bash
# The paper's measurement on Docker: AS, NMS, TRS, two nodes and NAT routers with real netfilter, in each pattern and
# in three framings, and behind a firewall that lets HTTP/3 out but not UDP 4501. For each of them this
#
#   * pings 100 times between the nodes' names, and measures TCP, also at the paper's 15 Mbit/s
#   * uses curl and ssh, and sends 1 GB
#   * captures every wire, and searches the wires and the services' memory for plaintext
#
# It takes everything down at the end, and prints the paper's Tables 3 and 4 beside the measured ones.
#
#   run.sh [OPTION...] [PATTERN [FRAMING]]  every pattern and framing if none is named: udp4501 (conventional), stream
#                                           (proposed, as in the paper), compact (proposed, ours)
#   run.sh [OPTION...] firewall [METHOD]    pattern 1 with a firewall before a that lets out DNS and port 443 only;
#                                           proposed: then with one that lets no UDP out, where TCP 443 is the way
#   run.sh rounds [PATTERN]                 only pings, for comparing: in ROUNDS rounds each framing in turn, one ping a
#                                           second and ten. Without a command these come last
#   run.sh build                            only make the image
#   run.sh up PATTERN METHOD                bring up and leave it so:  docker exec cyphonic_a_1 ping b.cyphonic.test
#   run.sh down                             take down: containers, networks, keys, and a Docker daemon that `up` started
#   run.sh tables                           print the tables again
#
#   --out FOLDER    where results are appended: table3.csv, table4.csv, narrow.csv, pings.csv (each ping: round 0 is of
#                   the whole measurement, those from 1 are of `rounds`), and a manifest of each run: commit, processor,
#                   kernel, versions, load  (results/real)
#   --clean         afterwards remove the images that this made, too, and the work folder
#
# On Debian and Ubuntu, as root, it installs what it needs: docker.io, docker-compose, tshark, and debootstrap where
# images cannot be pulled. It needs Rust to build the program, or CYPHONIC=PROGRAM.
#
# Environment: PINGS (100), PING_INTERVAL (seconds between two: 0.1; ping's own default is 1, and the paper states
# none), PINGS_LOST (how many of them may be lost: 1), ROUNDS (10), ROUND_PINGS (pings of a round, framing and interval:
# 20), NARROW_ROUNDS (in how many of the rounds of pattern 1 the 15 Mbit/s are measured, too: 3), SECONDS_TCP (5),
# LARGE_BYTES (1000000000), WORK (a folder for keys, logs and captures).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export WORK=${WORK:-/tmp/cyphonic-docker}
OUT=$root/results/real
PINGS=${PINGS:-100}
PING_INTERVAL=${PING_INTERVAL:-0.1}
PINGS_LOST=${PINGS_LOST:-1}
ROUNDS=${ROUNDS:-10}
ROUND_PINGS=${ROUND_PINGS:-20}
NARROW_ROUNDS=${NARROW_ROUNDS:-3}
SECONDS_TCP=${SECONDS_TCP:-5}
PROJECT=cyphonic
clean=""

say() { printf '%s\n' "$*"; }

die() {
    say "FAILED: $*" >&2
    exit 1
}

# A wrong argument.
wrong() {
    say "$1" >&2
    say "See: $0 help" >&2
    exit 2
}

good_pattern() { [[ $1 =~ ^([123]|firewall)$ ]] || wrong "a pattern is 1, 2, 3 or firewall, not \"$1\""; }

good_method() { [[ $1 =~ ^(conventional|proposed)$ ]] || wrong "a method is conventional or proposed, not \"$1\""; }

good_framing() { [[ $1 =~ ^(udp4501|stream|compact)$ ]] || wrong "a framing is udp4501, stream or compact, not \"$1\""; }

# at_most NUMBER ARGUMENT...
at_most() { (($# - 1 <= $1)) || wrong "too many arguments: ${*:$(($1 + 2))}"; }

# number NAME VALUE: a whole number of the environment.
number() { [[ $2 =~ ^(0|[1-9][0-9]{0,11})$ ]] || wrong "$1 is a whole number, not \"$2\""; }

usage() {
    sed -n '2,/^set -euo/p' "${BASH_SOURCE[0]}" | sed '$d;s/^# \{0,1\}//'
    exit "${1:-0}"
}

# until_true SECONDS COMMAND...: waits until it succeeds.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# shellcheck source=../provenance.sh
. "$here/../provenance.sh"
# shellcheck source=daemon.sh
. "$here/daemon.sh"
# shellcheck source=network.sh
. "$here/network.sh"
# shellcheck source=measure.sh
. "$here/measure.sh"
# shellcheck source=rounds.sh
. "$here/rounds.sh"

tables() {
    local paper=$root/results/paper
    [[ ! -s $OUT/table3.csv ]] || { say && awk -v table=3 -f "$here/tables.awk" "$paper/table3-packet-size.csv" "$OUT/table3.csv"; }
    [[ ! -s $OUT/table4.csv ]] || { say && awk -v table=4 -f "$here/tables.awk" "$paper/table4-rtt.csv" "$OUT/table4.csv"; }
    [[ ! -s $OUT/pings.csv ]] || { say && awk -F, 'NR > 1 && $2 > 0 && $8 != ""' "$OUT/pings.csv" | sort -t, -k5,5gr -k3,3n -k4,4r -k8,8n |
        awk -v table=pings -f "$here/tables.awk" -; }
    [[ ! -s $OUT/narrow.csv ]] || { say && awk -v table=narrow -f "$here/tables.awk" "$paper/throughput.csv" "$OUT/narrow.csv"; }
}

finish() {
    local code=$? job
    for job in $(jobs -p); do [[ $job == "$our_daemon" ]] || kill "$job" 2>/dev/null || true; done
    if ((code)) && [[ -d $WORK/run ]]; then
        for job in a b; do docker logs --tail 5 "$(container "$job")" 2>&1 | sed "s/^/$job: /" >&2 || true; done
    fi
    down || true
    if [[ -n $clean ]]; then images_away || true; fi
    daemon_away || true
    if [[ -n $clean ]] && ((code == 0)); then rm -rf "$WORK"; fi
    exit "$code"
}

while [[ ${1:-} == -* ]]; do
    case $1 in
    --out)
        OUT=${2:?a folder}
        shift
        ;;
    --clean) clean=yes ;;
    -h | --help) usage ;;
    *) usage 2 ;;
    esac
    shift
done

# Arguments are judged before anything is touched.
number PINGS "$PINGS"
[[ $PING_INTERVAL =~ ^[0-9]+(\.[0-9]+)?$ ]] || wrong "PING_INTERVAL is a number of seconds, not \"$PING_INTERVAL\""
number PINGS_LOST "$PINGS_LOST"
number ROUNDS "$ROUNDS"
number ROUND_PINGS "$ROUND_PINGS"
number NARROW_ROUNDS "$NARROW_ROUNDS"
number SECONDS_TCP "$SECONDS_TCP"
number LARGE_BYTES "${LARGE_BYTES:-1000000000}"
command=${1:-all}
case $command in
help | build | down | tables) at_most 1 "$@" ;;
up)
    (($# == 3)) || wrong "up takes a pattern and a method: $0 up 2 proposed"
    good_pattern "$2"
    good_method "$3"
    ;;
firewall)
    at_most 2 "$@"
    [[ -z ${2:-} ]] || good_method "$2"
    ;;
rounds)
    at_most 2 "$@"
    [[ ${2:-1} =~ ^[123]$ ]] || wrong "rounds are of pattern 1, 2 or 3, not \"$2\""
    ;;
all | 1 | 2 | 3)
    at_most 2 "$@"
    [[ -z ${2:-} ]] || good_framing "$2"
    ;;
*) wrong "there is no command or pattern \"$command\"" ;;
esac
[[ $command == help ]] || mkdir -p "$WORK"

case $command in
help) usage ;;
build)
    trap daemon_away EXIT
    docker_ready
    build
    ;;
down)
    # Without a daemon nothing of ours runs.
    if docker info >/dev/null 2>&1; then down; fi
    keys_away
    daemon_of_up_away
    ;;
up)
    trap finish EXIT
    docker_ready
    build
    up "$2" "$3"
    trap - EXIT
    daemon_stays
    say "up; try  docker exec $(container a) ping b.$ZONE"
    ;;
tables) tables ;;
all | 1 | 2 | 3 | firewall | rounds)
    trap finish EXIT
    have tshark tshark
    docker_ready
    build
    [[ $command == rounds ]] || served
    began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
    run_id=$(tr -d ':-' <<<"$began")-$(hostname)
    patterns=$command
    [[ $command != rounds ]] || patterns=""
    [[ $patterns != all ]] || patterns="firewall 1 2 3"
    for p in $patterns; do
        if [[ $p == firewall ]]; then
            for m in ${2:-conventional proposed}; do firewalled "$m"; done
        else
            # The conventional method; the proposed one as in the paper (its Fig. 12); the proposed one with our
            # framing.
            for f in ${2:-udp4501 stream compact}; do measure "$p" "$f"; done
        fi
    done
    [[ $command != all ]] || other_framings
    if [[ $command == all || $command == rounds ]]; then
        only=""
        [[ $command != rounds ]] || only=${2:-}
        for p in ${only:-1 2 3}; do rounds "$p"; done
    fi
    provenance "$@"
    tables
    ;;
esac

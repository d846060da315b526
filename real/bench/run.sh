#!/usr/bin/env bash
# Our node beside other tunnels, on this machine: TCP throughput, processor time for each gigabyte, round trip. Two
# network namespaces are joined by a veth; each tunnel in turn joins them once more. All are measured in each round, one
# after another, every second round backwards, so that a change of the machine's load is not one of them.
#
#   run.sh [OPTION...] [PEER...]     measures these, or all
#   run.sh --list                    the peers, one a line
#
#   --rounds N       (3)
#   --seconds N      of TCP, for each peer and round  (5)
#   --out FOLDER     where rows are appended to bench.csv, and a manifest of the run is written  (results/real)
#   --programs FOLDER   where the peers' programs are put, and stay for another time; else they go again
#
# A peer is a file in peers/. Programs come from Debian's archive, unpacked into a folder and not installed, and from
# crates.io by cargo. It needs root, /dev/net/tun, Debian 12 or newer, iproute2, iputils-ping and iperf3; for crates
# cargo; for our own node cargo, or CYPHONIC=PROGRAM. Nothing else is changed on the machine, and all goes again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
OUT=$root/results/real
ROUNDS=3
SECONDS_TCP=5
PROGRAMS=""
# Bare TCP just before each peer: what the machine gives at that moment.
SECONDS_BARE=2
PINGS=100

say() { printf '%s\n' "$*"; }

die() {
    say "FAILED: $*" >&2
    exit 1
}

# A wrong argument.
wrong() {
    say "$1" >&2
    say "See: $0 --help" >&2
    exit 2
}

usage() {
    sed -n '2,/^set -euo/p' "${BASH_SOURCE[0]}" | sed '$d;s/^# \{0,1\}//'
    exit 0
}

all() { for file in "$here"/peers/*.sh; do basename "$file" .sh; done; }

# shellcheck source=../provenance.sh
. "$here/../provenance.sh"

# Arguments are judged before anything is touched.
count() { [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] || wrong "$1 takes a whole number from 1, not \"$2\""; }

peers=()
while (($#)); do
    case $1 in
    --list)
        all
        exit
        ;;
    -h | --help | help) usage ;;
    --rounds | --seconds | --out | --programs)
        (($# > 1)) || wrong "$1 takes a value"
        case $1 in
        --rounds) count "$1" "$2" && ROUNDS=$2 ;;
        --seconds) count "$1" "$2" && SECONDS_TCP=$2 ;;
        --out) OUT=$2 ;;
        --programs) PROGRAMS=$2 ;;
        esac
        shift
        ;;
    -*) wrong "there is no option \"$1\"" ;;
    *)
        [[ -f $here/peers/$1.sh ]] || wrong "there is no peer \"$1\"; there are: $(all | xargs)"
        peers+=("$1")
        ;;
    esac
    shift
done
# As the manifest names it: without folders, which only this machine has.
command="real/bench/run.sh --rounds $ROUNDS --seconds $SECONDS_TCP ${peers[*]}"
((${#peers[@]})) || mapfile -t peers < <(all)

missing=()
[[ $(id -u) == 0 ]] || missing+=("root (network namespaces)")
[[ -c /dev/net/tun ]] || missing+=("/dev/net/tun (modprobe tun)")
command -v apt-get >/dev/null || missing+=("apt-get (the peers come from Debian's archive)")
for tool in ip:iproute2 ping:iputils-ping iperf3:iperf3 dpkg-deb:dpkg openssl:openssl; do
    command -v "${tool%:*}" >/dev/null || missing+=("${tool%:*} (apt install ${tool#*:})")
done
((${#missing[@]} == 0)) || die "missing: $(printf '%s; ' "${missing[@]}" | sed 's/; $//')"

WORK=$(mktemp -d)
export WORK
PROGRAMS=$(realpath -m "${PROGRAMS:-$WORK/programs}")
mkdir -p "$PROGRAMS"
LAB=bench$$
# shellcheck source=lib.sh
. "$here/lib.sh"

finish() {
    local code=$?
    all_away || true
    if ((code)); then tail -n 5 "$WORK/${current:-none}"/log.* >&2 2>/dev/null || true; fi
    rm -rf "$WORK"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# of PEER FUNCTION [ARGUMENT...]: a function of a peer's file, in a shell of its own. Peers do not see each other.
of() (
    peer=$1
    STATE=$WORK/$peer
    mkdir -p "$STATE"
    # shellcheck source=/dev/null
    . "$here/peers/$peer.sh"
    shift
    "$@"
)

# Mbit/s of TCP from a to an address, as received.
tcp_mbps() {
    local address=$1 seconds=$2 server
    ip netns exec "$LAB-b" iperf3 -s -1 >/dev/null 2>&1 &
    server=$!
    wait_for 5 ip netns exec "$LAB-b" sh -c 'ss -ltn | grep -q :5201'
    timeout $((seconds + 10)) ip netns exec "$LAB-a" iperf3 -f k -t "$seconds" -c "$address" | awk '/receiver/ { printf "%.1f", $7 / 1e3 }'
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
}

# Clock ticks that the tunnel's processes have used.
ticks() { while read -r pid; do cat "/proc/$pid/stat"; done <"$WORK/counted" | awk '{ sum += $14 + $15 } END { print sum + 0 }'; }

measure() {
    local peer=$1 round=$2 bare mbps address before after cost pings busy
    lab_up
    busy=$(load)
    bare=$(tcp_mbps 10.77.1.2 "$SECONDS_BARE")
    : >"$WORK/counted"
    : >"$WORK/started"
    of "$peer" start b
    of "$peer" start a
    address=$(of "$peer" inner b)
    wait_for 20 ip netns exec "$LAB-a" ping -n -q -c 1 -W 1 "$address" || die "$peer: no ping is answered"
    # Path MTU discovery and the first keep-alives are over.
    sleep 2
    pings=$(ip netns exec "$LAB-a" ping -n -c "$PINGS" -i 0.02 "$address" | sed -n 's/.*time=\([0-9.]*\) ms.*/\1/p' | sort -n |
        awk '{ all[NR] = $1 } END { printf "%s,%.4f", all[1], (all[int((NR + 1) / 2)] + all[int(NR / 2) + 1]) / 2 }')
    before=$(ticks)
    mbps=$(tcp_mbps "$address" "$SECONDS_TCP")
    after=$(ticks)
    [[ -n $mbps ]] || die "$peer: TCP does not get through"
    cost=""
    [[ ! -s $WORK/counted ]] || cost=$(awk -v ticks="$((after - before))" -v hertz="$(getconf CLK_TCK)" -v mbps="$mbps" \
        -v seconds="$SECONDS_TCP" 'BEGIN { printf "%.3f", ticks / hertz / (mbps * seconds / 8e3) }')
    all_away
    mkdir -p "$OUT"
    [[ -s $OUT/bench.csv ]] || echo "run,round,peer,load_1min,bare_tcp_mbps,tcp_mbps,cpu_s_per_gb,ping_min_ms,ping_median_ms" >"$OUT/bench.csv"
    echo "$run_id,$round,$peer,$busy,$bare,$mbps,$cost,$pings" >>"$OUT/bench.csv"
    say "round $round  $(printf '%-18s' "$peer") TCP $mbps of $bare Mbit/s; ${cost:--} s a GB; ping ${pings#*,} ms"
}

manifest() {
    local peer versions=""
    for peer in "${peers[@]}"; do versions+="    \"$peer\": \"$(text "$(of "$peer" version)")\","$'\n'; done
    cat >"$OUT/.$run_id.part" <<JSON
{
$(provenance_of "$run_id" "$began" "${command% }" "$(of cyphonic-compact cyphonic_version 2>/dev/null || true)"),
  "iperf3": "$(text "$(iperf3 --version)")",
  "load_1min": "$(loads "$run_id" 4 "$OUT/bench.csv")",
  "rounds": $ROUNDS,
  "tcp_seconds": $SECONDS_TCP,
  "bare_tcp_seconds": $SECONDS_BARE,
  "pings": $PINGS,
  "peers": {
${versions%,*}
  }
}
JSON
    mv "$OUT/.$run_id.part" "$OUT/run-$run_id.manifest.json"
}

began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
run_id=$(tr -d ':-' <<<"$began")-$(hostname)-bench
for peer in "${peers[@]}"; do
    say "getting $peer"
    of "$peer" get
    of "$peer" prepare
done
for round in $(seq "$ROUNDS"); do
    order=("${peers[@]}")
    ((round % 2)) || mapfile -t order < <(printf '%s\n' "${peers[@]}" | tac)
    for current in "${order[@]}"; do measure "$current" "$round"; done
done
manifest
say "rows: $OUT/bench.csv; manifest: $OUT/run-$run_id.manifest.json"

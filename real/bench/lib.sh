# shellcheck shell=bash
# What the peers' files use. A file defines
#   get           gets its programs
#   prepare       makes keys and configuration in STATE
#   start SIDE    starts side a or b, and gives its interface the address `inner SIDE`
#   version       what was measured
# and `inner SIDE`, if its addresses are not these.

# outer SIDE: the address on the veth.
outer() { if [[ $1 == a ]]; then echo 10.77.1.1; else echo 10.77.1.2; fi; }

# inner SIDE: the address in the tunnel.
inner() { if [[ $1 == a ]]; then echo 10.99.0.1; else echo 10.99.0.2; fi; }

other() { if [[ $1 == a ]]; then echo b; else echo a; fi; }

# wait_for SECONDS COMMAND...
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# Two namespaces and the veth between them.
lab_up() {
    local side
    all_away
    for side in a b; do
        ip netns add "$LAB-$side"
        ip -n "$LAB-$side" link set lo up
    done
    ip link add eth0 netns "$LAB-a" type veth peer name eth0 netns "$LAB-b"
    for side in a b; do
        ip -n "$LAB-$side" addr add "$(outer "$side")/24" dev eth0
        ip -n "$LAB-$side" link set eth0 up
    done
}

# Ends what was started in the namespaces, and removes these.
all_away() {
    local side pid
    for side in a b; do
        [[ -e /run/netns/$LAB-$side ]] || continue
        for pid in $(ip netns pids "$LAB-$side"); do kill "$pid" 2>/dev/null || true; done
        wait_for 3 test -z "$(ip netns pids "$LAB-$side")" ||
            for pid in $(ip netns pids "$LAB-$side"); do kill -9 "$pid" 2>/dev/null || true; done
        ip netns del "$LAB-$side"
    done
}

# run_in SIDE COMMAND...: starts a process that stays. It is no part of the tunnel's account.
run_in() {
    local side=$1 log
    shift
    log=$STATE/log.$side.$(wc -l <"$WORK/started")
    ip netns exec "$LAB-$side" "$@" >"$log" 2>&1 </dev/null &
    echo $! >>"$WORK/started"
}

# tunnel SIDE COMMAND...: starts a process of the tunnel, whose processor time counts.
tunnel() {
    run_in "$@"
    tail -1 "$WORK/started" >>"$WORK/counted"
}

# interface SIDE DEVICE [MTU]: waits for the device, and gives it its address.
interface() {
    wait_for 10 ip -n "$LAB-$1" link show "$2" || die "$peer makes no interface $2: $(tail -n 2 "$STATE"/log.* 2>/dev/null)"
    ip -n "$LAB-$1" addr replace "$(inner "$1")/24" dev "$2"
    ip -n "$LAB-$1" link set "$2" ${3:+mtu "$3"} up
}

apt() {
    mkdir -p "$PROGRAMS/lists/partial" "$PROGRAMS/cache/archives/partial"
    apt-get -qq -o Dir::State::lists="$PROGRAMS/lists" -o Dir::Cache="$PROGRAMS/cache" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User=root "$@" >"$WORK/apt.log" 2>&1 || die "apt-get $*: $(tail -n 2 "$WORK/apt.log")"
}

# debian PACKAGE...: unpacks packages with what they need that is not on this machine. Nothing is installed.
debian() {
    local deb package
    for package in "$@"; do [[ -e $PROGRAMS/debian/$package ]] || break; done
    if [[ ! -e $PROGRAMS/debian/$package ]]; then
        mkdir -p "$PROGRAMS/debian"
        [[ -e $PROGRAMS/lists/.new ]] || { apt update && touch "$PROGRAMS/lists/.new"; }
        apt install --yes --no-install-recommends --download-only --reinstall "$@"
        for deb in "$PROGRAMS"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$PROGRAMS/root"; done
        for package in "$@"; do
            deb=$(find "$PROGRAMS/cache/archives" -name "${package}_*.deb")
            dpkg-deb -f "$deb" Version >"$PROGRAMS/debian/$package"
        done
        rm -f "$PROGRAMS"/cache/archives/*.deb
    fi
}

debian_version() { echo "$1 $(cat "$PROGRAMS/debian/$1") (Debian)"; }

# crate CRATE [OPTION...]
crate() {
    command -v cargo >/dev/null || die "$peer is a crate, and cargo is missing (https://rustup.rs)"
    [[ -e $PROGRAMS/crate-$1 ]] || CARGO_TARGET_DIR=$PROGRAMS/target cargo install --quiet --locked --root "$PROGRAMS" "$@" \
        >"$WORK/cargo.log" 2>&1 || die "cargo install $1: $(tail -n 3 "$WORK/cargo.log")"
    touch "$PROGRAMS/crate-$1"
}

crate_version() { cargo install --list --root "$PROGRAMS" | sed -n "s/^\($1 v[^ :]*\).*/\1 (crates.io)/p"; }

export PATH=$PROGRAMS/bin:$PROGRAMS/root/usr/sbin:$PROGRAMS/root/usr/bin:$PATH
# Libraries that only the unpacked programs have.
export LD_LIBRARY_PATH=$PROGRAMS/root/usr/lib/$(uname -m)-linux-gnu:$PROGRAMS/root/lib/$(uname -m)-linux-gnu

# shellcheck source=wireguard.sh
. "$here/wireguard.sh"
# shellcheck source=cyphonic.sh
. "$here/cyphonic.sh"

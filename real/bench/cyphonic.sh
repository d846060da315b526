# shellcheck shell=bash
# Our own node, in one framing: AS, NMS and TRS are at side b and are no part of the tunnel's account.

cyphonic_get() {
    if [[ ! -e $WORK/program ]]; then
        local program=${CYPHONIC:-}
        if [[ -z $program ]]; then
            command -v cargo >/dev/null || die "Rust is missing (https://rustup.rs), or set CYPHONIC to the program"
            (cd "$root" && cargo build --quiet --release --workspace --bin cyphonic)
            program=${CARGO_TARGET_DIR:-$root/target}/release/cyphonic
        fi
        [[ -x $program ]] || die "$program is not there, or cannot be run"
        cp "$program" "$WORK/program"
    fi
}

cyphonic_version() { "$WORK/program" --version; }

# cyphonic_prepare FRAMING
cyphonic_prepare() {
    local framing=$1 name zone=cyphonic.test method=proposed
    [[ $framing != udp4501 ]] || method=conventional
    cd "$STATE"
    "$WORK/program" ca init --zone $zone >/dev/null
    "$WORK/program" ca issue as.$zone nms.$zone trs.$zone a.$zone b.$zone >/dev/null 2>"$STATE/issue.log"
    "$WORK/program" device add a.$zone b.$zone --database cyphonic.db >/dev/null
    for name in as nms trs a b; do
        printf 'certificate = "pki/%s.pem"\nkey = "pki/%s.key"\nroots = "pki/root.pem"\nlog = "warn"\n' $name.$zone $name.$zone >$name.toml
    done
    printf 'database = "cyphonic.db"\nlisten = ["10.77.1.12"]\nnms = ["10.77.1.13:443"]\n' >>as.toml
    printf 'database = "cyphonic.db"\nlisten = ["10.77.1.13"]\ntrs = ["10.77.1.14:443"]\nservice-key = "pki/service.key"\n' >>nms.toml
    printf 'listen = ["10.77.1.14"]\nservice-key = "pki/service.key"\n' >>trs.toml
    for name in a b; do
        printf 'name = "%s"\nmethod = "%s"\nas-addresses = ["10.77.1.12:443"]\ncontrol = "%s"\ndns = "none"\nlisten = ["%s"]\n' \
            $name.$zone $method "$STATE/$name.sock" "$(outer $name)" >>$name.toml
        [[ $framing == udp4501 ]] || printf 'framing = "%s"\n' "$framing" >>$name.toml
    done
}

cyphonic_registered() { [[ $("$WORK/program" status --control "$STATE/$1.sock" --json) == *'"registered": true'* ]]; }

cyphonic_start() {
    local side=$1 host service
    if [[ $side == b ]]; then
        for host in 12 13 14; do ip -n "$LAB-b" addr add 10.77.1.$host/24 dev eth0; done
        for service in as nms trs; do run_in b "$WORK/program" $service --config "$STATE/$service.toml"; done
        sleep 1
    fi
    tunnel "$side" "$WORK/program" node --config "$STATE/$side.toml"
    wait_for 20 cyphonic_registered "$side" || die "$peer: $side does not register: $(tail -n 3 "$STATE"/log.*)"
}

# Virtual addresses are given in the order of registration, and b registers first.
cyphonic_inner() { if [[ $1 == a ]]; then echo 198.18.0.11; else echo 198.18.0.10; fi; }

# shellcheck shell=bash
# WireGuard: implementations differ in the program that makes the interface.

wireguard_prepare() {
    local side
    umask 077
    for side in a b; do
        wg genkey >"$STATE/$side.key"
        wg pubkey <"$STATE/$side.key" >"$STATE/$side.pub"
    done
    for side in a b; do
        cat >"$STATE/$side.conf" <<CONF
[Interface]
PrivateKey = $(cat "$STATE/$side.key")
ListenPort = 51820
[Peer]
PublicKey = $(cat "$STATE/$(other "$side").pub")
AllowedIPs = $(inner "$(other "$side")")/32
Endpoint = $(outer "$(other "$side")"):51820
CONF
    done
}

# wireguard_start SIDE COMMAND...: the name of the interface comes last.
wireguard_start() {
    local side=$1 device=wg$1$$
    shift
    tunnel "$side" "$@" "$device"
    # The socket is in the file system, which namespaces of the network share.
    wait_for 10 test -S "/var/run/wireguard/$device.sock" || die "$peer: no socket; $(tail -n 2 "$STATE"/log.*)"
    wg setconf "$device" "$STATE/$side.conf"
    interface "$side" "$device" 1420
}

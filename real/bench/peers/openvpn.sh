# shellcheck shell=bash
# OpenVPN over UDP, TLS between two points, AES-256-GCM, without its kernel module.
get() { debian openvpn; }

prepare() {
    local side
    for side in a b; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$side" \
            -keyout "$STATE/$side.key" -out "$STATE/$side.pem" 2>/dev/null
        openssl x509 -in "$STATE/$side.pem" -noout -fingerprint -sha256 | cut -d= -f2 >"$STATE/$side.print"
    done
}

start() {
    local side=$1 peer_side role=(--tls-client)
    peer_side=$(other "$side")
    [[ $side == a ]] || role=(--tls-server --dh none)
    tunnel "$side" openvpn --dev ovpn --dev-type tun --proto udp --local "$(outer "$side")" --remote "$(outer "$peer_side")" \
        --port 1194 --ifconfig "$(inner "$side")" "$(inner "$peer_side")" "${role[@]}" --cert "$STATE/$side.pem" \
        --key "$STATE/$side.key" --peer-fingerprint "$(cat "$STATE/$peer_side.print")" --data-ciphers AES-256-GCM \
        --disable-dco --verb 1
    # It sets the address itself.
    wait_for 10 ip -n "$LAB-$side" link show ovpn || die "$peer makes no interface: $(tail -n 2 "$STATE"/log.*)"
}

version() { debian_version openvpn; }

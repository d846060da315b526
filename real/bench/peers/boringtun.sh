# shellcheck shell=bash
# WireGuard in Rust, in user space: ChaCha20-Poly1305.
get() {
    debian wireguard-tools
    crate boringtun-cli
}
prepare() { wireguard_prepare; }
start() { wireguard_start "$1" boringtun-cli -f --disable-drop-privileges; }
version() { crate_version boringtun-cli; }

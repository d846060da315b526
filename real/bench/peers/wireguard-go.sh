# shellcheck shell=bash
# WireGuard in Go, in user space, as Debian has it: ChaCha20-Poly1305.
get() { debian wireguard-go wireguard-tools; }
prepare() { wireguard_prepare; }
start() { wireguard_start "$1" env WG_PROCESS_FOREGROUND=1 wireguard-go -f; }
version() { debian_version wireguard-go; }

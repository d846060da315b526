# shellcheck shell=bash
# Our node: the proposed method in this project's own framing.
get() { cyphonic_get; }
prepare() { cyphonic_prepare compact; }
start() { cyphonic_start "$1"; }
inner() { cyphonic_inner "$1"; }
version() { cyphonic_version; }

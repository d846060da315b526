# shellcheck shell=bash
# Our node: the conventional method.
get() { cyphonic_get; }
prepare() { cyphonic_prepare udp4501; }
start() { cyphonic_start "$1"; }
inner() { cyphonic_inner "$1"; }
version() { cyphonic_version; }

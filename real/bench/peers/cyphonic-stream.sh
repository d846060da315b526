# shellcheck shell=bash
# Our node: the proposed method as in the paper: QUIC streams.
get() { cyphonic_get; }
prepare() { cyphonic_prepare stream; }
start() { cyphonic_start "$1"; }
inner() { cyphonic_inner "$1"; }
version() { cyphonic_version; }

# shellcheck shell=bash
# n2n as Debian has it, with its defaults. Its supernode, at side b, only brings the two together.
get() { debian n2n; }
prepare() { :; }

start() {
    if [[ $1 == b ]]; then
        run_in b supernode -l 7654
        sleep 0.5
    fi
    tunnel "$1" edge -d n2n -a "$(inner "$1")" -s 255.255.255.0 -c bench -k benchkey -u 0 -g 0 -l "$(outer b):7654"
    interface "$1" n2n
}

version() { debian_version n2n; }

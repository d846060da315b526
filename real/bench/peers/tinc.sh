# shellcheck shell=bash
# tinc 1.0 with its defaults: UDP once the path MTU is known, AES-256-CBC and SHA-256.
get() { debian tinc; }

prepare() {
    local side
    for side in a b; do
        mkdir -p "$STATE/$side/hosts"
        printf 'Name = %s\nInterface = tinc\nAddressFamily = ipv4\n' "$side" >"$STATE/$side/tinc.conf"
        [[ $side == b ]] || echo 'ConnectTo = b' >>"$STATE/$side/tinc.conf"
        printf 'Address = %s\nSubnet = %s/32\n' "$(outer "$side")" "$(inner "$side")" >"$STATE/$side/hosts/$side"
        # It asks where the keys shall be: where they belong.
        tincd -c "$STATE/$side" -K 2048 </dev/null >/dev/null 2>&1
    done
    cp "$STATE/a/hosts/a" "$STATE/b/hosts/"
    cp "$STATE/b/hosts/b" "$STATE/a/hosts/"
}

start() {
    tunnel "$1" tincd -c "$STATE/$1" -D --pidfile="$STATE/$1.pid"
    interface "$1" tinc
}

version() { debian_version tinc; }

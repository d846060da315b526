# shellcheck shell=bash
# fastd with the method that its documentation begins with: salsa2012+umac.
get() { debian fastd; }

prepare() {
    local side
    umask 077
    for side in a b; do
        fastd --generate-key --machine-readable >"$STATE/$side.key" 2>/dev/null
        echo "secret \"$(cat "$STATE/$side.key")\";" >"$STATE/$side.secret"
        fastd -c "$STATE/$side.secret" --show-key --machine-readable >"$STATE/$side.pub"
    done
    for side in a b; do
        cat >"$STATE/$side.conf" <<CONF
log level warn;
interface "fastd";
mode tun;
method "salsa2012+umac";
mtu 1426;
bind $(outer "$side"):10000;
include "$STATE/$side.secret";
peer "other" { key "$(cat "$STATE/$(other "$side").pub")"; remote $(outer "$(other "$side")"):10000; }
CONF
    done
}

start() {
    tunnel "$1" fastd -c "$STATE/$1.conf"
    interface "$1" fastd 1426
}

version() { debian_version fastd; }

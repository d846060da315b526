# shellcheck shell=bash
# Nebula with its defaults: AES-256-GCM, an MTU of 1,300 bytes. Side b is the lighthouse.
get() { debian nebula; }

prepare() {
    local side
    cd "$STATE"
    nebula-cert ca -name bench >/dev/null
    for side in a b; do
        nebula-cert sign -name $side -ip "$(inner $side)/24" >/dev/null
        cat >$side.yml <<YAML
pki: {ca: $STATE/ca.crt, cert: $STATE/$side.crt, key: $STATE/$side.key}
static_host_map: {"$(inner "$(other $side)")": ["$(outer "$(other $side)"):4242"]}
lighthouse: {am_lighthouse: $([[ $side == b ]] && echo true || echo false), hosts: [$([[ $side == b ]] || echo "\"$(inner b)\"")]}
listen: {host: 0.0.0.0, port: 4242}
tun: {dev: nebula, mtu: 1300}
logging: {level: error}
firewall:
  outbound: [{port: any, proto: any, host: any}]
  inbound: [{port: any, proto: any, host: any}]
YAML
    done
}

start() {
    tunnel "$1" nebula -config "$STATE/$1.yml"
    interface "$1" nebula 1300
}

version() { debian_version nebula; }

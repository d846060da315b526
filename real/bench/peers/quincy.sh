# shellcheck shell=bash
# Quincy: a tunnel over QUIC datagrams, in Rust, with an MTU that fits a QUIC datagram of 1,452 bytes.
get() {
    crate quincy-client
    crate quincy-server
}

inner() { if [[ $1 == a ]]; then echo 10.99.0.2; else echo 10.99.0.1; fi; }

prepare() {
    local side print
    cd "$STATE"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=bench" \
        -keyout ca.key -out ca.pem 2>/dev/null
    for side in a b; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$side" -keyout $side.first -out $side.csr 2>/dev/null
        openssl pkcs8 -topk8 -nocrypt -in $side.first -out $side.key
        openssl x509 -req -in $side.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out $side.pem \
            -extfile <(echo "subjectAltName=IP:$(outer $side)") 2>/dev/null
    done
    print=$(openssl x509 -in a.pem -outform der | openssl dgst -sha256 -r | cut -d' ' -f1)
    printf '[users.a]\nauthorized_keys = []\nauthorized_certs = ["sha256:%s"]\n' "$print" >users.toml
    cat >b.toml <<CONF
name = "quincy"
tunnel_network = "$(inner b)/24"
bind_address = "0.0.0.0"
bind_port = 55555
users_file = "$STATE/users.toml"
[protocol]
mode = "tls"
key_exchange = "standard"
certificate_file = "$STATE/b.pem"
certificate_key_file = "$STATE/b.key"
[connection]
mtu = 1400
[log]
level = "warn"
CONF
    cat >a.toml <<CONF
connection_string = "$(outer b):55555"
[protocol]
mode = "tls"
key_exchange = "standard"
trusted_certificate_paths = ["$STATE/ca.pem"]
client_certificate_file = "$STATE/a.pem"
client_certificate_key_file = "$STATE/a.key"
[connection]
mtu = 1400
[network]
interface_name = "quincy"
[log]
level = "warn"
CONF
}

start() {
    if [[ $1 == b ]]; then
        tunnel b quincy-server --config-path "$STATE/b.toml"
        sleep 1
    else
        # It sets the address itself.
        tunnel a quincy-client --config-path "$STATE/a.toml"
    fi
}

version() { crate_version quincy-client; }

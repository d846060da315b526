# shellcheck shell=bash
# The network in containers: keys and configuration, up, down. Read by run.sh.

ZONE=cyphonic.test

# cyphonic in the image, on the work folder.
tool() { docker run --rm -i -v "$WORK/run:/etc/cyphonic" -w /etc/cyphonic --network none --entrypoint cyphonic "$IMAGE" "$@"; }

# configuration PATTERN METHOD FRAMING
configuration() {
    local pattern=$1 method=$2 framing=$3 name
    rm -rf "$WORK/run"
    mkdir -p "$WORK/run" "$WORK/www"
    chmod 700 "$WORK/run"
    tool ca init --zone "$ZONE" >/dev/null
    tool ca issue as.$ZONE nms.$ZONE trs.$ZONE a.$ZONE b.$ZONE >/dev/null
    tool device add a.$ZONE b.$ZONE >/dev/null
    for name in as nms trs; do
        exec 3>"$WORK/run/$name.toml"
        credentials "$name" >&3
        case $name in
        as) printf 'database = "cyphonic.db"\nnms = ["[2001:db8::3]:443", "203.0.113.3:443"]\n' >&3 ;;
        nms) printf 'policy = "paper"\ndatabase = "cyphonic.db"\ntrs = ["[2001:db8::4]:443", "203.0.113.4:443"]\nservice-key = "pki/service.key"\n' >&3 ;;
        trs) printf 'service-key = "pki/service.key"\n' >&3 ;;
        esac
        exec 3>&-
    done
    nodes_configuration "$pattern" "$method" "$framing"
}

credentials() { printf 'certificate = "pki/%s.pem"\nkey = "pki/%s.key"\nroots = "pki/root.pem"\n' "$1.$ZONE" "$1.$ZONE"; }

# nodes_configuration PATTERN METHOD FRAMING
nodes_configuration() {
    local pattern=$1 method=$2 framing=$3 name
    for name in a b; do
        exec 3>"$WORK/run/$name.toml"
        credentials "$name" >&3
        printf 'name = "%s"\nmethod = "%s"\ndns = "resolv-conf"\n' "$name.$ZONE" "$method" >&3
        printf 'as-addresses = ["[2001:db8::2]:443", "203.0.113.2:443"]\n' >&3
        # A test network: what crosses it shall be read.
        printf 'key-log = "secrets-%s.log"\n' "$name" >&3
        [[ $method == conventional ]] || printf 'framing = "%s"\nhandover = "rebuild"\n' "$framing" >&3
        # The paper knows no way by TCP. `firewall` shows it, where even HTTP/3 is stopped.
        [[ $method == conventional || $pattern == firewall ]] || printf 'tcp = false\n' >&3
        # Docker gives every container both families; the paper's nodes have one.
        case $pattern$name in
        1a) printf 'addresses = ["2001:db8::5"]\n' >&3 ;;
        1b | firewallb) printf 'addresses = ["2001:db8::6"]\n' >&3 ;;
        firewalla) printf 'addresses = ["2001:db8:a::5"]\n' >&3 ;;
        2a) printf 'addresses = ["203.0.113.5"]\n' >&3 ;;
        esac
        exec 3>&-
    done
}

container() { docker ps -q --filter "label=com.docker.compose.project=$PROJECT" --filter "label=com.docker.compose.service=$1"; }

in_container() {
    local name=$1
    shift
    docker exec "$(container "$name")" "$@"
}

down() {
    local id
    for id in $(docker ps -aq --filter "label=com.docker.compose.project=$PROJECT"); do docker rm -f "$id" >/dev/null; done
    for id in $(docker network ls -q --filter "label=com.docker.compose.project=$PROJECT"); do docker network rm "$id" >/dev/null; done
}

# Docker would take an address of this machine's own network away without a word.
no_collision() {
    local range
    for range in 203.0.113. 10.1.0. 10.2.0. 2001:db8:: 2001:db8:a::; do
        if ip -o addr show | awk '{ print $4 }' | grep -q "^${range//./\\.}"; then
            die "this machine has an address in $range*, which the containers' networks use: change the compose files, network.sh and measure.sh"
        fi
    done
}

composed() {
    local where=pattern-$1
    [[ $1 != firewall ]] || where=firewall
    shift
    WWW=$WORK/www WORK=$WORK/run compose -f "$here/compose.yml" -f "$here/$where.yml" "$@"
}

registered() { [[ $(in_container "$1" cyphonic status --json 2>/dev/null) == *'"registered": true'* ]]; }

# up PATTERN METHOD [FRAMING]: with a `firewall` instead of a pattern it does not wait for what cannot pass it.
up() {
    local pattern=$1 method=$2 framing=${3:-compact} nodes="a b" name
    down
    no_collision
    configuration "$pattern" "$method" "$framing"
    local first
    mapfile -t first < <(composed "$pattern" config --services | grep -vx '[ab]')
    composed "$pattern" up -d "${first[@]}" >"$WORK/compose.log" 2>&1 || die "compose: $(tail -n 3 "$WORK/compose.log")"
    # A packet that passes a router before its rules are there goes out as it is, and so does all that follows it.
    for name in "${first[@]}"; do
        case $name in
        nat-*) until_true 20 in_container "$name" nft list table ip nat ;;
        firewall) until_true 20 in_container "$name" nft list table inet filter ;;
        esac || die "$name does not become a router"
    done
    composed "$pattern" up -d >>"$WORK/compose.log" 2>&1 || die "compose: $(tail -n 3 "$WORK/compose.log")"
    [[ $pattern$method != firewallconventional ]] || nodes=b
    for name in $nodes; do await "$name"; done
}

# await NODE: until it is registered.
await() {
    until_true 20 registered "$1" || {
        docker logs "$(container "$1")" 2>&1 | tail -5 >&2
        die "$1 did not register"
    }
}

# switch PATTERN FRAMING: both nodes start anew in another framing, in the same network.
switch() {
    local pattern=$1 framing=$2 name
    nodes_configuration "$pattern" "$(method_of "$framing")" "$framing"
    docker restart "$(container a)" "$(container b)" >/dev/null
    for name in a b; do await "$name"; done
}

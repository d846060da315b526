# shellcheck shell=bash
# What is measured and checked in containers. Read by run.sh.

MARKER=CYPHONIC-PLAINTEXT-MARKER
LARGE_BYTES=${LARGE_BYTES:-1000000000}
RATE_MBPS=15

# What b serves by HTTP: text that would be recognised anywhere, and a large file.
served() {
    mkdir -p "$WORK/www"
    [[ -s $WORK/www/marker ]] || { yes "$MARKER" || true; } | head -c 4000000 >"$WORK/www/marker"
    if [[ ! -s $WORK/www/large.sha256 || $(stat -c %s "$WORK/www/large" 2>/dev/null) != "$LARGE_BYTES" ]]; then
        head -c "$LARGE_BYTES" /dev/urandom >"$WORK/www/large"
        sha256sum <"$WORK/www/large" >"$WORK/www/large.sha256"
    fi
}

# row FILE HEADER FIELD...: appends a row of results; when and where it was come first.
row() {
    local csv=$OUT/$1 header=$2
    shift 2
    mkdir -p "$OUT"
    [[ -s $csv ]] || echo "date,host,kernel,$header" >"$csv"
    local IFS=,
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ),$(hostname),$(uname -r),$*" >>"$csv"
}

# pings_kept FILE PATTERN FRAMING INTERVAL SENT ROUND LOAD: appends each ping of ping's output to pings.csv. The time of
# a lost one is empty.
pings_kept() {
    local csv=$OUT/pings.csv
    mkdir -p "$OUT"
    [[ -s $csv ]] || echo "run,round,pattern,framing,interval_s,load_1min,sequence,rtt_ms" >"$csv"
    awk -v run="$run_id" -v round="$6" -v pattern="$2" -v framing="$3" -v interval="$4" -v sent="$5" -v load="$7" '
        match($0, /icmp_seq=[0-9]+/) && / time=/ {
            sequence = substr($0, RSTART + 9, RLENGTH - 9)
            match($0, /time=[0-9.]+/)
            # A reply that came twice counts once.
            if (!(sequence in ms)) ms[sequence] = substr($0, RSTART + 5, RLENGTH - 5)
        }
        END { for (n = 1; n <= sent; n++) printf "%s,%s,%s,%s,%s,%s,%d,%s\n", run, round, pattern, framing, interval, load, n, ms[n] }
    ' "$1" >>"$csv"
}

# provenance ARGUMENT...: the manifest of a run, beside its rows: what was measured, on what, with what. The rows of a
# run have its name, or a date between `from` and `until`.
provenance() {
    mkdir -p "$OUT"
    cat >"$OUT/.$run_id.part" <<JSON
{
$(provenance_of "$run_id" "$began" "real/docker/run.sh $*" "$(tool --version)"),
  "docker": "$(text "$(docker version --format '{{.Server.Version}}' 2>/dev/null || true)")",
  "image": "$(text "$(docker image inspect --format '{{.Id}}' cyphonic-testbed 2>/dev/null || true)")",
  "iperf3": "$(text "$(docker run --rm --entrypoint iperf3 cyphonic-testbed --version 2>/dev/null || true)")",
  "ping": "$(text "$(docker run --rm --entrypoint ping cyphonic-testbed -V 2>/dev/null || true)")",
  "tshark": "$(text "$(tshark --version 2>/dev/null || true)")",
  "load_1min": "$(loads "$run_id" 6 "$OUT/pings.csv")",
  "pings": $PINGS,
  "ping_interval_s": $PING_INTERVAL,
  "rounds": $ROUNDS,
  "pings_of_a_round": $ROUND_PINGS,
  "tcp_seconds": $SECONDS_TCP
}
JSON
    mv "$OUT/.$run_id.part" "$OUT/run-$run_id.manifest.json"
}

# The network adapter's segmentation is turned off while we look: a capture shall show the datagrams of the wire.
capture_begin() {
    local name
    rm -f "$WORK"/run/*.pcap
    for name in a b as nms trs; do
        in_container "$name" ethtool -K eth0 tx-udp-segmentation off >/dev/null
        dump "$name" eth0 "$name"
    done
    dump a cyphonic0 inner
}

# dump NAME INTERFACE FILE
dump() {
    docker exec -d "$(container "$1")" sh -c \
        "echo \$\$ >/tmp/dump-$2.pid; exec tcpdump -Z root -U -s 0 -B 8192 -i $2 -w /etc/cyphonic/$3.pcap 2>/etc/cyphonic/$3.tcpdump"
    until_true 10 test -s "$WORK/run/$3.pcap" || die "no capture of $2 in $1"
}

capture_end() {
    local name
    sleep 0.5
    in_container a sh -c 'kill $(cat /tmp/dump-cyphonic0.pid)'
    for name in a b as nms trs; do
        in_container "$name" sh -c 'kill $(cat /tmp/dump-eth0.pid)'
        in_container "$name" ethtool -K eth0 tx-udp-segmentation on >/dev/null
    done
    sleep 0.3
}

# count FILTER ARGUMENT...: packets of a capture.
count() {
    local filter=$1
    shift
    tshark "$@" -Y "$filter" -T fields -e frame.number 2>/dev/null | wc -l
}

# readable WIRE CAPTURE: a capture with the secrets of node a. What its leg to the TRS says while the tunnel's own
# connection, on the same ports, begins is left out: tshark takes it for that connection's, sees a key update in it, and
# reads nothing of the tunnel from there on.
readable() {
    local wire=$1 kept=$2 begins answered
    editcap --inject-secrets "tls,$WORK/run/secrets-a.log" "$wire" "$kept"
    read -r begins answered < <(tshark -r "$kept" -Y 'quic.connection.number == 1 && quic.long.packet_type == 0' \
        -T fields -e frame.number 2>/dev/null | head -2 | xargs)
    if [[ -n $answered ]] && ((answered > begins + 1)); then
        editcap "$wire" "$WORK/run/readable.pcap" "$((begins + 1))-$((answered - 1))"
        editcap --inject-secrets "tls,$WORK/run/secrets-a.log" "$WORK/run/readable.pcap" "$kept"
    fi
}

# The captures of a run: no plaintext on any wire of the underlay; and those who have the secrets can read the tunnel.
captures() {
    local pattern=$1 framing=$2 name kept found
    kept=$WORK/captures/pattern-$pattern-$framing.pcapng
    mkdir -p "$WORK/captures"
    found=$(count "frame contains \"$MARKER\"" -r "$WORK/run/inner.pcap")
    # Four megabytes, in packets that were joined: of up to 64 kB each.
    ((found > 50)) || die "the marker is not even in the virtual interface's capture ($found packets): nothing is proved"
    for name in a b as nms trs; do
        found=$(count "frame contains \"$MARKER\"" -r "$WORK/run/$name.pcap")
        ((found == 0)) || die "plaintext in $found packets at $name"
    done
    if [[ $framing == udp4501 ]]; then
        cp "$WORK/run/a.pcap" "${kept%ng}"
        say "  capture: no marker on 5 wires (${kept%ng})"
        return
    fi
    readable "$WORK/run/a.pcap" "$kept"
    # In either frame: a tunnel that still searches for its path MTU sends larger packets on its stream.
    found=$(count "quic.dg contains \"$MARKER\" or quic.stream_data contains \"$MARKER\"" -r "$kept")
    ((found > 1000)) || die "the capture does not open with its secrets: the marker is in $found packets"
    say "  capture: no marker on 5 wires; with the secrets in $found packets ($kept)"
}

# memory NAME: in how many lines of the process's writable memory the marker is.
memory() {
    local name=$1 pid map low high what file=$WORK/memory
    pid=$(docker inspect -f '{{.State.Pid}}' "$(container "$name")")
    # The container's first process only waits for ours.
    read -r pid _ < <(cat "/proc/$pid/task/$pid/children"; echo)
    [[ $(cat "/proc/$pid/comm") == cyphonic ]] || die "process $pid is not cyphonic"
    : >"$file"
    while read -r map _ _ _ _ what; do
        [[ $what != "[vvar"* && $what != "[vsyscall]" ]] || continue
        low=$((16#${map%-*})) high=$((16#${map#*-}))
        dd if="/proc/$pid/mem" bs=1M iflag=skip_bytes,count_bytes skip="$low" count=$((high - low)) status=none >>"$file" 2>/dev/null || true
    done < <(grep ' rw' "/proc/$pid/maps")
    (($(stat -c %s "$file") > 1000000)) || die "the memory of $name cannot be read"
    grep -ac "$MARKER" "$file" || true
    rm -f "$file"
}

# Looks into the services while text flows through the tunnel.
memories() {
    local name found looker
    in_container a sh -c "until [ -e /tmp/enough ]; do curl -s --limit-rate 4M http://b.$ZONE/marker >/dev/null; done" &
    looker=$!
    sleep 1
    found=$(memory b)
    ((found > 0)) || die "no marker in the memory of the node that sends it: nothing is proved"
    for name in trs nms as; do
        found=$(memory "$name")
        ((found == 0)) || die "plaintext in the memory of $name"
    done
    in_container a touch /tmp/enough
    wait "$looker" || true
    say "  memory: no marker in trs, nms, as, while b, which sends it, has it"
}

# Starts b's web and ssh servers.
serve() {
    docker exec -d "$(container b)" busybox httpd -f -h /srv/www -p "[::]:80"
    in_container b sh -c 'ssh-keygen -q -t ed25519 -N "" -f /tmp/user && cp /tmp/user /tmp/user.pub /etc/cyphonic/ &&
        ssh-keygen -A >/dev/null && mkdir -p /run/sshd && /usr/sbin/sshd -o AuthorizedKeysFile=/tmp/user.pub -o StrictModes=no'
}

# ssh from a to b, without questions.
SSH="ssh -i /etc/cyphonic/user -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"

# What people do: a web server, a shell, a large file; with names only.
usual_programs() {
    local want got
    in_container b test -e /tmp/user || serve
    until_true 5 in_container a curl -s -o /dev/null "http://b.$ZONE/marker" || die "curl through the tunnel"
    want=$(in_container b hostname)
    # shellcheck disable=SC2086 # It is several words.
    got=$(in_container a $SSH "root@b.$ZONE" hostname) || die "ssh through the tunnel"
    [[ $got == "$want" ]] || die "ssh reached $got instead of $want"
}

large_file() {
    local got begin=$SECONDS
    got=$(in_container a sh -c "curl -sf http://b.$ZONE/large | sha256sum") || die "the large file did not arrive"
    [[ $got == "$(cat "$WORK/www/large.sha256")" ]] || die "the large file arrived changed"
    say "  $((LARGE_BYTES / 1000000)) MB by curl: the same hash, in $((SECONDS - begin)) s; ssh works"
}

# The round trip of the way beneath the tunnel, ms: direct, or from a to the TRS and from there to b.
underlay() {
    local mean='/^rtt/ { sum += $5 } END { printf "%.3f", sum }'
    # A NAT answers no ping from outside: in pattern 2 the node behind it asks.
    case $1 in
    1) in_container a ping -n -q -c 50 -i 0.05 2001:db8::6 ;;
    2) in_container b ping -n -q -c 50 -i 0.05 203.0.113.5 ;;
    3)
        in_container a ping -n -q -c 50 -i 0.05 203.0.113.4
        in_container b ping -n -q -c 50 -i 0.05 203.0.113.4
        ;;
    esac | awk -F/ "$mean"
}

# tcp_mbps PLACE [OPTION...]: Mbit/s of TCP from a to a place, as received.
tcp_mbps() {
    local place=$1
    shift
    docker exec -d "$(container b)" iperf3 -s -1
    sleep 0.5
    in_container a iperf3 -c "$place" -t "$SECONDS_TCP" -f m "$@" | awk '/receiver/ { print $7 }'
}

# The method that a framing belongs to.
method_of() { if [[ $1 == udp4501 ]]; then echo conventional; else echo proposed; fi; }

# One pattern and framing: all of it.
measure() {
    local pattern=$1 framing=$2 method stats sent received mbps below busy
    method=$(method_of "$framing")
    say "pattern $pattern, $method, $framing"
    up "$pattern" "$method" "$framing"
    capture_begin
    in_container a ping -n -c 2 -W 12 "b.$ZONE" >/dev/null || die "no ping by name"
    usual_programs
    largest_packets "$pattern" "$method"
    capture_end
    captures "$pattern" "$framing"
    ((pattern != 1)) || table3_rows "$method" "$framing"

    # No `grep -q` at the end of a pipe: it would end what feeds it, and with it this script.
    [[ $(in_container a cyphonic status --json) == *"\"pattern\": $pattern,"* ]] || die "not pattern $pattern"
    say "  $(in_container a cyphonic ping b --count 1 | sed -n 1p)"
    busy=$(load)
    # One answer is enough for ping to end with 0.
    in_container a ping -n -c "$PINGS" -i "$PING_INTERVAL" "b.$ZONE" >"$WORK/ping.txt" || die "no ping was answered"
    stats=$(awk -F'[ /]+' '/^rtt/ { printf "%s,%s,%s,%s", $7, $8, $9, $10 }' "$WORK/ping.txt")
    read -r sent received < <(awk '/packets transmitted/ { print $1, $4 }' "$WORK/ping.txt")
    ((sent == PINGS && sent - received <= PINGS_LOST)) || die "$received of $sent pings were answered, of $PINGS"
    below=$(underlay "$pattern")
    mbps=$(tcp_mbps "b.$ZONE")
    large_file
    ((pattern != 3)) || memories
    ((pattern != 1)) || narrow "$framing"
    down
    row table4.csv pattern,framing,sent,received,min_ms,mean_ms,max_ms,stddev_ms,underlay_mean_ms,tcp_mbps \
        "$pattern" "$framing" "$sent" "$received" "$stats" "$below" "$mbps"
    pings_kept "$WORK/ping.txt" "$pattern" "$framing" "$PING_INTERVAL" "$sent" 0 "$busy"
    say "  $received of $sent pings, min/mean/max/stddev ${stats//,//} ms; underlay $below ms; TCP $mbps Mbit/s"
}

# How many packets to UDP 4501 the firewall has stopped.
blocked() { in_container firewall nft -j list counter inet filter blocked-4501 | grep -o '"packets": [0-9]*' | grep -o '[0-9]*'; }

blocked_is_named() { [[ $(in_container a cyphonic status) == *"UDP is blocked"* ]]; }

goes_by_tcp() { [[ $(in_container a cyphonic status) == *"UDP is blocked here; through"*"TRS by TCP 443"*"via trs"* ]]; }

goes_by_udp() { [[ $(in_container a cyphonic status) != *"by TCP 443"* ]]; }

# The firewall stops HTTP/3 too, and lets it out again (ours; the paper knows no way by TCP). One TCP connection lasts
# all the time.
no_udp() {
    local drop="type filter hook forward priority -1; }; add rule inet closed forward meta l4proto udp drop" received flow
    in_container a bash -o pipefail -c "until [[ -e /tmp/closed ]]; do head -c 20000 /dev/urandom; sleep 0.1; done |
        tee /tmp/sent | $SSH root@b.$ZONE 'cat >/tmp/got'" &
    flow=$!
    sleep 1
    in_container firewall nft "add table inet closed; add chain inet closed forward { $drop"
    in_container a ping -n -c 30 -i 0.5 "b.$ZONE" >/dev/null || die "no ping was answered while no UDP gets out"
    until_true 30 goes_by_tcp || die "a does not go by TCP: $(in_container a cyphonic status)"
    received=$(in_container a ping -n -c 10 -i 0.1 -W 12 "b.$ZONE" | awk '/packets transmitted/ { print $4 }')
    ((received == 10)) || die "$received of 10 pings were answered by TCP"
    usual_programs
    say "  no UDP gets out: $received of 10 pings by TCP 443; curl and ssh work"
    in_container firewall nft delete table inet closed
    until_true 60 goes_by_udp || die "a does not come back to UDP: $(in_container a cyphonic status)"
    in_container a ping -n -c 3 -i 0.2 -W 12 "b.$ZONE" >/dev/null || die "no ping though UDP gets out again"
    in_container a touch /tmp/closed
    wait "$flow" || die "a TCP connection was lost when the firewall changed"
    [[ $(in_container a sha256sum /tmp/sent | cut -d' ' -f1) == $(in_container b sha256sum /tmp/got | cut -d' ' -f1) ]] ||
        die "other bytes came through the changes of the firewall"
    say "  UDP gets out again, and is used; a TCP connection that lasted all the time lost nothing"
}

# Why the paper carries CYPHONIC in QUIC: a firewall that lets HTTP/3 out stops the conventional method, and not the
# proposed.
firewalled() {
    local method=$1 said code=0 received
    say "firewall before a, $method"
    up firewall "$method"
    if [[ $method == conventional ]]; then
        until_true 20 blocked_is_named || die "a does not name what is wrong: $(in_container a cyphonic status)"
        in_container a cyphonic status | sed -n '1,2s/^/  a: /p'
        said=$(in_container a cyphonic ping b --count 1 2>&1) || code=$?
        ((code == 8)) || die "cyphonic ping ended with $code: $said"
        (($(blocked) > 0)) || die "the firewall has stopped nothing"
        say "  the firewall stopped $(blocked) packets to UDP 4501"
        # It is the firewall, and nothing else.
        in_container firewall nft add rule inet filter forward udp dport 4501 accept
        until_true 30 registered a || die "a does not register though UDP 4501 is open: $(in_container a cyphonic status)"
        in_container a ping -n -c 3 -i 0.2 -W 12 "b.$ZONE" >/dev/null || die "no ping though UDP 4501 is open"
        say "  with UDP 4501 open a is registered, and b answers"
    else
        received=$(in_container a ping -n -c 10 -i 0.1 -W 12 "b.$ZONE" | awk '/packets transmitted/ { print $4 }')
        ((received == 10)) || die "$received of 10 pings were answered"
        [[ $(in_container a cyphonic status --json) == *'"pattern": 1,'* ]] || die "not pattern 1"
        usual_programs
        say "  $(in_container a cyphonic ping b --count 1 | sed -n 1p)"
        say "  $received of 10 pings; curl and ssh work; the firewall stopped $(blocked) packets to UDP 4501"
        no_udp
    fi
    down
}

# The paper's 15 Mbit/s (§4.3, after its reference [10]), in both readings: an application that offers no more
# (`iperf3 -b 15M`), and a link of that rate, without and with the tunnel.
narrow() {
    local framing=$1 name bare through paced
    paced=$(tcp_mbps "b.$ZONE" -b "${RATE_MBPS}M")
    for name in a b; do
        in_container "$name" tc qdisc add dev eth0 root tbf rate "${RATE_MBPS}mbit" burst 16kb latency 50ms
    done
    bare=$(tcp_mbps 2001:db8::6)
    through=$(tcp_mbps "b.$ZONE")
    for name in a b; do in_container "$name" tc qdisc del dev eth0 root; done
    row narrow.csv framing,link_mbps,bare_tcp_mbps,tunnel_tcp_mbps,paced_tunnel_tcp_mbps \
        "$framing" "$RATE_MBPS" "$bare" "$through" "$paced"
    say "  on a link of $RATE_MBPS Mbit/s: TCP $bare Mbit/s without the tunnel, $through through it; iperf3 -b ${RATE_MBPS}M: $paced"
}

# Pings of many sizes through the tunnel, up to the largest that it takes, for Table 3.
largest_packets() {
    ((${1} == 1)) || return 0
    local mtu size
    mtu=$(in_container a cat /sys/class/net/cyphonic0/mtu)
    # Path MTU discovery takes its time.
    until_true 10 in_container a ping -6 -n -c 1 -W 1 -M do -s $((mtu - 48)) "b.$ZONE" || die "no packet of $mtu bytes passes"
    for size in $(seq $((mtu - 48)) -2 $((mtu - 100))); do
        in_container a ping -6 -n -q -c 1 -W 1 -M do -s "$size" "b.$ZONE" >/dev/null || die "a packet of $((size + 48)) bytes was lost"
    done
}

# The framing that no other measurement has, for Table 3 only.
other_framings() {
    local framing
    for framing in datagram; do
        up 1 proposed "$framing"
        capture_begin
        in_container a ping -n -c 2 -W 12 "b.$ZONE" >/dev/null || die "no ping by name"
        docker exec -d "$(container b)" busybox httpd -f -h /srv/www -p "[::]:80"
        until_true 5 in_container a curl -s -o /dev/null "http://b.$ZONE/marker" || die "curl through the tunnel"
        largest_packets 1 proposed
        capture_end
        captures 1 "$framing"
        table3_rows proposed "$framing"
        down
    done
}

# What the largest packets are made of, from the captures: of those that carry one whole tunnelled packet and nothing
# else.
table3_rows() {
    local method=$1 framing=$2 inner secrets=$WORK/run/secrets-a.log name=$2
    # The largest ICMPv6 packet that went in, with its header.
    inner=$(tshark -r "$WORK/run/inner.pcap" -Y 'icmpv6.type == 128' -T fields -e ipv6.plen 2>/dev/null | sort -n | tail -1)
    inner=$((inner + 40))
    if [[ $method == conventional ]]; then
        name=udp4501
        tshark -r "$WORK/run/a.pcap" -Y 'udp.port == 4501 && ipv6' -T fields -e udp.length 2>/dev/null | sort -n | tail -1 |
            awk '{ print $1 - 8, 0, 0, 0, 32, '"$inner"', 16 }'
    else
        # UDP payload, ID, length of the packet number, frame types, content of the frame.
        tshark -r "$WORK/run/a.pcap" -o "tls.keylog_file:$secrets" -Y 'quic.short && ipv6' -T fields -E separator=';' -e udp.length \
            -e quic.dcid -e quic.packet_number_length -e quic.frame_type -e quic.dg -e quic.stream_data 2>/dev/null |
            awk -F';' -v framing="$framing" -v inner="$inner" -f "$here/table3.awk"
    fi >"$WORK/table3.txt"
    [[ -s $WORK/table3.txt ]] || die "Table 3: no packet of the capture carries a whole one ($framing)"
    local udp short frame tag header carried hmac field
    read -r udp short frame tag header carried hmac <"$WORK/table3.txt"
    ((udp == short + frame + tag + header + carried + hmac)) || die "Table 3: the parts of a packet are not the packet: $(cat "$WORK/table3.txt")"
    for field in real_ip_header:40 udp_header:8 "quic_short_header:$short" "quic_frame_header:$frame" "quic_tag:$tag" \
        "cyphonic_header:$header" virtual_ip_header:40 "ip_payload:$((carried - 40))" "hmac:$hmac" "total:$((udp + 48))"; do
        row table3.csv framing,field,bytes "$name" "${field%:*}" "${field#*:}"
    done
}

# shellcheck shell=bash
# The paper's Table 4 in rounds, so that the framings can be compared: between two runs the machine may have changed.
# Read by run.sh.

FRAMINGS=(udp4501 stream compact)
# ping's own default, which the paper may have used, and the one of a measurement that does not last long.
INTERVALS=(1 0.1)

# One framing, both intervals.
pinged() {
    local pattern=$1 framing=$2 round=$3 n interval busy
    switch "$pattern" "$framing"
    in_container a ping -n -c 3 -i 0.2 -W 12 "b.$ZONE" >/dev/null || die "no ping by name"
    [[ $(in_container a cyphonic status --json) == *"\"pattern\": $pattern,"* ]] || die "not pattern $pattern"
    # The path MTU is found meanwhile.
    sleep 2
    for n in 0 1; do
        interval=${INTERVALS[(n + round) % 2]}
        busy=$(load)
        in_container a ping -n -c "$ROUND_PINGS" -i "$interval" "b.$ZONE" >"$WORK/ping.txt" || die "no ping was answered"
        pings_kept "$WORK/ping.txt" "$pattern" "$framing" "$interval" "$ROUND_PINGS" "$round" "$busy"
    done
}

# rounds PATTERN: in each round all framings, one after another, each time beginning with another.
rounds() {
    local pattern=$1 round n framing
    say "pattern $pattern, $ROUNDS rounds of ${FRAMINGS[*]}"
    up "$pattern" proposed
    for round in $(seq "$ROUNDS"); do
        for n in 0 1 2; do
            framing=${FRAMINGS[(n + round) % 3]}
            pinged "$pattern" "$framing" "$round"
            ((pattern != 1 || round > NARROW_ROUNDS)) || narrow "$framing"
        done
    done
    down
}

#!/bin/sh
# What a container does, by its first word: as, nms, trs, node (the daemons), or nat, firewall (routers).
#
#   GATEWAY   the way out; without it there is none: the containers' network ends at their bridges
#   ROUTE     another way, as `PREFIX via ADDRESS`
set -eu

# family ADDRESS: what `ip` calls its family.
family() {
    case $1 in *:*) echo -6 ;; *) echo -4 ;; esac
}

ip route del default 2>/dev/null || true
ip -6 route del default 2>/dev/null || true
if [ -n "${GATEWAY:-}" ]; then ip "$(family "$GATEWAY")" route add default via "$GATEWAY"; fi
# shellcheck disable=SC2086
if [ -n "${ROUTE:-}" ]; then ip "$(family "$ROUTE")" route add $ROUTE; fi

case $1 in
nat)
    # The outside interface is the one in the internet's network.
    outside=$(ip -o -4 addr show | awk '$4 ~ /^203\.0\.113\./ { print $2; exit }')
    nft -f - <<NFT
table ip nat {
    chain out { type nat hook postrouting priority 100; oifname "$outside" masquerade; }
}
table ip filter {
    chain input {
        type filter hook input priority 0;
        iifname "$outside" ct state new drop
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        iifname != "$outside" accept
        ct state established,related accept
    }
}
NFT
    exec sleep infinity
    ;;
firewall)
    outside=$(ip -o -6 addr show | awk '$4 ~ /^2001:db8::/ { print $2; exit }')
    nft -f - <<NFT
table inet filter {
    counter blocked-4501 {}
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        oifname "$outside" meta l4proto { tcp, udp } th dport { 53, 443 } accept
        oifname "$outside" udp dport 4501 counter name "blocked-4501"
    }
}
NFT
    exec sleep infinity
    ;;
*)
    # From outside the container, both come by `docker exec`.
    exec cyphonic "$1" --config "/etc/cyphonic/$2.toml"
    ;;
esac

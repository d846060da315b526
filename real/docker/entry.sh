#!/bin/sh
# What a container does, by its first word: as, nms, trs, node (the daemons), or nat (a router).
#
#   GATEWAY   the way out; without it there is none: the containers' network ends at their bridges
set -eu

ip route del default 2>/dev/null || true
ip -6 route del default 2>/dev/null || true
if [ -n "${GATEWAY:-}" ]; then ip route add default via "$GATEWAY"; fi

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
*)
    # From outside the container, both come by `docker exec`.
    exec cyphonic "$1" --config "/etc/cyphonic/$2.toml"
    ;;
esac

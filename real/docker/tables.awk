# Our last measurements beside the paper's tables. In: `table`, and the files that it needs, the paper's first.
function label(method) { return method == "conventional" ? "conv." : "prop." }
function line(name, c, p, n) {
    printf "  %-20s", name
    for (n = 1; n <= columns; n++) printf "%11s", cell[n]
    print ""
}

BEGIN { FS = "," }

# statistic, conventional, proposed; then our rows: date, host, kernel, pattern, framing, ...
table == 4 && FNR == NR { if (FNR > 1) paper[$1] = $2 SUBSEP $3; next }
table == 4 && FNR > 1 {
    key = $4 SUBSEP $5
    got[key, "min"] = $8; got[key, "mean"] = $9; got[key, "max"] = $10; got[key, "stddev"] = $11
    got[key, "underlay mean"] = $12
    got[key, "the tunnel's own"] = sprintf("%.3f", $9 - $12)
    got[key, "TCP Mbit/s"] = $13
}

# field, conventional, proposed; then ours: date, host, kernel, framing, field, bytes.
table == 3 && FNR == NR { if (FNR > 1) paper[$1] = $2 SUBSEP $3; next }
table == 3 && FNR > 1 { bytes[$4, $5] = $6; seen[$4] = 1 }

# Of rounds, each ping that was answered, in order of interval, pattern, framing, time: run, round, pattern, framing,
# interval, load, sequence, time.
table == "pings" { group = $5 "," $3 "," $4; if (!(group in many)) order[++groups] = group; all[group, ++many[group]] = $8 }

# offered, received; then ours: date, host, kernel, framing, link, bare, through, paced.
table == "narrow" && FNR == NR { if (FNR > 1) reference = $2; next }
table == "narrow" && FNR > 1 { link = $5; bare[$4] = $6; through[$4] = $7; paced[$4] = $8 }

END {
    if (table == 4) {
        print "Table 4. Round trip through the tunnel, ms, by method and pattern (paper §4.3: two containers on one machine)"
        columns = 11
        split("udp4501 stream compact", framings, " ")
        cell[1] = "paper"; cell[5] = "paper"
        for (n = 1; n <= 3; n++) { cell[n + 1] = "ours, " n; cell[n + 5] = "ours, " n; cell[n + 8] = "ours, " n }
        printf "  %-20s%-44s%-44s%s\n", "", "  conventional", "  proposed (stream)", "  compact (ours)"
        line("")
        count = split("min mean max stddev", names, " ")
        names[5] = "underlay mean"; names[6] = "the tunnel's own"; names[7] = "TCP Mbit/s"
        for (i = 1; i <= 7; i++) {
            split(paper[names[i]], printed, SUBSEP)
            cell[1] = i <= 4 ? printed[1] : "-"; cell[5] = i <= 4 ? printed[2] : "-"
            for (n = 1; n <= 3; n++) for (f = 1; f <= 3; f++) {
                value = got[n, framings[f], names[i]]
                cell[n + (f == 1 ? 1 : f == 2 ? 5 : 8)] = value == "" ? "-" : value
            }
            line(names[i])
        }
    }
    if (table == 3) {
        print "Table 3. What the largest packet is made of, bytes, IPv6 over IPv6, from the capture"
        columns = split("paper,udp4501,paper,stream,datagram,compact", cell, ",")
        printf "  %-20s%-22s%s\n", "", "  conventional", "  proposed"
        line("")
        split("udp4501,stream,datagram,compact", framings, ",")
        rows = split("real_ip_header udp_header quic_header cyphonic_header virtual_ip_header ip_payload hmac total", names, " ")
        for (i = 1; i <= rows; i++) {
            field = names[i]
            # The paper calls this by its families.
            known = field == "real_ip_header" ? "real_ipv6_header" : field == "virtual_ip_header" ? "virtual_ipv6_header" : field
            split(paper[known], printed, SUBSEP)
            cell[1] = printed[1] == "" ? "-" : printed[1]; cell[3] = printed[2] == "" ? "-" : printed[2]
            sum[1] += printed[1]; sum[3] += printed[2]
            if (field == "total") { cell[1] = sum[1]; cell[3] = sum[3] }
            for (n = 1; n <= 4; n++) {
                f = framings[n]
                value = field == "quic_header" ? bytes[f, "quic_short_header"] + bytes[f, "quic_frame_header"] + bytes[f, "quic_tag"] : bytes[f, field]
                cell[n == 1 ? 2 : n + 2] = seen[f] && value ? value : "-"
            }
            line(field)
        }
    }
    if (table == "pings" && groups) {
        print "Round trip through the tunnel in rounds of all framings, ms; `paper-figs report` tests the differences"
        printf "  %-10s%-9s%-11s%8s%10s%10s%10s\n", "interval", "pattern", "framing", "pings", "min", "median", "max"
        for (i = 1; i <= groups; i++) {
            group = order[i]; n = many[group]
            split(group, part, ",")
            median = (all[group, int((n + 1) / 2)] + all[group, int(n / 2) + 1]) / 2
            printf "  %-10s%-9s%-11s%8d%10.3f%10.3f%10.3f\n", part[1] " s", part[2], part[3], n, all[group, 1], median, all[group, n]
        }
    }
    if (table == "narrow" && link) {
        print "TCP at " link " Mbit/s (paper §4.3: " reference " with the conventional method, by its reference [10])"
        printf "  %-20s%14s%14s%14s\n", "", "link, bare", "link, tunnel", "-b, tunnel"
        split("udp4501 stream compact", framings, " ")
        for (i = 1; i <= 3; i++) {
            f = framings[i]
            if (f in bare) printf "  %-20s%14s%14s%14s\n", f, bare[f], through[f], paced[f] == "" ? "-" : paced[f]
        }
    }
}

# The parts of the largest packet of a capture that carries one whole tunnelled packet, and nothing else:
# UDP payload, short header, frame header, tag, CYPHONIC header, tunnelled packet, HMAC.
#
# In: bytes of UDP; connection ID; bytes of the packet number; frame types; DATAGRAM content; STREAM content.
{
    data = framing == "stream" ? $6 : $5
    gsub(/:/, "", data)
    gsub(/:/, "", $2)
    # No other frame in the packet, and one packet in the datagram.
    if ($4 ~ /,/ || data == "" || data ~ /,/) next
    udp = $1 - 8
    content = length(data) / 2
    header = framing == "compact" ? 0 : 32
    carried = content - header
    short = 1 + length($2) / 2 + $3
    # Larger is a part of something else.
    if (carried > inner || carried <= best) next
    best = carried
    line = udp " " short " " (udp - short - 16 - content) " 16 " header " " carried " 0"
}
END { if (line != "") print line }

-- CYPHONIC for Wireshark and tshark: headers, messages and tunnelled packets of both methods.
--
--     tshark -X lua_script:core/wireshark/cyphonic.lua -o cyphonic.key_log:run.keys -r run.pcapng
--     wireshark -X lua_script:core/wireshark/cyphonic.lua -o cyphonic.key_log:run.keys run.pcapng
--
-- | where                      | what                                          | opened by                        |
-- |----------------------------|-----------------------------------------------|----------------------------------|
-- | QUIC stream under our ALPN | messages; packets in the framing `stream`     | Wireshark, with the TLS key log  |
-- | QUIC DATAGRAM frames       | packets in the framings `datagram`, `compact` | Wireshark, with the TLS key log  |
-- | TLS over TCP               | the login of the conventional method          | Wireshark, with the TLS key log  |
-- | UDP 4501                   | sealed messages and packets                   | this dissector, with its key log |
-- | UDP on a port of QUIC      | Probes (some are sealed), Hole Punchings      | this dissector, with its key log |
--
-- The secrets of TLS are in the captures of `cyphonic-lab` and `cyphonic` already.
--
-- The key log is the file that `cyphonic-lab run --pcap` writes beside a capture, and that the setting `key-log` of a
-- daemon names. Its lines are `LABEL ID SECRET` in hexadecimal. Lines of the conventional method:
--
-- | label                     | id       | secret                       | protects                      |
-- |---------------------------|----------|------------------------------|-------------------------------|
-- | CYPHONIC_COMMON_KEY       | the node | CK, 16 bytes                 | Registration Requests         |
-- | CYPHONIC_REGISTRATION_KEY | the node | CK, and the epoch in 8 bytes | all else between node and NMS |
-- | CYPHONIC_TUNNEL_KEY       | the path | TK, 16 bytes                 | a tunnel's signaling          |
-- | CYPHONIC_END_KEY          | the path | EK, 16 bytes                 | a tunnel's packets            |
-- | CYPHONIC_SERVICE_KEY      | the TRS  | SK, 16 bytes                 | messages between NMS and TRS  |
-- | CYPHONIC_SURVEY_KEY       | the node | 16 bytes                     | Probes between node and NMS   |
--
-- Needs Wireshark 4.0 or newer, and cyphonic-seal.lua in the same folder.

-- Of the file beside this one.
local seal = dofile((debug.getinfo(1, "S").source:match("^@(.*[/\\])") or "") .. "cyphonic-seal.lua")

local cyphonic = Proto("cyphonic", "CYPHONIC")
local HEADER_LEN, TAG_LEN = 32, 16
local MAX_LIST, MAX_TEXT = 16, 1024

-- The layout of all messages, from the table in core/src/message/mod.rs: `cargo test` holds it equal to that table,
-- and says what it has to be. Everything below that names a message or a field is made from it.
local LAYOUT = [==[
<!-- layout -->
| type | message | what it is for | body |
|---|---|---|---|
| 1 | Login Request | Node → AS: who I am, and how I prove it (Figs. 2, 6). | device id · credential |
| 2 | Login Response | AS → node: your name, and where the NMS is (Figs. 2, 6). | node id · fqdn name · common key key? · nms list of place |
| 3 | Registration Request | Node → NMS: where I am (Figs. 2, 6). | epoch u64 · addresses list of ip · port u16 |
| 4 | Registration Response | NMS → node: whether a NAT is there, and your virtual addresses (Figs. 2, 6). | nat bool · addresses virtual · survey? |
| 5 | Keep Alive | Any part → any part: keeps NAT mappings and sessions alive. | nothing |
| 6 | Keep Alive Ack | The answer to a Keep Alive, a Network Report, a Peer Report, and an Access Ended (conventional method). | nothing |
| 7 | Direction Request | Initiator → NMS: find me a way to this peer (Figs. 3–5, 7–9). | peer · want |
| 8 | Route Direction | NMS → initiator: all that one node needs to reach the other. | peer name · virtual addresses virtual · pattern · dial bool · candidates list of place · keys? · relay? · want? · permissions if more follows |
| 9 | Route Direction | NMS → responder: the same for the other side. | peer name · virtual addresses virtual · pattern · dial bool · candidates list of place · keys? · relay? · want? · permissions if more follows |
| 10 | Route Direction Confirmation | Responder → NMS: ready; with its leg to the TRS in the proposed pattern 3 (Fig. 9). | leg cid? |
| 11 | Relay Request | NMS → TRS: relay between these two (Fig. 5; conventional method). | epoch u64 · forward id · backward id · tunnel key key · granted if more follows |
| 12 | Relay Response | TRS → NMS: whether it will relay (Fig. 5). | accepted bool |
| 13 | Hole Punching | Responder → TRS: opens the NAT on the way; the header's id is the path (Fig. 5). | nothing |
| 14 | Tunnel Request | Dialer → the other node, perhaps through a TRS (Figs. 3–5, 7–9). | from name · to name · wrapped end key wrapped key? · relay cid cid? · framing |
| 15 | Tunnel Response | The answer to a Tunnel Request. | nothing |
| 16 | Capsule | A tunnelled packet, node → node. | a packet of the overlay |
| 17 | Error | What was asked (the header repeats its transaction id) cannot be done. | error code |
| 18 | Probe | Node → NMS or TRS: where do you see me? (`policy = "optimal"`) | answer · padding 26 zeros |
| 19 | Probe Reply | The answer to a Probe, perhaps from another address or port than the one that was asked. | seen place |
| 20 | Probe Request | NMS → TRS: answer a Probe, from where you are. The header repeats the transaction of the node's Probe. | epoch u64 · to place · id 16 bytes |
| 21 | Network Report | Node → NMS: what its probes say of its network; a Keep Alive Ack answers it. | v6 behaviour? · v4 behaviour? · at v6 proof? · at v4 proof? |
| 22 | Relay Epoch | TRS → NMS, in place of an answer: the epoch of a Relay Request or Probe Request was not above this one. | last u64 |
| 23 | Access Ended | NMS → node: the access of a peer has ended that you were directed to. A Keep Alive Ack answers it (conventional method). | peer name · why error code if more follows |
| 24 | Peer Report | Node → NMS: I have tunnels with these, though I have just registered. A Keep Alive Ack answers it. | peers list of name |
| 25 | Peer Restarted | NMS → node: a peer that you were directed to has started anew, so it has none of its tunnels. A Keep Alive Ack answers it (conventional method). | peer name |
| 26 | Probe Token | NMS → node: the answer to a Probe of the node's own port. With the token the node proves that it is there. | proof |
| 27 | Relay Grant | NMS → initiator → TRS: relay between these two for so long (proposed method). | from name · to name · leg cid · serial u64 · seconds u16 · mac 16 bytes |
| 28 | Grant Request | Initiator → NMS: our time at the TRS is running out. A Relay Grant answers it (proposed method), a Path Grant (conventional method), or an Error. | peer name · leg cid if more follows |
| 30 | Certificate Renewed | Either end of a link → the other: here is my next certificate, for the same key (proposed method). | certificate · issuers list of certificate |
| 31 | Access Rules | NMS → node: what you and a peer that you were directed to may open to each other from now on. A Keep Alive Ack answers it (conventional method). | peer name · permissions |
| 32 | Relay Offer | NMS → node: keep a leg at this TRS, for the next relayed tunnel (proposed method, `signaling = "fast"`). | addresses list of place |
| 33 | Relay Leg | Node → NMS: the leg that I keep for the next relayed tunnel; none if it is gone. | leg cid? |
| 34 | Path Grant | NMS → TRS: relay on these paths for so long from now on; a Relay Response answers it. NMS → initiator: the TRS does so (conventional method). | epoch u64 · forward id · seconds u16 |

| group of fields | fields |
|---|---|
| survey | key · other port u16 · others list of place |
| keys | tunnel key · temporary key |
| relay | addresses list of place · mode · cid? |
| proof | seen place · token 8 bytes |
| behaviour | mapping? · filtering? · hairpin bool · any port bool |
| versions | oldest u8 · newest u8 |
| permissions | serial u64 · out permission · back permission |
| granted | initiator id · responder id · seconds u16 |
| service | protocol · first u16 · last u16 |

| choice | values, and what follows each |
|---|---|
| credential | 1 password and then text, 2 certificate |
| peer | 1 name and then name, 2 virtual and then ip |
| want | 1 any, 2 relayed, 3 direct and then u8 |
| answer | 1 noted, 2 here, 3 other port, 4 other address and then 16 bytes |
| pattern | 1 direct, 2 one nat, 3 relayed |
| mode | 1 terminating, 2 blind |
| framing | 1 udp4501, 2 stream, 3 datagram, 4 compact |
| mapping | 1 independent, 2 port, 3 address |
| permission | 1 nothing, 2 everything, 3 services and then list of service |
| protocol | 1 tcp, 2 udp, 3 icmp |
| filtering | 1 independent, 2 address, 3 address and port |
| error code | 1 unauthorized, 2 not registered, 3 unknown peer, 4 peer offline, 5 no relay, 6 stale epoch and then u64, 7 no direct way, 8 service unavailable, 9 unknown message type and then u8, 10 unknown version and then versions, 11 malformed message and then u8, 12 not permitted, 13 another machine has registered with this name and key and then place |
<!-- end of layout -->
]==]

-- Preferences -------------------------------------------------------------------------------------------------------

cyphonic.prefs.key_log = Pref.string("Key log", "", "A file of CYPHONIC_… lines that open the conventional method")
cyphonic.prefs.alpn = Pref.string("ALPN", "h3", "Streams under this ALPN are CYPHONIC's; empty: none are")
cyphonic.prefs.udp_port = Pref.uint("UDP port", 4501, "The port of the conventional method")
cyphonic.prefs.tls_port = Pref.uint("TLS port", 443, "The TCP port at which the AS takes logins")
cyphonic.prefs.inner = Pref.bool("Dissect tunnelled packets", true, "Show what the packets of the overlay carry")

-- The layout as tables ----------------------------------------------------------------------------------------------

local messages, parts, choices = {}, {}, {}

local function values_of(text)
    local values = {}
    for value in (text .. ", "):gmatch("(.-), ") do
        local number, rest = value:match("^(%d+) (.+)$")
        local name, data = rest:match("^(.-) and then (.+)$")
        values[tonumber(number)] = { name = name or rest, data = data }
    end
    return values
end

local function read_layout()
    local table_name
    for line in LAYOUT:gmatch("[^\n]+") do
        local heading = line:match("^| (%a[%a ]*) |.*|$")
        local number, name, purpose, body = line:match("^| (%d+) | (.-) | (.-) | (.-) |$")
        local key, text = line:match("^| (%l[%l ]*) | (.-) |$")
        if heading == "type" or heading == "group of fields" or heading == "choice" then
            table_name = heading
        elseif table_name == "type" and number then
            messages[tonumber(number)] = { name = name, purpose = purpose, body = body }
        elseif table_name == "group of fields" and key then
            parts[key] = text
        elseif table_name == "choice" and key then
            choices[key] = values_of(text)
        end
    end
end
read_layout()

-- Fields ------------------------------------------------------------------------------------------------------------

local all_fields = {}

-- A field by its filter name; the same name is the same field.
local function field(make, abbreviation, label, ...)
    abbreviation = "cyphonic." .. abbreviation
    if not all_fields[abbreviation] then
        all_fields[abbreviation] = make(abbreviation, label, ...)
    end
    return all_fields[abbreviation]
end

local function snake(words)
    return (words:lower():gsub("[^%w]+", "_"))
end

local type_names = {}
for number, message in pairs(messages) do
    type_names[number] = message.name
end

local H = {
    transaction = field(ProtoField.uint32, "transaction", "Transaction", base.HEX),
    version = field(ProtoField.uint8, "version", "Version"),
    flags = field(ProtoField.uint8, "flags", "Flags", base.HEX),
    from_responder = field(ProtoField.bool, "flags.from_responder", "From the responder, or from a service", 8, nil, 1),
    type = field(ProtoField.uint8, "type", "Type", base.DEC, type_names),
    count = field(ProtoField.uint8, "count", "Transmissions before this one"),
    sequence = field(ProtoField.uint32, "sequence", "Sequence number"),
    length = field(ProtoField.uint16, "length", "Message length"),
    next_option = field(ProtoField.uint8, "next_option", "Next option"),
    newest_version = field(ProtoField.uint8, "newest_version", "Newest version of the sender"),
    id = field(ProtoField.bytes, "id", "Id of the node or path"),
    header = field(ProtoField.none, "header", "Header"),
    message = field(ProtoField.string, "message", "Message"),
    framing = field(ProtoField.string, "framing", "Carried by"),
    option = field(ProtoField.bytes, "option", "Option"),
    opened_by = field(ProtoField.string, "opened_by", "Opened by"),
    sealed = field(ProtoField.bytes, "sealed", "Sealed"),
    hmac = field(ProtoField.bytes, "hmac", "HMAC"),
    packet = field(ProtoField.bytes, "packet", "Packet of the overlay"),
    body = field(ProtoField.bytes, "body", "Body"),
}

local malformed = ProtoExpert.new("cyphonic.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
local unknown = ProtoExpert.new("cyphonic.unknown", "Of a later version", expert.group.UNDECODED, expert.severity.NOTE)
local no_key = ProtoExpert.new("cyphonic.no_key", "No key", expert.group.UNDECODED, expert.severity.NOTE)
cyphonic.experts = { malformed, unknown, no_key }

-- A reader over the bytes of a body: what is not there is an error, which ends the dissection of this message.
local Reader = {}
Reader.__index = Reader

function Reader:take(len)
    if self.at + len > self.stop then
        error({ text = "the body ends too early" })
    end
    self.at = self.at + len
    return self.tvb(self.at - len, len)
end

function Reader:u8()
    return self:take(1):uint()
end

-- Each maker gives a function (reader, tree) that reads a value and shows it.
local declare

local function plain(make, len, ...)
    local more = { ... }
    return function(label, name)
        local shown = field(make, name, label, table.unpack(more))
        return function(reader, tree)
            tree:add(shown, reader:take(len))
        end
    end
end

-- A text with its length before it.
local function text(length_of_length)
    return function(label, name)
        local shown = field(ProtoField.string, name, label)
        return function(reader, tree)
            local len = reader:take(length_of_length):uint()
            if len > MAX_TEXT then
                error({ text = "a text is too long" })
            elseif len == 0 then
                tree:add(shown, reader.tvb(reader.at - length_of_length, length_of_length), "")
            else
                tree:add(shown, reader:take(len))
            end
        end
    end
end

-- A certificate (DER) with its length before it.
local function certificate(label, name)
    local shown = field(ProtoField.bytes, name, label)
    return function(reader, tree)
        local len = reader:take(2):uint()
        if len > 0 then
            tree:add(shown, reader:take(len))
        end
    end
end

-- An address, and the port if it is a place.
local function address(has_port)
    return function(label, name)
        local v4, v6 = field(ProtoField.ipv4, name .. ".ipv4", label), field(ProtoField.ipv6, name .. ".ipv6", label)
        local port = has_port and field(ProtoField.uint16, name .. ".port", label .. ": port")
        return function(reader, tree)
            local family = reader:u8()
            if family ~= 4 and family ~= 6 then
                error({ text = "address family " .. family .. " is neither 4 nor 6" })
            end
            tree:add(family == 4 and v4 or v6, reader:take(family == 4 and 4 or 16))
            if port then
                tree:add(port, reader:take(2))
            end
        end
    end
end

local base_types = {
    u8 = plain(ProtoField.uint8, 1),
    u16 = plain(ProtoField.uint16, 2),
    u64 = plain(ProtoField.uint64, 8),
    bool = plain(ProtoField.bool, 1),
    id = plain(ProtoField.bytes, 16),
    key = plain(ProtoField.bytes, 16),
    ["wrapped key"] = plain(ProtoField.bytes, 32),
    ["8 bytes"] = plain(ProtoField.bytes, 8),
    ["16 bytes"] = plain(ProtoField.bytes, 16),
    ["26 zeros"] = plain(ProtoField.bytes, 26),
    cid = plain(ProtoField.bytes, 8),
    text = text(2),
    name = text(1),
    certificate = certificate,
    ip = address(false),
    place = address(true),
    virtual = function(label, name)
        local v4, v6 = field(ProtoField.ipv4, name .. ".ipv4", label), field(ProtoField.ipv6, name .. ".ipv6", label)
        return function(reader, tree)
            tree:add(v4, reader:take(4))
            tree:add(v6, reader:take(16))
        end
    end,
}

local function is_notation(words)
    local item = words:gsub(" if more follows$", ""):gsub("%?$", ""):gsub("^list of ", "")
    return base_types[item] or parts[item] or choices[item]
end

-- "other port u16" is a field called "other port" of type u16; "want?" is called like its type.
local function name_and_notation(words)
    if is_notation(words) then
        return words:gsub(" if more follows$", ""):gsub("%?$", ""), words
    end
    local at = 0
    while true do
        at = words:find(" ", at + 1, true)
        if not at then
            error("cyphonic.lua: the layout has a field that is not understood: " .. words)
        elseif is_notation(words:sub(at + 1)) then
            return words:sub(1, at - 1), words:sub(at + 1)
        end
    end
end

-- Fields in their order, as "a u8 · b place".
local function sequence_of(body, prefix)
    local readers = {}
    for words in (body .. " · "):gmatch("(.-) · ") do
        local name, notation = name_and_notation(words)
        table.insert(readers, declare(name, prefix .. "." .. snake(name), notation))
    end
    return function(reader, tree)
        for _, read in ipairs(readers) do
            read(reader, tree)
        end
    end
end

local declared = {}

local function choice(kind, label, name)
    local names, data = {}, {}
    for number, value in pairs(choices[kind]) do
        names[number] = value.name
        if value.data then
            data[number] = declare(value.name, snake(kind) .. "." .. snake(value.name), value.data)
        end
    end
    local shown = field(ProtoField.uint8, name, label, base.DEC, names)
    return function(reader, tree)
        local range = reader:take(1)
        local number = range:uint()
        local item = tree:add(shown, range)
        if data[number] then
            data[number](reader, tree)
        elseif not names[number] and kind == "error code" then
            item:add_proto_expert_info(unknown, "A code of a later version")
            reader.at = reader.stop
        elseif not names[number] then
            error({ text = kind .. " has no value " .. number })
        end
    end
end

function declare(label, name, notation)
    local optional, item = notation:match("^(.*)%?$"), notation:match("^list of (.*)$")
    local at_end = notation:match("^(.*) if more follows$")
    if at_end then
        local read = declare(label, name, at_end)
        return function(reader, tree)
            if reader.at < reader.stop then
                read(reader, tree)
            end
        end
    elseif optional then
        local read = declare(label, name, optional)
        return function(reader, tree)
            local there = reader:u8()
            if there > 1 then
                error({ text = "boolean has no value " .. there })
            elseif there == 1 then
                read(reader, tree)
            end
        end
    elseif item then
        local read = declare(label, name, item)
        return function(reader, tree)
            local len = reader:u8()
            if len > MAX_LIST then
                error({ text = "list of length " .. len .. ", more than " .. MAX_LIST })
            end
            for _ = 1, len do
                read(reader, tree)
            end
        end
    elseif base_types[notation] then
        return base_types[notation](label, name)
    elseif choices[notation] then
        return choice(notation, label, name)
    end
    declared[notation] = declared[notation] or sequence_of(parts[notation], snake(notation))
    local shown = field(ProtoField.none, name, label)
    return function(reader, tree)
        local start = reader.at
        local subtree = tree:add(shown, reader.tvb(start, math.min(1, reader.stop - start)))
        declared[notation](reader, subtree)
        subtree:set_len(reader.at - start)
    end
end

local capsule
for number, message in pairs(messages) do
    if message.body == "a packet of the overlay" then
        capsule = number
    elseif message.body ~= "nothing" then
        message.read = sequence_of(message.body, snake(message.name))
    end
end

local list = {}
for _, shown in pairs(all_fields) do
    table.insert(list, shown)
end
cyphonic.fields = list

-- Dissection ----------------------------------------------------------------------------------------------------------

-- The frame in which something was recognised last.
local recognised

-- Whether bytes look like a header: small versions, and the sender's newest one is not older than the message's.
local function is_header(tvb)
    if tvb:len() < HEADER_LEN then
        return false
    end
    local version, newest = tvb(4, 1):uint(), tvb(15, 1):uint()
    return version > 0 and version < 32 and (newest == 0 or version <= newest and newest < 32)
end

-- A packet of the overlay; it leaves the addresses of the outer packet as they are.
local function show_packet(range, pinfo, tree)
    tree:add(H.packet, range)
    if not cyphonic.prefs.inner then
        return
    end
    local version = bit.rshift(range(0, 1):uint(), 4)
    if version ~= 4 and version ~= 6 then
        return
    end
    local src, dst, src_port, dst_port = pinfo.src, pinfo.dst, pinfo.src_port, pinfo.dst_port
    Dissector.get(version == 4 and "ip" or "ipv6"):call(range:tvb(), pinfo, tree)
    -- Wireshark puts the pieces of a stream together by them.
    pinfo.src, pinfo.dst, pinfo.src_port, pinfo.dst_port = src, dst, src_port, dst_port
end

local function show_header(tvb, tree)
    local header = tree:add(H.header, tvb(0, HEADER_LEN))
    header:add(H.transaction, tvb(0, 4))
    header:add(H.version, tvb(4, 1))
    header:add(H.flags, tvb(5, 1)):add(H.from_responder, tvb(5, 1))
    header:add(H.type, tvb(6, 1))
    header:add(H.count, tvb(7, 1))
    header:add(H.sequence, tvb(8, 4))
    header:add(H.length, tvb(12, 2))
    header:add(H.next_option, tvb(14, 1))
    header:add(H.newest_version, tvb(15, 1))
    header:add(H.id, tvb(16, 16))
end

-- Options and body, from `at` to `stop`.
local function show_plaintext(tvb, at, stop, kind, option, pinfo, tree)
    local message = messages[kind]
    local reader = setmetatable({ tvb = tvb, at = at, stop = stop }, Reader)
    local fine, problem = pcall(function()
        while option ~= 0 do
            local start = reader.at
            option = reader:u8()
            reader:take(reader:u8())
            tree:add(H.option, tvb(start, reader.at - start))
        end
        if message and kind ~= capsule then
            if message.read then
                message.read(reader, tree)
            end
            if reader.at < stop then
                error({ text = (stop - reader.at) .. " bytes follow the message" })
            end
        end
    end)
    if not fine then
        if type(problem) ~= "table" then
            error(problem, 0)
        end
        tree:add_proto_expert_info(malformed, problem.text)
    elseif kind == capsule and reader.at < stop then
        show_packet(tvb(reader.at, stop - reader.at), pinfo, tree)
    elseif not message and reader.at < stop then
        tree:add(H.body, tvb(reader.at, stop - reader.at)):add_proto_expert_info(unknown, "Of a type not known here")
    end
end

-- One message with its header. `sealed`: it has an HMAC, and a key has to open it.
local function show(tvb, pinfo, root, framing, sealed)
    local kind, len, option = tvb(6, 1):uint(), tvb(12, 2):uint(), tvb(14, 1):uint()
    local name = messages[kind] and messages[kind].name or "Unknown message type " .. kind
    recognised = pinfo.number
    pinfo.cols.protocol = "CYPHONIC"
    if framing == "udp" then
        pinfo.cols.info = name
    else
        pinfo.cols.info:append(", " .. name)
    end
    local tree = root:add(cyphonic, tvb(), "CYPHONIC, " .. name)
    tree:add(H.message, tvb(6, 1), name):set_generated()
    tree:add(H.framing, tvb(0, 0), framing):set_generated()
    show_header(tvb, tree)
    if not sealed then
        return show_plaintext(tvb, HEADER_LEN, HEADER_LEN + len, kind, option, pinfo, tree)
    end
    tree:add(H.hmac, tvb(HEADER_LEN + len, TAG_LEN))
    local datagram = tvb(0, HEADER_LEN + len + TAG_LEN):bytes():raw()
    local found = seal.open(cyphonic.prefs.key_log, pinfo.number, datagram)
    if not found then
        local item = len > 0 and tree:add(H.sealed, tvb(HEADER_LEN, len)) or tree
        return item:add_proto_expert_info(no_key, "No key in the key log opens it")
    end
    tree:add(H.opened_by, tvb(HEADER_LEN + len, TAG_LEN), found.label):set_generated()
    if len > 0 then
        local plain_tvb = ByteArray.new(found.plain, true):tvb("Opened CYPHONIC message")
        show_plaintext(plain_tvb, 0, len, kind, option, pinfo, tree)
    end
end

-- Messages one after another in a stream. What is not whole yet waits for more.
local function stream(framing)
    return function(tvb, pinfo, root)
        local at = 0
        while at < tvb:len() do
            local left = tvb:len() - at
            if left >= HEADER_LEN and not is_header(tvb(at):tvb()) then
                return at
            end
            local whole = left >= HEADER_LEN and HEADER_LEN + tvb(at + 12, 2):uint()
            if not whole or left < whole then
                pinfo.desegment_offset = at
                pinfo.desegment_len = whole and whole - left or DESEGMENT_ONE_MORE_SEGMENT
                return tvb:len()
            end
            show(tvb(at, whole):tvb(), pinfo, root, framing, false)
            at = at + whole
        end
        return at
    end
end

local quic = Proto("cyphonic_stream", "CYPHONIC in a QUIC stream")
quic.dissector = stream("stream")
local tls = Proto("cyphonic_tls", "CYPHONIC in TLS")
tls.dissector = stream("tls")

-- Sealed datagrams; Probes between node and TRS and some Hole Punchings have no HMAC.
local function datagram(tvb, pinfo, root)
    if not is_header(tvb) then
        return 0
    end
    local len = tvb(12, 2):uint()
    if tvb:len() == HEADER_LEN + len then
        show(tvb, pinfo, root, "udp", false)
    elseif tvb:len() == HEADER_LEN + len + TAG_LEN then
        show(tvb, pinfo, root, "udp", true)
    else
        return 0
    end
    return tvb:len()
end

function cyphonic.dissector(tvb, pinfo, root)
    return datagram(tvb, pinfo, root)
end

-- Beside QUIC: the first two bits are 0, and the type is one that travels there.
local BESIDE_QUIC = { ["Probe"] = true, ["Probe Reply"] = true, ["Probe Token"] = true, ["Hole Punching"] = true }

local function beside_quic(tvb, pinfo, root)
    if not is_header(tvb) or tvb(0, 1):uint() >= 0x40 or not BESIDE_QUIC[type_names[tvb(6, 1):uint()]] then
        return 0
    end
    return datagram(tvb, pinfo, root)
end

-- Wireshark gives DATAGRAM frames to nobody, and a Probe between two endpoints that speak QUIC to QUIC. So both are
-- looked for when it is done with a packet.
local afterwards = Proto("cyphonic_afterwards", "CYPHONIC in QUIC DATAGRAM frames and beside QUIC")
local datagram_frames, udp_payloads = Field.new("quic.dg"), Field.new("udp.payload")

local function is_packet(range)
    local first = bit.rshift(range(0, 1):uint(), 4)
    return first == 4 and range:len() >= 20 and range(2, 2):uint() == range:len()
        or first == 6 and range:len() >= 40 and range(4, 2):uint() + 40 == range:len()
end

function afterwards.dissector(_, pinfo, root)
    local frames, payload = { datagram_frames() }, udp_payloads()
    if #frames == 0 and payload and recognised ~= pinfo.number then
        beside_quic(payload.range:tvb(), pinfo, root)
    end
    if cyphonic.prefs.alpn == "" then
        return
    end
    for _, frame in ipairs(frames) do
        local range = frame.range
        local tvb = range:tvb()
        if is_header(tvb) and HEADER_LEN + tvb(12, 2):uint() == tvb:len() then
            show(tvb, pinfo, root, "datagram", false)
        elseif is_packet(range) then
            recognised = pinfo.number
            pinfo.cols.protocol = "CYPHONIC"
            local tree = root:add(cyphonic, range, "CYPHONIC, a packet without a header")
            tree:add(H.framing, range, "compact"):set_generated()
            show_packet(range, pinfo, tree)
        end
    end
end
register_postdissector(afterwards)

-- Registration --------------------------------------------------------------------------------------------------------

-- What gives back the ports and the ALPN that were taken.
local taken = {}

-- Takes a place of a table, and gives it back to the dissector that had it.
local function take(name, pattern, dissector)
    local places = DissectorTable.get(name)
    local before = places:get_dissector(pattern)
    places:set(pattern, dissector)
    table.insert(taken, function()
        places:remove(pattern, dissector)
        if before then
            places:add(pattern, before)
        end
    end)
end

-- Ports and ALPN as the preferences have them; 0 and nothing take none.
local function register()
    local prefs = cyphonic.prefs
    for _, give_back in ipairs(taken) do
        give_back()
    end
    taken = {}
    if prefs.udp_port ~= 0 then
        take("udp.port", prefs.udp_port, cyphonic)
    end
    if prefs.tls_port ~= 0 then
        take("tls.port", prefs.tls_port, tls)
    end
    if prefs.alpn ~= "" then
        take("quic.proto", prefs.alpn, quic)
    end
end
register()

function cyphonic.prefs_changed()
    register()
    seal.forget()
end

function cyphonic.init()
    seal.forget()
    recognised = nil
end

-- How the conventional method of CYPHONIC seals its messages, for cyphonic.lua: key log, keys, HMAC and cipher.
--
--     header 32 | AES-128-CTR(plaintext) | HMAC-SHA-256/16      (core/src/conventional/seal.rs)
--
-- Wireshark 4.0 gives Lua no cipher, so AES-128, SHA-256 and HMAC are written here. A full packet takes some
-- milliseconds; what was opened once is remembered.

local HEADER_LEN, TAG_LEN = 32, 16

-- SHA-256 (FIPS 180-4), HMAC (RFC 2104), HKDF (RFC 5869) -------------------------------------------------------------

local band, bor, bxor, bnot = bit.band, bit.bor, bit.bxor, bit.bnot
local lshift, rshift, ror, tobit = bit.lshift, bit.rshift, bit.ror, bit.tobit

-- The first 32 bits behind the point of a root of each of the first primes.
local function fractions(count, exponent)
    local found, candidate = {}, 2
    while #found < count do
        local prime = true
        for divisor = 2, math.floor(math.sqrt(candidate)) do
            prime = prime and candidate % divisor ~= 0
        end
        if prime then
            local root = candidate ^ exponent
            table.insert(found, tobit(math.floor((root - math.floor(root)) * 2 ^ 32)))
        end
        candidate = candidate + 1
    end
    return found
end
local ROUNDS, INITIAL = fractions(64, 1 / 3), fractions(8, 1 / 2)

local function word(bytes, at)
    local a, b, c, d = bytes:byte(at, at + 3)
    return bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
end

local function bytes_of(value)
    return string.char(band(rshift(value, 24), 255), band(rshift(value, 16), 255), band(rshift(value, 8), 255),
        band(value, 255))
end

-- Takes the 64-byte blocks of `bytes` into a copy of `state`.
local function compress(state, bytes)
    local s, w = { table.unpack(state) }, {}
    for block = 1, #bytes, 64 do
        for i = 1, 16 do
            w[i] = word(bytes, block + 4 * (i - 1))
        end
        for i = 17, 64 do
            local x, y = w[i - 15], w[i - 2]
            w[i] = tobit(w[i - 16] + bxor(ror(x, 7), ror(x, 18), rshift(x, 3)) + w[i - 7]
                + bxor(ror(y, 17), ror(y, 19), rshift(y, 10)))
        end
        local a, b, c, d, e, f, g, h = table.unpack(s)
        for i = 1, 64 do
            local one = h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f), band(bnot(e), g)) + ROUNDS[i]
                + w[i]
            local two = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
            a, b, c, d, e, f, g, h = tobit(one + two), a, b, c, tobit(d + one), e, f, g
        end
        for i, value in ipairs({ a, b, c, d, e, f, g, h }) do
            s[i] = tobit(s[i] + value)
        end
    end
    return s
end

-- The hash of `before` bytes that are in `state` already, and of `bytes`.
local function finish(state, before, bytes)
    local len = before + #bytes
    local padding = "\128" .. ("\0"):rep((55 - len) % 64) .. "\0\0\0\0" .. bytes_of(len * 8)
    local s, out = compress(state, bytes .. padding), {}
    for i = 1, 8 do
        out[i] = bytes_of(s[i])
    end
    return table.concat(out)
end

-- An HMAC key of at most 64 bytes, made ready.
local function hmac_key(key)
    local padded = key .. ("\0"):rep(64 - #key)
    local function pad(with)
        return compress(INITIAL, (padded:gsub(".", function(c) return string.char(bxor(c:byte(), with)) end)))
    end
    return { inner = pad(0x36), outer = pad(0x5c) }
end

local function hmac(key, bytes)
    return finish(key.outer, 64, finish(key.inner, 64, bytes))
end

local SALT = hmac_key("cyphonic conventional 1")

-- The cipher's and the HMAC's key of one direction.
local function derive(key, info)
    local pseudorandom = hmac_key(hmac(SALT, key))
    local first = hmac(pseudorandom, info .. "\1")
    local second = hmac(pseudorandom, first .. info .. "\2")
    return first:sub(1, 16), first:sub(17) .. second:sub(1, 16)
end

-- AES-128 (FIPS 197) in counter mode ----------------------------------------------------------------------------------

local SBOX, TABLES = {}, { {}, {}, {}, {} }

local function double(x)
    return x < 128 and x * 2 or bxor(x * 2, 0x11b)
end

local function make_tables()
    -- All powers of 3, and their inverses, side by side.
    local p, q = 1, 1
    repeat
        p = bxor(p, double(p))
        q = bxor(q, lshift(q, 1))
        q = bxor(q, lshift(q, 2))
        q = band(bxor(q, lshift(q, 4)), 255)
        q = band(q, 128) ~= 0 and bxor(q, 9) or q
        local turned = q * 0x101
        local x = bxor(q, rshift(turned, 7), rshift(turned, 6), rshift(turned, 5), rshift(turned, 4))
        SBOX[p] = bxor(band(x, 255), 0x63)
    until p == 1
    SBOX[0] = 0x63
    for x = 0, 255 do
        local s = SBOX[x]
        local column = bor(lshift(double(s), 24), lshift(s, 16), lshift(s, 8), bxor(s, double(s)))
        for i = 1, 4 do
            TABLES[i][x] = ror(column, 8 * (i - 1))
        end
    end
end
make_tables()

local function substitute(value)
    return bor(lshift(SBOX[band(rshift(value, 24), 255)], 24), lshift(SBOX[band(rshift(value, 16), 255)], 16),
        lshift(SBOX[band(rshift(value, 8), 255)], 8), SBOX[band(value, 255)])
end

local function schedule(key)
    local w, constant = {}, 1
    for i = 1, 4 do
        w[i] = word(key, 4 * i - 3)
    end
    for i = 5, 44 do
        local before = w[i - 1]
        if i % 4 == 1 then
            before = bxor(substitute(bit.rol(before, 8)), lshift(constant, 24))
            constant = double(constant)
        end
        w[i] = bxor(w[i - 4], before)
    end
    return w
end

local function encrypt(w, a, b, c, d)
    local t0, t1, t2, t3 = TABLES[1], TABLES[2], TABLES[3], TABLES[4]
    local function round(i, e, f, g, h)
        return bxor(t0[band(rshift(e, 24), 255)], t1[band(rshift(f, 16), 255)], t2[band(rshift(g, 8), 255)],
            t3[band(h, 255)], w[i])
    end
    local function last(i, e, f, g, h)
        return bxor(substitute(bor(band(e, 0xff000000), band(f, 0xff0000), band(g, 0xff00), band(h, 255))), w[i])
    end
    a, b, c, d = bxor(a, w[1]), bxor(b, w[2]), bxor(c, w[3]), bxor(d, w[4])
    for i = 5, 37, 4 do
        a, b, c, d = round(i, a, b, c, d), round(i + 1, b, c, d, a), round(i + 2, c, d, a, b), round(i + 3, d, a, b, c)
    end
    return last(41, a, b, c, d), last(42, b, c, d, a), last(43, c, d, a, b), last(44, d, a, b, c)
end

-- Decrypts the bytes that follow `header`, whose fields make the counter block.
local function apply_keystream(key, header, bytes)
    local transaction, sequence = word(header, 1), word(header, 9)
    local kind_and_id = bor(lshift(header:byte(7), 24), rshift(word(header, 17), 8))
    local out = {}
    for block = 0, math.ceil(#bytes / 16) - 1 do
        local stream = { encrypt(key, transaction, sequence, kind_and_id, block) }
        for i = 0, 3 do
            local at = 16 * block + 4 * i + 1
            local piece = bytes:sub(at, at + 3)
            if #piece > 0 then
                local padded = piece .. ("\0"):rep(4 - #piece)
                out[#out + 1] = bytes_of(bxor(word(padded, 1), stream[i + 1])):sub(1, #piece)
            end
        end
    end
    return table.concat(out)
end

-- Keys of the conventional method -------------------------------------------------------------------------------------

-- Most datagrams that are remembered, opened.
local MAX_OPENED = 10000

-- Lists of keys by id; the length of the file when it was read; what was opened, by frame and HMAC; how much that is.
local keys, read_len, opened, opened_len = {}, -1, {}, 0

local function raw(hex)
    return (hex:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

-- Reads the key log if it has another length than before. True if it had.
local function read_keys(path)
    local file = path ~= "" and io.open(path, "r")
    if not file then
        return false
    end
    local len = file:seek("end")
    local grown = len ~= read_len
    if grown then
        file:seek("set")
        keys, read_len = {}, len
        for line in file:lines() do
            local label, id, secret = line:match("^CYPHONIC_([%u_]+) (%x+) (%x+)%s*$")
            if label and #id == 32 and (#secret == 32 or #secret == 48) then
                id = id:lower()
                keys[id] = keys[id] or {}
                -- The newest first: it is the most likely one.
                table.insert(keys[id], 1, { label = label, secret = raw(secret), ready = {} })
            end
        end
    end
    file:close()
    return grown
end

-- A key's cipher and HMAC of one direction.
local function ready(key, from_responder)
    local direction = from_responder and "from responder" or "from initiator"
    if not key.ready[direction] then
        local purpose = #key.secret == 16 and "seal " .. direction
            or "registration " .. direction .. key.secret:sub(17)
        local cipher, mac = derive(key.secret:sub(1, 16), purpose)
        key.ready[direction] = { cipher = schedule(cipher), mac = hmac_key(mac) }
    end
    return key.ready[direction]
end

local function try_keys(id, datagram)
    local sealed, tag = datagram:sub(1, -1 - TAG_LEN), datagram:sub(-TAG_LEN)
    for _, key in ipairs(keys[id] or {}) do
        local direction = ready(key, band(datagram:byte(6), 1) == 1)
        if hmac(direction.mac, sealed):sub(1, TAG_LEN) == tag then
            local header = sealed:sub(1, HEADER_LEN)
            return { label = key.label, plain = apply_keystream(direction.cipher, header, sealed:sub(HEADER_LEN + 1)) }
        end
    end
end

local seal = {}

-- What a sealed datagram of this frame says: `label` of the key that opens it, and `plain`. Nothing if no key does.
function seal.open(key_log, frame, datagram)
    local place = frame .. ":" .. datagram:sub(-TAG_LEN)
    if not opened[place] then
        local id = datagram:sub(17, 32):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
        if opened_len == MAX_OPENED then
            opened, opened_len = {}, 0
        end
        opened[place] = try_keys(id, datagram) or (read_keys(key_log) and try_keys(id, datagram)) or nil
        opened_len = opened_len + (opened[place] and 1 or 0)
    end
    return opened[place]
end

-- Forgets keys, and what they opened: another capture, or another key log.
function seal.forget()
    keys, read_len, opened, opened_len = {}, -1, {}, 0
end

return seal

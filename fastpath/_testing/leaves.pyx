"""Every inline leaf as a Python function, for tests and fuzzing.

Whatever reads bytes gets a copy in a heap block of exactly their length, so that the sanitizers see a
read of one byte too many.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.address cimport (
    client_equal, client_from_sockaddr, client_is_special, client_to_sockaddr, endpoint_equal,
    endpoint_from_sockaddr, endpoint_to_sockaddr, network_holds)
from fastpath.aes cimport fp_aes, fp_aes_decrypt, fp_aes_free, fp_aes_init, fp_aes_kind
from fastpath.demux cimport demux as c_demux
from fastpath.layout cimport FP_KEYS, FP_REPLAY_BITS, fp_client, fp_endpoint, fp_trunk_link
from fastpath.pressure cimport pressure, pressure_evidence, pressure_look, pressure_turn
from fastpath.replay cimport REPLAY_OK, REPLAY_OLD_EPOCH, REPLAY_SEEN, replay_accept, replay_check
from fastpath.siphash cimport siphash as c_siphash, siphash13 as c_siphash13, siphash128 as c_siphash128
from fastpath.stun cimport STUN_OK, stun_fingerprint_holds as c_fingerprint_holds, stun_message
from fastpath.stun cimport stun_parse as c_stun_parse, ufrag_is_valid as c_ufrag_is_valid
from fastpath.token cimport (
    TOKEN_CHARACTERS, TOKEN_EXPIRED, TOKEN_FORGED, TOKEN_OK, token_fields, token_parse,
    token_has_shape as c_token_has_shape)
from fastpath.trunk cimport (
    TRUNK_END, TRUNK_HEADER_BYTES, TRUNK_OK, TRUNK_RECORD, TRUNK_TAG_BYTES, trunk_build_header,
    trunk_build_record_header, trunk_header, trunk_next_record, trunk_parse_header, trunk_record,
    trunk_record_bytes, trunk_tag as c_trunk_tag, trunk_tag_holds as c_trunk_tag_holds)

TOKEN_CODES = {TOKEN_OK: "ok", TOKEN_FORGED: "forged", TOKEN_EXPIRED: "expired"}
REPLAY_CODES = {REPLAY_OK: "ok", REPLAY_OLD_EPOCH: "old_epoch", REPLAY_SEEN: "replayed"}
REPLAY_BITS = FP_REPLAY_BITS


cdef inline size_t size(bytes data) noexcept:
    return <size_t>len(data)


cdef uint8_t *exact(bytes data) except NULL:
    cdef uint8_t *block = <uint8_t *>malloc(size(data))
    if block == NULL:
        raise MemoryError
    memcpy(block, <const char *>data, size(data))
    return block


cdef const uint8_t *sixteen(bytes data) except NULL:
    if len(data) != 16:
        raise ValueError(f"16 bytes are needed, not {len(data)}")
    return <const uint8_t *><const char *>data


# ---- SipHash, AES, demultiplexing -----------------------------------------------------------------

def siphash(bytes key, bytes data):
    cdef uint8_t *block = exact(data)
    try:
        return c_siphash(sixteen(key), block, size(data))
    finally:
        free(block)


def siphash13(bytes key, bytes data):
    cdef uint8_t *block = exact(data)
    try:
        return c_siphash13(sixteen(key), block, size(data))
    finally:
        free(block)


def siphash128(bytes key, bytes data):
    """The 16 output bytes of the reference implementation."""
    cdef uint64_t out[2]
    cdef uint8_t *block = exact(data)
    try:
        c_siphash128(sixteen(key), block, size(data), out)
        return (<const uint8_t *>out)[:16]
    finally:
        free(block)


def aes_decrypt(bytes key, bytes block, bint force_library=False):
    """(which implementation, plaintext block)."""
    cdef fp_aes aes
    cdef uint8_t out[16]
    memset(&aes, 0, sizeof(aes))
    fp_aes_init(&aes, sixteen(key), force_library)
    fp_aes_decrypt(&aes, sixteen(block), out)
    kind = fp_aes_kind(&aes).decode()
    fp_aes_free(&aes)
    return kind, out[:16]


def aes_refuses(bytes block):
    """What comes out of an fp_aes without any implementation behind it."""
    cdef fp_aes aes
    cdef uint8_t out[16]
    memset(&aes, 0, sizeof(aes))
    fp_aes_free(&aes)
    fp_aes_decrypt(&aes, sixteen(block), out)
    return fp_aes_kind(&aes).decode(), out[:16]


def demux(bytes data):
    cdef uint8_t *block = exact(data)
    try:
        return c_demux(block, size(data))
    finally:
        free(block)


# ---- STUN -----------------------------------------------------------------------------------------

def stun_parse(bytes data):
    """(type, transaction, ufrag or None, has_fingerprint); None when it is bad."""
    cdef stun_message message
    cdef uint8_t *block = exact(data)
    try:
        if c_stun_parse(block, size(data), &message) != STUN_OK:
            return None
        ufrag = message.ufrag[:<Py_ssize_t>message.ufrag_length] if message.ufrag != NULL else None
        return message.type, message.transaction[:12], ufrag, bool(message.has_fingerprint)
    finally:
        free(block)


def stun_fingerprint_holds(bytes data):
    """For messages that stun_parse accepts."""
    cdef uint8_t *block = exact(data)
    try:
        return bool(c_fingerprint_holds(block, size(data)))
    finally:
        free(block)


def ufrag_is_valid(bytes ufrag):
    cdef uint8_t *block = exact(ufrag)
    try:
        return bool(c_ufrag_is_valid(block, size(ufrag)))
    finally:
        free(block)


# ---- token ----------------------------------------------------------------------------------------

def token_has_shape(bytes ufrag):
    cdef uint8_t *block = exact(ufrag)
    try:
        return bool(c_token_has_shape(block, size(ufrag)))
    finally:
        free(block)


cdef class TokenKeys:
    """Expanded keys by kid, as a worker holds them."""
    cdef fp_aes keys[FP_KEYS]
    cdef uint32_t mask

    def __cinit__(self, dict keys, bint force_library=False):
        memset(self.keys, 0, sizeof(self.keys))
        for kid, key in keys.items():
            if fp_aes_init(&self.keys[<int>kid], sixteen(key), force_library) != 0:
                raise OSError("no AES on this machine")
            self.mask |= <uint32_t>1 << <int>kid

    def __dealloc__(self):
        cdef int kid
        for kid in range(FP_KEYS):
            fp_aes_free(&self.keys[kid])

    def kind(self, int kid):
        return fp_aes_kind(&self.keys[kid]).decode()

    def parse(self, bytes ufrag, int64_t wall_s):
        """(code, fields or None) for 22 bytes."""
        cdef token_fields fields
        cdef uint8_t *block
        cdef int code
        if len(ufrag) != TOKEN_CHARACTERS:
            raise ValueError("a token has 22 characters")
        block = exact(ufrag)
        code = token_parse(self.keys, self.mask, block, wall_s, &fields)
        free(block)
        if code == TOKEN_FORGED:
            return "forged", None
        return TOKEN_CODES[code], {
            "expires": fields.expires, "cluster": fields.cluster, "xcvr": fields.xcvr,
            "incarnation": fields.incarnation, "traffic_class": fields.traffic_class,
            "session": fields.session}

    def not_forged_at_random(self, uint64_t seed, uint32_t count):
        """How many of `count` random strings of 22 digits pass."""
        cdef uint8_t ufrag[TOKEN_CHARACTERS]
        cdef token_fields fields
        cdef uint32_t _i, passed = 0
        cdef int j
        with nogil:
            for _i in range(count):
                for j in range(TOKEN_CHARACTERS):
                    ufrag[j] = digit(next_random(&seed))
                passed += token_parse(self.keys, self.mask, ufrag, 0, &fields) != TOKEN_FORGED
        return passed

    def not_forged_when_changed(self, bytes token, uint64_t seed, uint32_t count):
        """How many of `count` changes of one to three characters of an authentic token pass."""
        cdef const uint8_t *authentic = <const uint8_t *><const char *>token
        cdef uint8_t ufrag[TOKEN_CHARACTERS]
        cdef token_fields fields
        cdef uint32_t _i, passed = 0
        cdef uint64_t draw
        cdef int j, _changes, changed
        if len(token) != TOKEN_CHARACTERS:
            raise ValueError("a token has 22 characters")
        with nogil:
            for _i in range(count):
                memcpy(ufrag, authentic, TOKEN_CHARACTERS)
                for _changes in range(<int>(1 + next_random(&seed) % 3)):
                    draw = next_random(&seed)
                    ufrag[<int>((draw >> 8) % TOKEN_CHARACTERS)] = digit(draw)
                changed = 0
                for j in range(TOKEN_CHARACTERS):
                    changed |= ufrag[j] ^ authentic[j]
                if changed:
                    passed += token_parse(self.keys, self.mask, ufrag, 0, &fields) != TOKEN_FORGED
        return passed


cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    """splitmix64 (Steele, Lea, Flood 2014)."""
    cdef uint64_t z
    state[0] += 0x9e3779b97f4a7c15u
    z = (state[0] ^ (state[0] >> 30)) * 0xbf58476d1ce4e5b9u
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu
    return z ^ (z >> 31)


cdef inline uint8_t digit(uint64_t draw) noexcept nogil:
    cdef uint64_t value = (draw >> 16) % 62
    return <uint8_t>(48 + value if value < 10 else 55 + value if value < 36 else 61 + value)


# ---- trunk ----------------------------------------------------------------------------------------

cdef tuple client_fields(const fp_client *client):
    cdef const uint8_t *address = <const uint8_t *>client
    return address[:16], client.port, client.ingress, client.family


cdef fp_client make_client(tuple fields) except *:
    """From (address16, port, ingress, family)."""
    cdef fp_client client
    memcpy(client.address, sixteen(fields[0]), 16)
    client.port, client.ingress, client.family = fields[1], fields[2], fields[3]
    return client


def trunk_header_of(bytes data):
    """(tagged, key_id, epoch, sequence); None when it is bad."""
    cdef trunk_header header
    cdef uint8_t *block = exact(data)
    try:
        if trunk_parse_header(block, size(data), &header) != TRUNK_OK:
            return None
        return bool(header.tagged), header.key_id, header.epoch, header.sequence
    finally:
        free(block)


def trunk_records(bytes data):
    """What follows the header, without a tag: (flags, client, payload) a record, None for a bad one."""
    cdef trunk_record record
    cdef size_t offset = TRUNK_HEADER_BYTES
    cdef uint8_t *block
    cdef int code
    cdef list found = []
    if len(data) < TRUNK_HEADER_BYTES:
        raise ValueError("records begin behind the 12 bytes of the header")
    block = exact(data)
    try:
        while True:
            code = trunk_next_record(block, size(data), &offset, &record)
            if code == TRUNK_END:
                return found
            found.append((record.flags, client_fields(&record.client), record.payload[:record.length])
                         if code == TRUNK_RECORD else None)
    finally:
        free(block)


def build_trunk_header(bint tagged, uint8_t key_id, uint32_t epoch, uint32_t sequence):
    cdef uint8_t out[TRUNK_HEADER_BYTES]
    trunk_build_header(out, tagged, key_id, epoch, sequence)
    return out[:TRUNK_HEADER_BYTES]


def build_trunk_record(uint8_t flags, tuple client_tuple, bytes payload):
    cdef fp_client client = make_client(client_tuple)
    cdef size_t needed = trunk_record_bytes(client.family, size(payload))
    cdef uint8_t *out = <uint8_t *>malloc(needed)
    cdef uint8_t *place
    if out == NULL:
        raise MemoryError
    try:
        place = trunk_build_record_header(out, flags, &client, <uint16_t>size(payload))
        memcpy(place, <const char *>payload, size(payload))
        return out[:<Py_ssize_t>needed]
    finally:
        free(out)


def trunk_tag(bytes key, bytes data):
    cdef uint8_t out[TRUNK_TAG_BYTES]
    cdef uint8_t *block = exact(data)
    c_trunk_tag(sixteen(key), block, size(data), out)
    free(block)
    return out[:TRUNK_TAG_BYTES]


def trunk_tag_holds(bytes key, bytes data):
    cdef uint8_t *block = exact(data)
    try:
        return bool(c_trunk_tag_holds(sixteen(key), block, size(data)))
    finally:
        free(block)


cdef class ReplayWindow:
    """One link's window."""
    cdef fp_trunk_link link

    def __cinit__(self):
        memset(&self.link, 0, sizeof(self.link))

    def check(self, uint32_t epoch, uint32_t sequence):
        return REPLAY_CODES[replay_check(&self.link, epoch, sequence)]

    def accept(self, uint32_t epoch, uint32_t sequence):
        replay_accept(&self.link, epoch, sequence)


# ---- addresses ------------------------------------------------------------------------------------

def client_of_sockaddr(bytes name, uint8_t ingress):
    """(address16, port, ingress, family) of a sockaddr; None when its family is another."""
    cdef fp_client client
    cdef uint8_t *block = exact(name)
    try:
        if not client_from_sockaddr(block, <unsigned int>len(name), ingress, &client):
            return None
        return client_fields(&client)
    finally:
        free(block)


def sockaddr_of_client(tuple fields):
    cdef fp_client client = make_client(fields)
    cdef uint8_t out[28]
    return out[:client_to_sockaddr(&client, out)]


def endpoint_survives_sockaddr(bytes name):
    """Is sockaddr -> endpoint -> sockaddr -> endpoint the same endpoint?"""
    cdef fp_endpoint first, second
    cdef uint8_t out[28]
    if not endpoint_from_sockaddr(<const uint8_t *><const char *>name, <unsigned int>len(name), &first):
        raise ValueError("no sockaddr of IPv4 or IPv6")
    endpoint_from_sockaddr(out, endpoint_to_sockaddr(&first, out), &second)
    return bool(endpoint_equal(&first, &second))


def clients_equal(tuple a, tuple b):
    cdef fp_client first = make_client(a)
    cdef fp_client second = make_client(b)
    return bool(client_equal(&first, &second))


def is_special(tuple fields):
    cdef fp_client client = make_client(fields)
    return bool(client_is_special(&client))


def holds(bytes network, uint8_t family, uint8_t prefix, tuple fields):
    cdef fp_client client = make_client(fields)
    return bool(network_holds(sixteen(network), family, prefix, &client))


# ---- pressure ---------------------------------------------------------------------------------------

cdef class Pressure:
    """A worker's pressure, without the worker."""
    cdef pressure state

    def __init__(self):
        memset(&self.state, 0, sizeof(pressure))

    @property
    def level(self):
        return self.state.level

    def turn(self, uint32_t now_ms, bint full):
        """True: look at the queues."""
        return bool(pressure_turn(&self.state, now_ms, full))

    def look(self, uint32_t now_ms, uint64_t waiting_bytes, uint64_t dropped, uint64_t received,
             uint64_t forwarded):
        cdef pressure_evidence seen
        seen.waiting_bytes, seen.dropped = waiting_bytes, dropped
        seen.received, seen.forwarded = received, forwarded
        pressure_look(&self.state, now_ms, &seen)

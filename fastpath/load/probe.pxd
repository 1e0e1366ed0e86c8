# F1: the datagram the generator sends, and the tally of its arrivals. It looks like one 20 ms Opus RTP
# packet (RFC 3550: version 2, dynamic payload type 111, SSRC = flow number), so that a relay takes the
# same road as with real media. Behind the RTP header: u32 run, u64 sequence, u64 intended send time.
# Numbers of the generator's own are in host order: generator and sink run on one kind of machine.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    PROBE_BYTES = 32            # the least a probe can be: RTP header and the generator's own numbers
    PROBE_WINDOW = 64           # sequences below the highest that a tally still tells apart

ctypedef struct probe:
    uint32_t flow
    uint32_t run                # datagrams of an earlier run are strangers
    uint64_t sequence           # per flow, from 0
    uint64_t intended_ns        # CLOCK_MONOTONIC: when the schedule wanted it sent

ctypedef struct probe_tally:    # one per flow
    uint64_t next               # highest sequence seen + 1
    uint64_t seen               # bit i: sequence next - 1 - i arrived
    uint64_t received           # without duplicates
    uint32_t duplicates
    uint32_t reordered          # arrived after a higher sequence


cdef inline void probe_build(uint8_t *out, size_t length, const probe *fields) noexcept nogil:
    """Writes the first PROBE_BYTES of a datagram; what follows is whatever `out` holds."""
    cdef uint16_t sequence = <uint16_t>fields.sequence
    cdef uint32_t timestamp = <uint32_t>fields.sequence * 960    # 20 ms at 48 kHz
    out[0] = 0x80
    out[1] = 111
    out[2] = <uint8_t>(sequence >> 8)
    out[3] = <uint8_t>sequence
    memcpy(out + 4, &timestamp, 4)
    memcpy(out + 8, &fields.flow, 4)
    memcpy(out + 12, &fields.run, 4)
    memcpy(out + 16, &fields.sequence, 8)
    memcpy(out + 24, &fields.intended_ns, 8)


cdef inline bint probe_parse(const uint8_t *data, size_t length, probe *out) noexcept nogil:
    if length < PROBE_BYTES or data[0] != 0x80 or data[1] != 111:
        return False
    memcpy(&out.flow, data + 8, 4)
    memcpy(&out.run, data + 12, 4)
    memcpy(&out.sequence, data + 16, 8)
    memcpy(&out.intended_ns, data + 24, 8)
    return True


cdef inline uint64_t probe_mix(uint64_t value) noexcept nogil:
    """splitmix64: neighbouring inputs give unrelated outputs."""
    value += <uint64_t>0x9e3779b97f4a7c15
    value = (value ^ (value >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    value = (value ^ (value >> 27)) * <uint64_t>0x94d049bb133111eb
    return value ^ (value >> 31)


cdef inline uint32_t probe_size(uint32_t size_bytes, uint32_t size_spread, uint32_t flow,
                                uint64_t sequence) noexcept nogil:
    """Bytes of one probe, size_spread around size_bytes: the same for a flow and sequence in every run."""
    if size_spread == 0:
        return size_bytes
    return size_bytes - size_spread + <uint32_t>(
        probe_mix(<uint64_t>flow << 32 ^ sequence) % (2 * size_spread + 1))


cdef inline bint probe_note(probe_tally *tally, uint64_t sequence) noexcept nogil:
    """Counts an arrival; False for a duplicate. One that is older than the window counts as new: after
    a loss-free window that can only be a very late one."""
    cdef uint64_t ahead, behind
    if sequence >= tally.next:
        ahead = sequence - tally.next + 1
        tally.seen = 1 if ahead >= PROBE_WINDOW else (tally.seen << ahead) | 1
        tally.next = sequence + 1
        tally.received += 1
        return True
    behind = tally.next - 1 - sequence
    if behind < PROBE_WINDOW:
        if tally.seen >> behind & 1:
            tally.duplicates += 1
            return False
        tally.seen |= <uint64_t>1 << behind
    tally.reordered += 1
    tally.received += 1
    return True

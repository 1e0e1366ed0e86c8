"""Loops of N around the trunk's leaves: bundles out, datagrams in, records, the replay window, the tag.

As in bench.pyx, every function returns how many of the N succeeded.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from fastpath.bundles cimport BUNDLE_BUFFER_BYTES, BUNDLE_ITEMS, bundle, bundle_run, bundle_seal
from fastpath.layout cimport FP_DROP_none, fp_trunk_link
from fastpath.links cimport link_admit
from fastpath.replay cimport REPLAY_OK, replay_accept, replay_check
from fastpath.trunk cimport (
    TRUNK_HEADER_BYTES, TRUNK_OK, TRUNK_RECORD, trunk_header, trunk_next_record,
    trunk_parse_header, trunk_record, trunk_tag_holds)


cdef class Bundler:
    """64 records of `payload_bytes` each: a full batch for one backend. key: 16 bytes, or b"" for none."""

    cdef trunk_record items[BUNDLE_ITEMS]
    cdef uint8_t payload[2048]
    cdef uint8_t buffer[BUNDLE_BUFFER_BYTES]
    cdef bundle_run runs[BUNDLE_ITEMS]
    cdef bundle_seal seal
    cdef bytes key
    cdef uint32_t sequence

    def __init__(self, uint16_t payload_bytes, bytes key):
        cdef uint16_t i
        memset(&self.items[0], 0, sizeof(self.items))
        for i in range(BUNDLE_ITEMS):
            self.items[i].payload, self.items[i].length = self.payload, payload_bytes
            self.items[i].client.family, self.items[i].client.port = 4, i
        self.key = key
        self.seal.epoch, self.seal.sequence, self.seal.key_id = 1, &self.sequence, 0
        self.seal.key = <const uint8_t *><const char *>self.key if key else NULL

    def bundle(self, uint32_t count):
        """How many of `count` records were bundled (64 at a time) with an MTU of 1,400."""
        cdef uint32_t done = 0, run, made
        with nogil:
            while done < count:
                made = bundle(self.items, BUNDLE_ITEMS, 1400, False, &self.seal, self.buffer, self.runs)
                for run in range(made):
                    done += self.runs[run].items
        return done

    def datagram(self):
        """The first trunk datagram of a bundle."""
        cdef uint32_t made = bundle(self.items, BUNDLE_ITEMS, 1400, False, &self.seal, self.buffer, self.runs)
        assert made
        return (<const char *>self.runs[0].data)[:self.runs[0].segment_bytes]


def records(bytes datagram, uint32_t count):
    """How many of `count` records were read out of a trunk datagram, its header parsed each time anew."""
    cdef const uint8_t *data = <const uint8_t *><const char *>datagram
    cdef size_t length = <size_t>len(datagram), offset
    cdef trunk_header header
    cdef trunk_record record
    cdef uint32_t done = 0, before
    with nogil:
        while done < count:
            before = done
            offset = TRUNK_HEADER_BYTES
            if trunk_parse_header(data, length, &header) == TRUNK_OK:
                while done < count and trunk_next_record(data, length, &offset, &record) == TRUNK_RECORD:
                    done += 1
            if done == before:
                break
    return done


def tags(bytes datagram, bytes key, uint32_t count):
    """How many of `count` verifications of one datagram's SipHash tag hold."""
    cdef const uint8_t *data = <const uint8_t *><const char *>datagram
    cdef const uint8_t *k = <const uint8_t *><const char *>key
    cdef size_t length = <size_t>len(datagram)
    cdef uint32_t _i, good = 0
    with nogil:
        for _i in range(count):
            if trunk_tag_holds(k, data, length):
                good += 1
    return good


def replays(uint32_t count):
    """How many of `count` datagrams in a row the replay window takes."""
    cdef fp_trunk_link link
    cdef uint32_t i, good = 0
    memset(&link, 0, sizeof(link))
    with nogil:
        for i in range(count):
            if replay_check(&link, 1, i) == REPLAY_OK:
                replay_accept(&link, 1, i)
                good += 1
    return good


def admissions(bytes datagram, uint32_t count):
    """How many of `count` untagged datagrams a link admits."""
    cdef const uint8_t *data = <const uint8_t *><const char *>datagram
    cdef fp_trunk_link link
    cdef size_t length = <size_t>len(datagram), end
    cdef uint32_t _i, good = 0
    memset(&link, 0, sizeof(link))
    with nogil:
        for _i in range(count):
            good += link_admit(&link, False, NULL, 0, data, length, False, 1, &end) == FP_DROP_none
    return good

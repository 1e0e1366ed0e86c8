"""The player's leaves as Python objects, for tests only: the agenda, and the ring with its lines."""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath.load.agenda cimport agenda, agenda_add, agenda_entry, agenda_take
from fastpath.load.script cimport (
    fingerprint as c_fingerprint, script, script_adopt, script_apply_mark, script_close, script_finish,
    script_finished, script_line, script_open, script_publish, script_release, script_reserve, script_used)

LINE_BYTES = sizeof(script_line)


def fingerprint(bytes data not None):
    return c_fingerprint(<const unsigned char *><const char *>data, <size_t>len(data))


def marked(bytes data not None, uint32_t session):
    """What session number `session` sends of a marked datagram."""
    cdef bytearray out = bytearray(data)
    script_apply_mark(<unsigned char *><char *>out, <uint32_t>len(out), session)
    return bytes(out)


cdef class Agenda:
    """Room for `capacity` sessions."""
    cdef agenda state
    cdef uint32_t capacity

    def __init__(self, uint32_t capacity):
        self.state.entries = <agenda_entry *>calloc(capacity, sizeof(agenda_entry))
        self.capacity = capacity
        if self.state.entries == NULL:
            raise MemoryError("no memory for an agenda")

    def add(self, uint64_t due_ns, uint32_t session):
        if self.state.count == self.capacity:
            raise ValueError("the agenda is full")
        agenda_add(&self.state, due_ns, session)

    def take(self):
        if self.state.count == 0:
            raise ValueError("the agenda is empty")
        return agenda_take(&self.state)

    def __len__(self):
        return self.state.count

    def __dealloc__(self):
        free(self.state.entries)


cdef class Script:
    """A ring of lines that are told apart by their index; each is wanted `left` times."""
    cdef script state

    def __init__(self, uint64_t ring_bytes):
        memset(&self.state, 0, sizeof(script))
        if not script_open(&self.state, ring_bytes):
            raise MemoryError("no memory for a script")

    def feed(self, uint32_t call, uint32_t length, int index, uint32_t left):
        """A line of `length` bytes; False when there is no room."""
        cdef script_line *line = script_reserve(&self.state, length)
        if line == NULL:
            return False
        memset(line, 0xa5, length)
        line.bytes, line.call, line.left, line.index, line.padding = length, call, left, index, False
        script_publish(&self.state, line)
        return True

    def adopt(self):
        """(address, index) of the next line, or None."""
        cdef script_line *line = script_adopt(&self.state)
        return None if line == NULL else (<size_t>line, line.index)

    def following(self, size_t address):
        """The line after this one in its call, as adopt gives it."""
        cdef script_line *line = (<script_line *>address).following
        return None if line == NULL else (<size_t>line, line.index)

    def settle(self, size_t address):
        """One session less wants it; the last byte of the line must be as it was fed."""
        cdef script_line *line = <script_line *>address
        if line.bytes > sizeof(script_line) and (<unsigned char *>line)[line.bytes - 1] != 0xa5:
            raise AssertionError(f"line {line.index} was overwritten")
        line.left -= 1

    def release(self):
        script_release(&self.state)

    def finish(self):
        script_finish(&self.state)

    def finished(self):
        return script_finished(&self.state)

    def used(self):
        return script_used(&self.state)

    def __dealloc__(self):
        script_close(&self.state)

# F2: what the control thread tells the workers. One writer; every worker keeps a private copy.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.admission cimport admission_limit
from fastpath.aes cimport fp_aes
from fastpath.layout cimport FP_CLASS_COUNT, FP_KEYS, FP_TRUNK_KEYS, fp_client

cdef enum:
    ALLOW_MAX = 64

ctypedef struct network:
    uint8_t address[16]
    uint8_t family
    uint8_t prefix

ctypedef struct policy:
    uint32_t generation             # seqlock; odd while the control thread writes
    uint32_t token_key_mask         # bit kid set: token_keys[kid] is in use
    uint8_t token_keys[FP_KEYS][16]
    uint32_t trunk_key_mask
    uint8_t trunk_up_keys[FP_TRUNK_KEYS][16]
    uint8_t trunk_down_keys[FP_TRUNK_KEYS][16]
    uint8_t trunk_key_id            # the one to sign with
    bint trunk_insecure
    bint hash_policy
    bint draining
    bint force_library              # AES of libcrypto even where the CPU has AES
    bint spin
    uint32_t coalesce_us
    uint32_t trunk_mtu
    admission_limit admission       # of one shard
    uint8_t dscp[FP_CLASS_COUNT]
    uint32_t allow_count
    network allow[ALLOW_MAX]

ctypedef struct settings:
    policy policy
    fp_aes token_aes[FP_KEYS]       # expanded from policy.token_keys
    int64_t wall_s                  # the wall clock, for token expiry only

cdef bint settings_refresh(settings *mine, const policy *shared, const int64_t *wall_s) noexcept nogil
cdef bint client_allowed(const settings *mine, const fp_client *client) noexcept nogil


cdef class Settings:
    cdef policy shared
    cdef int64_t wall_s

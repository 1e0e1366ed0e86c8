"""Policy and keys as the workers see them: published as a whole, copied when the generation changed.

A worker looks at the generation once a turn. Keys never lie in the memory that outlives the engine.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from fastpath.address cimport client_is_special, network_holds
from fastpath.aes cimport fp_aes_init
from fastpath.atomic cimport (
    fence_acquire, fence_release, load_acquire_u32, load_relaxed_u32, store_relaxed_u32, store_release_u32)
from fastpath.layout cimport FP_CLASS_COUNT, FP_KEYS, FP_TRUNK_KEYS, fp_client
from fastpath.siphash cimport siphash128


cdef bint settings_refresh(settings *mine, const policy *shared, const int64_t *wall_s) noexcept nogil:
    """Bring a worker's copy up to date; True when the policy changed."""
    cdef uint32_t before = load_acquire_u32(&shared.generation)
    cdef policy copy
    cdef int kid
    mine.wall_s = wall_s[0]
    if before & 1 or before == mine.policy.generation:
        return False
    memcpy(&copy, shared, sizeof(policy))
    fence_acquire()
    if load_relaxed_u32(&shared.generation) != before:
        return False                # the control thread writes again: next turn
    mine.policy = copy
    for kid in range(FP_KEYS):
        if (copy.token_key_mask >> kid) & 1:
            fp_aes_init(&mine.token_aes[kid], copy.token_keys[kid], copy.force_library)
    return True


cdef bint client_allowed(const settings *mine, const fp_client *client) noexcept nogil:
    """May a flow be made for this address? Public ones may; private, loopback, link-local and multicast
    ones only where allow_clients lists them: the relay must not become a way into its own network."""
    cdef const network *allowed
    cdef uint32_t i
    if not client_is_special(client):
        return True
    for i in range(mine.policy.allow_count):
        allowed = &mine.policy.allow[i]
        if network_holds(allowed.address, allowed.family, allowed.prefix, client):
            return True
    return False


cdef class Settings:
    """The control thread's handle."""

    def __init__(self):
        memset(&self.shared, 0, sizeof(policy))
        self.wall_s = 0

    def set_wall(self, int64_t wall_s):
        """The wall clock in seconds since the epoch; sampled each second, used for token expiry only."""
        self.wall_s = wall_s

    def publish(self, *, dict token_keys, dict trunk_keys, uint8_t trunk_key_id=0, bint trunk_insecure=False,
                bint hash_policy=False, bint draining=False, list allow_clients=None,
                uint32_t coalesce_us=200, bint spin=False, tuple dscp=(46, 46, 34, 0),
                uint32_t trunk_mtu=1400, bint force_library=False,
                uint32_t admission_flows_per_s=0, uint32_t admission_burst=1):
        """Replace everything the workers see at once.

        token_keys: kid 0..6 -> 16 bytes. trunk_keys: id 0..3 -> 16 bytes, from which both directions' keys
        are derived. allow_clients: [(address16, family, prefix length)]. dscp: one code point per traffic
        class. admission_*: a shard's share.
        """
        cdef policy new
        cdef uint64_t derived[2]
        cdef uint8_t raw[16]
        cdef int i
        memset(&new, 0, sizeof(policy))
        for kid, key in token_keys.items():
            if not 0 <= kid < FP_KEYS or len(key) != 16:
                raise ValueError(f"a token key is 16 bytes under a kid of 0..{FP_KEYS - 1}")
            memcpy(new.token_keys[<int>kid], <const char *>key, 16)
            new.token_key_mask |= <uint32_t>1 << <int>kid
        for kid, key in trunk_keys.items():
            if not 0 <= kid < FP_TRUNK_KEYS or len(key) != 16:
                raise ValueError(f"a trunk key is 16 bytes under an id of 0..{FP_TRUNK_KEYS - 1}")
            memcpy(raw, <const char *>key, 16)
            siphash128(raw, b"up", 2, derived)
            memcpy(new.trunk_up_keys[<int>kid], derived, 16)
            siphash128(raw, b"down", 4, derived)
            memcpy(new.trunk_down_keys[<int>kid], derived, 16)
            new.trunk_key_mask |= <uint32_t>1 << <int>kid
        allow_clients = allow_clients or []
        if len(allow_clients) > ALLOW_MAX:
            raise ValueError(f"allow_clients takes at most {ALLOW_MAX} networks: merge some")
        new.allow_count = <uint32_t>len(allow_clients)
        for i, (address16, family, prefix) in enumerate(allow_clients):
            memcpy(new.allow[i].address, <const char *>address16, 16)
            new.allow[i].family, new.allow[i].prefix = family, prefix
        for i in range(FP_CLASS_COUNT):
            new.dscp[i] = dscp[i]
        if trunk_key_id >= FP_TRUNK_KEYS:
            raise ValueError(f"trunk_key_id is 0..{FP_TRUNK_KEYS - 1}")
        new.trunk_key_id, new.trunk_insecure, new.trunk_mtu = trunk_key_id, trunk_insecure, trunk_mtu
        new.hash_policy, new.draining = hash_policy, draining
        new.coalesce_us, new.spin, new.force_library = coalesce_us, spin, force_library
        new.admission.flows_per_s, new.admission.burst = admission_flows_per_s, admission_burst
        new.generation = self.shared.generation + 1
        store_relaxed_u32(&self.shared.generation, new.generation)
        fence_release()
        memcpy(&self.shared, &new, sizeof(policy))
        store_release_u32(&self.shared.generation, new.generation + 1)

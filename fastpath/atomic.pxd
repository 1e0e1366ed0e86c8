# F0: gcc's __atomic builtins for words that another thread or process reads or writes at the same time.
# acquire: what the writer did before its release is seen. relaxed: only that the word is never halved.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from * nogil:
    enum:
        __ATOMIC_RELAXED
        __ATOMIC_ACQUIRE
        __ATOMIC_RELEASE
        __ATOMIC_ACQ_REL
        __ATOMIC_SEQ_CST
    uint8_t _load_u8 "__atomic_load_n"(const uint8_t *address, int order)
    void _store_u8 "__atomic_store_n"(uint8_t *address, uint8_t value, int order)
    uint32_t _load_u32 "__atomic_load_n"(const uint32_t *address, int order)
    uint64_t _load_u64 "__atomic_load_n"(const uint64_t *address, int order)
    void _store_u32 "__atomic_store_n"(uint32_t *address, uint32_t value, int order)
    void _store_u64 "__atomic_store_n"(uint64_t *address, uint64_t value, int order)
    void *_load_pointer "__atomic_load_n"(void *const *address, int order)
    void _store_pointer "__atomic_store_n"(void **address, void *value, int order)
    uint32_t _fetch_add_u32 "__atomic_fetch_add"(uint32_t *address, uint32_t value, int order)
    void _fence "__atomic_thread_fence"(int order)


cdef inline uint8_t load_relaxed_u8(const uint8_t *address) noexcept nogil:
    return _load_u8(address, __ATOMIC_RELAXED)


cdef inline void store_release_u8(uint8_t *address, uint8_t value) noexcept nogil:
    _store_u8(address, value, __ATOMIC_RELEASE)


cdef inline uint32_t load_relaxed_u32(const uint32_t *address) noexcept nogil:
    return _load_u32(address, __ATOMIC_RELAXED)


cdef inline uint32_t load_acquire_u32(const uint32_t *address) noexcept nogil:
    return _load_u32(address, __ATOMIC_ACQUIRE)


cdef inline void store_relaxed_u32(uint32_t *address, uint32_t value) noexcept nogil:
    _store_u32(address, value, __ATOMIC_RELAXED)


cdef inline void store_release_u32(uint32_t *address, uint32_t value) noexcept nogil:
    _store_u32(address, value, __ATOMIC_RELEASE)


cdef inline uint64_t load_relaxed_u64(const uint64_t *address) noexcept nogil:
    return _load_u64(address, __ATOMIC_RELAXED)


cdef inline void store_relaxed_u64(uint64_t *address, uint64_t value) noexcept nogil:
    _store_u64(address, value, __ATOMIC_RELAXED)


cdef inline uint64_t load_acquire_u64(const uint64_t *address) noexcept nogil:
    return _load_u64(address, __ATOMIC_ACQUIRE)


cdef inline void store_release_u64(uint64_t *address, uint64_t value) noexcept nogil:
    _store_u64(address, value, __ATOMIC_RELEASE)


cdef inline uint32_t add_u32(uint32_t *address, uint32_t value) noexcept nogil:
    """Adds and gives the new value; orders what stands before and after it."""
    return _fetch_add_u32(address, value, __ATOMIC_ACQ_REL) + value


cdef inline void fence_acquire() noexcept nogil:
    _fence(__ATOMIC_ACQUIRE)


cdef inline void fence_release() noexcept nogil:
    _fence(__ATOMIC_RELEASE)


cdef inline void fence_full() noexcept nogil:
    """What this thread wrote before is seen before it reads on: for two that each write, then look."""
    _fence(__ATOMIC_SEQ_CST)


cdef inline void *load_relaxed_pointer(void *const *address) noexcept nogil:
    return _load_pointer(address, __ATOMIC_RELAXED)


cdef inline void *load_acquire_pointer(void *const *address) noexcept nogil:
    return _load_pointer(address, __ATOMIC_ACQUIRE)


cdef inline void store_release_pointer(void **address, void *value) noexcept nogil:
    _store_pointer(address, value, __ATOMIC_RELEASE)

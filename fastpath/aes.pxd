# F0: AES-128 of one block for reading tokens; aes.h says which implementation is taken when.
from libc.stdint cimport uint8_t

cdef extern from "aes.h" nogil:
    ctypedef struct fp_aes:         # zero it before its first fp_aes_init; one thread uses it
        pass
    int fp_aes_init(fp_aes *aes, const uint8_t *key, int force_library)     # 0; -1: no AES, all is refused
    void fp_aes_decrypt(const fp_aes *aes, const uint8_t *block, uint8_t *out)
    void fp_aes_free(fp_aes *aes)
    const char *fp_aes_kind(const fp_aes *aes)      # "aes-ni", "armv8", "libcrypto", "none"

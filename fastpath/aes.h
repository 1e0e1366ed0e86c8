/* AES-128, one block, inverse cipher (FIPS 197): what reading a token needs.
 *
 * Constant time or not at all: AES-NI or the ARMv8 instructions where the CPU has them (asked at run time,
 * so that one wheel runs everywhere), else libcrypto, whose fallback without them is constant time too.
 * libcrypto is opened only when needed: the relay has no other use for it.
 *
 * An fp_aes must be zeroed before its first fp_aes_init; init again changes the key. One thread uses it.
 */
#ifndef FASTPATH_AES_H
#define FASTPATH_AES_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FP_AES_ROUNDS 10

typedef struct fp_aes {
    uint8_t keys[FP_AES_ROUNDS + 1][16];   /* of the equivalent inverse cipher, in the order of use */
    void (*decrypt)(const struct fp_aes *aes, const uint8_t *in, uint8_t *out);
    const char *kind;                      /* "aes-ni", "armv8", "libcrypto" or "none"              */
    void *context;                         /* libcrypto's cipher with this key                        */
} fp_aes;

/* Nothing authenticates: a plaintext of ones has a tag that is not zero. */
static inline void fp_aes_refuse(const fp_aes *aes, const uint8_t *in, uint8_t *out)
{
    (void)aes;
    (void)in;
    memset(out, 0xff, 16);
}

/* ---- x86-64: AES-NI ----------------------------------------------------------------------------- */
#if defined(__x86_64__)
#include <wmmintrin.h>
#define FP_AES_HARDWARE "aes-ni"
#define FP_AES_TARGET __attribute__((target("aes,sse2")))

static inline int fp_aes_has_hardware(void)
{
    return __builtin_cpu_supports("aes");
}

FP_AES_TARGET static inline void fp_aes_decrypt_hardware(const fp_aes *aes, const uint8_t *in, uint8_t *out)
{
    const __m128i *keys = (const __m128i *)aes->keys;
    __m128i block = _mm_xor_si128(_mm_loadu_si128((const __m128i *)in), _mm_loadu_si128(keys));
    for (int round = 1; round < FP_AES_ROUNDS; round++)
        block = _mm_aesdec_si128(block, _mm_loadu_si128(keys + round));
    _mm_storeu_si128((__m128i *)out, _mm_aesdeclast_si128(block, _mm_loadu_si128(keys + FP_AES_ROUNDS)));
}

/* SubWord of FIPS 197 section 5.2 without a table: keygenassist with constant 0 leaves it in lane 0. */
FP_AES_TARGET static inline uint32_t fp_aes_sub_word(uint32_t word)
{
    return (uint32_t)_mm_cvtsi128_si32(_mm_aeskeygenassist_si128(_mm_set1_epi32((int)word), 0));
}

FP_AES_TARGET static inline void fp_aes_inverse_mix(uint8_t *key)
{
    _mm_storeu_si128((__m128i *)key, _mm_aesimc_si128(_mm_loadu_si128((const __m128i *)key)));
}

/* ---- ARMv8 --------------------------------------------------------------------------------------- */
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#define FP_AES_HARDWARE "armv8"
#define FP_AES_TARGET __attribute__((target("+crypto")))
#define FP_AES_HWCAP (1u << 3)             /* HWCAP_AES of <asm/hwcap.h> */

static inline int fp_aes_has_hardware(void)
{
    return (getauxval(AT_HWCAP) & FP_AES_HWCAP) != 0;
}

FP_AES_TARGET static inline void fp_aes_decrypt_hardware(const fp_aes *aes, const uint8_t *in, uint8_t *out)
{
    uint8x16_t block = vld1q_u8(in);
    for (int round = 0; round < FP_AES_ROUNDS - 1; round++)
        block = vaesimcq_u8(vaesdq_u8(block, vld1q_u8(aes->keys[round])));
    block = vaesdq_u8(block, vld1q_u8(aes->keys[FP_AES_ROUNDS - 1]));
    vst1q_u8(out, veorq_u8(block, vld1q_u8(aes->keys[FP_AES_ROUNDS])));
}

/* Four equal columns: AESE's ShiftRows changes nothing, its SubBytes remains. */
FP_AES_TARGET static inline uint32_t fp_aes_sub_word(uint32_t word)
{
    uint8x16_t columns = vreinterpretq_u8_u32(vdupq_n_u32(word));
    return vgetq_lane_u32(vreinterpretq_u32_u8(vaeseq_u8(columns, vdupq_n_u8(0))), 0);
}

FP_AES_TARGET static inline void fp_aes_inverse_mix(uint8_t *key)
{
    vst1q_u8(key, vaesimcq_u8(vld1q_u8(key)));
}
#endif

#ifdef FP_AES_HARDWARE
/* Key expansion (FIPS 197 section 5.2), then the round keys of the equivalent inverse cipher (5.3.5). */
static inline void fp_aes_expand(fp_aes *aes, const uint8_t *key)
{
    uint32_t words[4 * (FP_AES_ROUNDS + 1)];
    uint32_t constant = 1;
    memcpy(words, key, 16);
    for (int i = 4; i < 4 * (FP_AES_ROUNDS + 1); i++) {
        uint32_t word = words[i - 1];
        if (i % 4 == 0) {                  /* bytes lie little endian: RotWord is a rotation right */
            word = fp_aes_sub_word((word >> 8) | (word << 24)) ^ constant;
            constant = (constant << 1) ^ (constant >> 7) * 0x11b;
        }
        words[i] = words[i - 4] ^ word;
    }
    for (int round = 0; round <= FP_AES_ROUNDS; round++) {
        memcpy(aes->keys[round], words + 4 * (FP_AES_ROUNDS - round), 16);
        if (round != 0 && round != FP_AES_ROUNDS)
            fp_aes_inverse_mix(aes->keys[round]);
    }
    memset(words, 0, sizeof(words));
}
#endif

/* ---- libcrypto ----------------------------------------------------------------------------------- */
typedef struct {
    void *(*context_new)(void);
    void (*context_free)(void *);
    const void *(*aes_128_ecb)(void);
    int (*decrypt_init)(void *, const void *, void *, const unsigned char *, const unsigned char *);
    int (*set_padding)(void *, int);
    int (*decrypt_update)(void *, unsigned char *, int *, const unsigned char *, int);
} fp_libcrypto;

/* Fills `library`; 0, or -1 when no libcrypto is installed. The handle stays open for the process's life. */
static inline int fp_libcrypto_open(fp_libcrypto *library)
{
    static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so"};
    void *handle = NULL;
    for (size_t i = 0; handle == NULL && i < sizeof(names) / sizeof(names[0]); i++)
        handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return -1;
    *(void **)&library->context_new = dlsym(handle, "EVP_CIPHER_CTX_new");
    *(void **)&library->context_free = dlsym(handle, "EVP_CIPHER_CTX_free");
    *(void **)&library->aes_128_ecb = dlsym(handle, "EVP_aes_128_ecb");
    *(void **)&library->decrypt_init = dlsym(handle, "EVP_DecryptInit_ex");
    *(void **)&library->set_padding = dlsym(handle, "EVP_CIPHER_CTX_set_padding");
    *(void **)&library->decrypt_update = dlsym(handle, "EVP_DecryptUpdate");
    return library->context_new && library->context_free && library->aes_128_ecb && library->decrypt_init &&
           library->set_padding && library->decrypt_update ? 0 : -1;
}

typedef struct { fp_libcrypto library; void *cipher; } fp_aes_context;

static inline void fp_aes_decrypt_library(const fp_aes *aes, const uint8_t *in, uint8_t *out)
{
    fp_aes_context *context = (fp_aes_context *)aes->context;
    int written = 0;
    if (context->library.decrypt_update(context->cipher, out, &written, in, 16) != 1 || written != 16)
        fp_aes_refuse(aes, in, out);
}

static inline void fp_aes_free(fp_aes *aes)
{
    fp_aes_context *context = (fp_aes_context *)aes->context;
    if (context != NULL) {
        if (context->cipher != NULL)
            context->library.context_free(context->cipher);
        free(context);
    }
    memset(aes, 0, sizeof(*aes));
    aes->decrypt = fp_aes_refuse;
    aes->kind = "none";
}

static inline int fp_aes_init_library(fp_aes *aes, const uint8_t *key)
{
    fp_aes_context *context = (fp_aes_context *)calloc(1, sizeof(fp_aes_context));
    if (context == NULL)
        return -1;
    aes->context = context;
    if (fp_libcrypto_open(&context->library) == 0)
        context->cipher = context->library.context_new();
    if (context->cipher == NULL ||
        context->library.decrypt_init(context->cipher, context->library.aes_128_ecb(), NULL, key, NULL) != 1 ||
        context->library.set_padding(context->cipher, 0) != 1) {
        fp_aes_free(aes);
        return -1;
    }
    aes->decrypt = fp_aes_decrypt_library;
    aes->kind = "libcrypto";
    return 0;
}

/* 0, or -1: neither the CPU nor the system has AES, and every token will be refused. */
static inline int fp_aes_init(fp_aes *aes, const uint8_t *key, int force_library)
{
    fp_aes_free(aes);
#ifdef FP_AES_HARDWARE
    if (!force_library && fp_aes_has_hardware()) {
        fp_aes_expand(aes, key);
        aes->decrypt = fp_aes_decrypt_hardware;
        aes->kind = FP_AES_HARDWARE;
        return 0;
    }
#else
    (void)force_library;
#endif
    return fp_aes_init_library(aes, key);
}

static inline void fp_aes_decrypt(const fp_aes *aes, const uint8_t *in, uint8_t *out)
{
    aes->decrypt(aes, in, out);
}

static inline const char *fp_aes_kind(const fp_aes *aes)
{
    return aes->kind;
}

#endif

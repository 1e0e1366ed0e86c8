/* Tells libFuzzer which blocks of a module an input reached. Stands in front of every module of the profile
 * `fuzz` (setup.py).
 *
 * gcc calls __sanitizer_cov_trace_pc in each block. libFuzzer, made for clang, wants a table of 8-bit counters
 * and one of (address, flags): each module has its own, and only its own. */
#define _GNU_SOURCE 1 /* as Python.h, which comes too late: before the first system header */
#include <stdint.h>

#define UNTRACED __attribute__((visibility("hidden"), no_sanitize_coverage, no_sanitize("address", "undefined")))

enum { COVERAGE_BLOCKS = 1 << 14 };

static uint8_t coverage_hits[COVERAGE_BLOCKS];
static uintptr_t coverage_places[COVERAGE_BLOCKS][2];

void __sanitizer_cov_8bit_counters_init(uint8_t *begin, uint8_t *end);
void __sanitizer_cov_pcs_init(const uintptr_t *begin, const uintptr_t *end);

__attribute__((constructor)) UNTRACED void coverage_register(void) {
    __sanitizer_cov_8bit_counters_init(coverage_hits, coverage_hits + COVERAGE_BLOCKS);
    __sanitizer_cov_pcs_init(coverage_places[0], coverage_places[COVERAGE_BLOCKS]);
}

UNTRACED void __sanitizer_cov_trace_pc(void) {
    uintptr_t place = (uintptr_t)__builtin_return_address(0);
    /* Counted from the module's own memory, a block has the same number wherever it was loaded. */
    uint32_t block = (uint32_t)(place - (uintptr_t)coverage_hits) * 2654435761u >> 18;
    coverage_places[block][0] = place;
    coverage_hits[block]++;
}

/* libFuzzer learns from compared integers, not from these. */
UNTRACED void __sanitizer_cov_trace_cmpf(float a, float b) { (void)a, (void)b; }
UNTRACED void __sanitizer_cov_trace_cmpd(double a, double b) { (void)a, (void)b; }

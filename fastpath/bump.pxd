# Beside the data plane: regions of another layout, so that tests can see an upgrade carry flows over.
#
# Only in builds with C asserts (debug, asan). FASTPATH_LAYOUT_BUMP=N raises the layout version by N and moves
# every table by N pages. In release it is 0 and the name of the variable is not in the binary.
from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #ifdef NDEBUG
    static inline uint32_t fp_layout_bump(void) { return 0; }
    #else
    #include <stdlib.h>
    static inline uint32_t fp_layout_bump(void) {
        const char *wish = getenv("FASTPATH_LAYOUT_BUMP");
        return wish ? (uint32_t)atoi(wish) : 0;
    }
    #endif
    """
    uint32_t fp_layout_bump() noexcept nogil

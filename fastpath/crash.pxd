# Beside the data plane: an engine that dies where a test tells it to.
#
# Only in builds with C asserts (debug, asan). FASTPATH_CRASH names a file that may appear at any time, with
# "POINT COUNT" in it: whoever passes POINT next takes it away, and kills the engine (SIGKILL) when that point
# is passed for the COUNTth time. In release every point is empty and the name of the variable is not in the
# binary.
cdef extern from *:
    """
    #define FP_CRASH_POINTS(X) \
        X(received) X(decided) X(sending) X(sent) X(settled) X(flushing) X(flushed) X(publishing) \
        X(flow_opened) X(flow_filled) X(flow_published) X(flow_doubled) X(provisional_filled) \
        X(port_filled) X(route_filled) X(route_doubled)
    #define FP_X(name) FP_AT_##name,
    enum { FP_CRASH_POINTS(FP_X) FP_AT_COUNT };
    #undef FP_X
    #ifdef NDEBUG
    static inline void crash_point(int point) { (void)point; }
    #else
    #include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    static int fp_crash_at = -1;
    static long fp_crash_in, fp_crash_passed[FP_AT_COUNT];
    static void fp_crash_look(const char *path, int point) {
        #define FP_X(name) #name,
        static const char *const names[] = { FP_CRASH_POINTS(FP_X) };
        #undef FP_X
        char name[32];
        long count;
        FILE *file = fopen(path, "r");
        if (!file) return;
        if (fscanf(file, "%31s %ld", name, &count) == 2 && !strcmp(name, names[point]) && !unlink(path)) {
            fp_crash_in = count;
            fp_crash_at = point;
        }
        fclose(file);
    }
    static inline void crash_point(int point) {
        const char *path = getenv("FASTPATH_CRASH");
        if (!path) return;
        if (point != fp_crash_at && fp_crash_passed[point]++ % 8 == 0) fp_crash_look(path, point);
        if (point == fp_crash_at && --fp_crash_in == 0) kill(getpid(), SIGKILL);
    }
    #endif
    """
    enum: FP_AT_received            # a batch lies in shared memory, nothing is decided
    enum: FP_AT_decided             # verdicts are made, nothing is sent
    enum: FP_AT_sending             # a send is composed
    enum: FP_AT_sent                # it has left, and the batch does not know yet
    enum: FP_AT_settled             # the batch knows
    enum: FP_AT_flushing            # the same towards clients
    enum: FP_AT_flushed
    enum: FP_AT_publishing          # the counters' seqlock is odd
    enum: FP_AT_flow_opened         # a flow's seqlock is odd, its fields are the old ones
    enum: FP_AT_flow_filled         # the same with the new fields
    enum: FP_AT_flow_published      # it stands, and is not counted
    enum: FP_AT_flow_doubled        # it stands beside the one it replaces
    enum: FP_AT_provisional_filled  # an entry is filled and free
    enum: FP_AT_port_filled         # a pair of port and address is filled and free
    enum: FP_AT_route_filled        # a route is filled and empty
    enum: FP_AT_route_doubled       # the new route stands beside the one it replaces
    void crash_point(int point) noexcept nogil

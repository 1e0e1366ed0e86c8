/* Makes system calls of a real daemon fail to order; preloaded (LD_PRELOAD), told by a shared file.
 *
 * One rule a call: let `skip` calls pass; carry only `messages` messages in one that has more, as the kernel
 * does when it meets an error in the middle; then fail `times` calls with `error`. Only calls on a socket
 * bound to local port `port` count, unless that is 0, and only sends of at least `bytes` bytes: smaller are
 * the relay's own pings, which come when they want. The wall clock is shifted by `clock_offset_ns`.
 * tests/support/faults.py is the other end: the layout of both must be the same.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SENDMMSG, SENDTO, SENDMSG, SEND, RECVMMSG, RECVFROM, RECVMSG, RECV, EPOLL_PWAIT2, CONNECT, CALLS };

struct rule {
    int64_t skip, messages, times, error, port, bytes;
    int64_t failed;                 /* calls this rule has failed, ever */
    int64_t cut;                    /* calls it has cut short, ever */
};

struct control {
    int64_t clock_offset_ns;
    struct rule rules[CALLS];
};

static struct control *control;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("FASTPATH_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        control = memory;
}

static int port_of(int fd)
{
    struct sockaddr_in6 name;       /* the port of an IPv4 address stands in the same place */
    socklen_t length = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &length) ? 0 : ntohs(name.sin6_port);
}

static int64_t take_one(int64_t *left)
{
    int64_t now = __atomic_load_n(left, __ATOMIC_ACQUIRE);
    while (now > 0 && !__atomic_compare_exchange_n(left, &now, now - 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
    return now > 0;
}

static size_t bytes_of(const struct msghdr *message)
{
    size_t bytes = 0, i;
    for (i = 0; i < message->msg_iovlen; i++)
        bytes += message->msg_iov[i].iov_len;
    return bytes;
}

/* How many of `count` messages may pass; -1: none, the call fails and errno is set. */
static int64_t allowed(int call, int fd, int64_t count, size_t bytes)
{
    struct rule *rule = control ? &control->rules[call] : NULL;
    int64_t messages;
    if (!rule || __atomic_load_n(&rule->times, __ATOMIC_ACQUIRE) <= 0)
        return count;
    if ((rule->port && rule->port != port_of(fd)) || (int64_t)bytes < rule->bytes)
        return count;
    if (take_one(&rule->skip))
        return count;
    messages = __atomic_load_n(&rule->messages, __ATOMIC_ACQUIRE);
    if (messages > 0 && count <= messages)
        return count;               /* too short to be cut: the rule waits for a longer one */
    if (messages > 0 && __atomic_exchange_n(&rule->messages, 0, __ATOMIC_ACQ_REL) > 0) {
        __atomic_add_fetch(&rule->cut, 1, __ATOMIC_ACQ_REL);
        return messages;
    }
    if (!take_one(&rule->times))
        return count;
    __atomic_add_fetch(&rule->failed, 1, __ATOMIC_ACQ_REL);
    errno = (int)rule->error;
    return -1;
}

#define ANY (SIZE_MAX >> 1)          /* no send: its length does not matter */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PASS_ON(call, name, fd, bytes, ...)         \
    static __typeof__(&name) real;                  \
    if (!real)                                      \
        real = REAL(name);                          \
    return allowed(call, fd, 1, bytes) < 0 ? -1 : real(__VA_ARGS__)

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    static __typeof__(&sendmmsg) real;
    int64_t pass = allowed(SENDMMSG, fd, count, bytes_of(&messages->msg_hdr));
    if (!real)
        real = REAL(sendmmsg);
    return pass < 0 ? -1 : real(fd, messages, (unsigned)pass, flags);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    static __typeof__(&recvmmsg) real;
    int64_t pass = allowed(RECVMMSG, fd, count, ANY);
    if (!real)
        real = REAL(recvmmsg);
    return pass < 0 ? -1 : real(fd, messages, (unsigned)pass, flags, timeout);
}

ssize_t sendto(int fd, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t to_length)
{
    PASS_ON(SENDTO, sendto, fd, length, fd, data, length, flags, to, to_length);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    PASS_ON(SENDMSG, sendmsg, fd, bytes_of(message), fd, message, flags);
}

ssize_t send(int fd, const void *data, size_t length, int flags)
{
    PASS_ON(SEND, send, fd, length, fd, data, length, flags);
}

ssize_t recvfrom(int fd, void *data, size_t length, int flags, struct sockaddr *from, socklen_t *from_length)
{
    PASS_ON(RECVFROM, recvfrom, fd, ANY, fd, data, length, flags, from, from_length);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    PASS_ON(RECVMSG, recvmsg, fd, ANY, fd, message, flags);
}

ssize_t recv(int fd, void *data, size_t length, int flags)
{
    PASS_ON(RECV, recv, fd, ANY, fd, data, length, flags);
}

int epoll_pwait2(int fd, struct epoll_event *events, int count, const struct timespec *timeout, const sigset_t *mask)
{
    PASS_ON(EPOLL_PWAIT2, epoll_pwait2, fd, ANY, fd, events, count, timeout, mask);
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    PASS_ON(CONNECT, connect, fd, ANY, fd, address, length);
}

/* ---- the wall clock -------------------------------------------------------------------------------- */

static int64_t shift_ns(void)
{
    return control ? __atomic_load_n(&control->clock_offset_ns, __ATOMIC_ACQUIRE) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    static __typeof__(&clock_gettime) real;
    int failed;
    int64_t ns;
    if (!real)
        real = REAL(clock_gettime);
    failed = real(clock, out);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        ns = out->tv_sec * INT64_C(1000000000) + out->tv_nsec + shift_ns();
        out->tv_sec = ns / 1000000000;
        out->tv_nsec = ns % 1000000000;
    }
    return failed;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

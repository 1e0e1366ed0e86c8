/* What the C forwarders share: command line, routes, STUN, the table of flows, batches, sockets.
 *
 * They are the limit of a technique each, not rivals: one thread, no state machine, no expiry, no counters, no
 * check of who answers. They route by the server ufrag of a client's first Binding Request, as all peers do.
 */
#ifndef FORWARDER_H
#define FORWARDER_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, DATAGRAM_BYTES = 2048, SLOTS = 1 << 18, UFRAG_BYTES = 64, STUN_HEADER_BYTES = 20 };

typedef struct { struct sockaddr_in client; int upstream; int used; } flow;
typedef struct { char ufrag[UFRAG_BYTES]; struct sockaddr_in backend; } route;
typedef struct {
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    struct sockaddr_in names[BATCH];
    uint8_t data[BATCH][DATAGRAM_BYTES];
} batch;

/* Opens a new flow's way to its backend; the socket that leads there. */
typedef int (*open_way)(const struct sockaddr_in *backend, flow *f);

static flow *flows;                     /* open addressing by client address and port */
static route *routes;
static size_t routes_count;
static struct sockaddr_in listen_at;
static int coalesce_us, buffer_bytes = 16 << 20, epoll;

static inline _Noreturn void fail(const char *what) { perror(what); exit(1); }

static inline _Noreturn void refuse(const char *why, const char *what)
{
    fprintf(stderr, "%s: %s\n", why, what);
    exit(2);
}

/* ---- command line and routes -------------------------------------------------------------------- */
static inline struct sockaddr_in parse_address(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof host) refuse("not ip:port", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) refuse("not an IPv4 address", host);
    return address;
}

static inline int by_ufrag(const void *a, const void *b)
{
    return strcmp(((const route *)a)->ufrag, ((const route *)b)->ufrag);
}

static inline void read_routes(const char *path)
{
    FILE *file = fopen(path, "r");
    char address[64];
    if (file == NULL) fail(path);
    for (;;) {
        if (routes_count % 1024 == 0) routes = realloc(routes, (routes_count + 1024) * sizeof *routes);
        if (routes == NULL) fail("routes");
        if (fscanf(file, "%63s %63s", routes[routes_count].ufrag, address) != 2) break;
        routes[routes_count++].backend = parse_address(address);
    }
    fclose(file);
    qsort(routes, routes_count, sizeof *routes, by_ufrag);
}

/* Takes the options all of them have; `take_own` is asked about the others and says 0 to what it does not know. */
static inline void read_options(int count, char **arguments, int (*take_own)(const char *name, const char *value))
{
    for (int i = 1; i < count; i++) {
        char *name = arguments[i], *value = strchr(name, '=');
        if (value == NULL) refuse("an option is --name=value", name);
        *value++ = 0;
        if (!strcmp(name, "--listen")) listen_at = parse_address(value);
        else if (!strcmp(name, "--routes")) read_routes(value);
        else if (!strcmp(name, "--coalesce-us")) coalesce_us = atoi(value);
        else if (!strcmp(name, "--buffer")) buffer_bytes = atoi(value);
        else if (take_own == NULL || !take_own(name, value)) refuse("unknown option", name);
    }
    if (listen_at.sin_family == 0) refuse("missing option", "--listen=ip:port");
    if (routes_count == 0) refuse("missing option", "--routes=FILE of lines `UFRAG ip:port`");
}

/* ---- flows -------------------------------------------------------------------------------------- */
/* The server ufrag of a Binding Request (RFC 8489 sections 5 and 14.3) as a text; 0 when there is none. */
static inline int server_ufrag(const uint8_t *data, size_t length, char *out)
{
    size_t at = STUN_HEADER_BYTES, size;
    if (length < STUN_HEADER_BYTES || data[0] != 0 || data[1] != 1 || memcmp(data + 4, "\x21\x12\xa4\x42", 4) != 0)
        return 0;
    for (; at + 4 <= length; at += 4 + ((size + 3) & ~(size_t)3)) {
        size = (size_t)data[at + 2] << 8 | data[at + 3];
        if (at + 4 + size > length) return 0;
        if (data[at] == 0 && data[at + 1] == 6) {
            const uint8_t *colon = memchr(data + at + 4, ':', size);
            if (colon == NULL || colon - (data + at + 4) >= UFRAG_BYTES) return 0;
            memcpy(out, data + at + 4, (size_t)(colon - (data + at + 4)));
            out[colon - (data + at + 4)] = 0;
            return 1;
        }
    }
    return 0;
}

static __attribute__((noinline)) flow *open_flow(flow *free_slot, const struct sockaddr_in *client,
                                                 const uint8_t *data, size_t length, open_way way)
{
    route wanted, *found;
    if (!server_ufrag(data, length, wanted.ufrag)) return NULL;
    found = bsearch(&wanted, routes, routes_count, sizeof *routes, by_ufrag);
    if (found == NULL) return NULL;
    free_slot->client = *client;
    free_slot->used = 1;
    free_slot->upstream = way(&found->backend, free_slot);
    return free_slot;
}

/* The flow of a client; a new one when the datagram is a Binding Request with a routed ufrag; else NULL. */
static inline flow *find_flow(const struct sockaddr_in *client, const uint8_t *data, size_t length, open_way way)
{
    uint64_t key = (uint64_t)client->sin_addr.s_addr << 16 | client->sin_port;
    size_t slot = (key * 0x9e3779b97f4a7c15u) >> 46;
    for (; flows[slot].used; slot = (slot + 1) % SLOTS)
        if (flows[slot].client.sin_addr.s_addr == client->sin_addr.s_addr &&
            flows[slot].client.sin_port == client->sin_port)
            return &flows[slot];
    return open_flow(&flows[slot], client, data, length, way);
}

/* ---- sockets ------------------------------------------------------------------------------------ */
static inline void watch(int fd, void *owner)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

static inline int open_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0) fail("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    return fd;
}

static inline int open_upstream(const struct sockaddr_in *backend, void *owner)
{
    int fd = open_socket();
    if (connect(fd, (const struct sockaddr *)backend, sizeof *backend) < 0) fail("connect");
    watch(fd, owner);
    return fd;
}

/* Makes the table, the epoll set and the clients' socket, which is watched under `owner`. */
static inline int start(void *owner)
{
    int clients;
    flows = calloc(SLOTS, sizeof *flows);
    epoll = epoll_create1(0);
    if (flows == NULL || epoll < 0) fail("start");
    clients = open_socket();
    if (bind(clients, (struct sockaddr *)&listen_at, sizeof listen_at) < 0) fail("bind");
    watch(clients, owner);
    printf("ready\n");
    fflush(stdout);
    return clients;
}

/* After a turn: the waiting budget lets the next batches fill. Who has a full one goes on at once. */
static inline void rest(int full)
{
    struct timespec nap = {0, coalesce_us * 1000L};
    if (coalesce_us && !full) nanosleep(&nap, NULL);
}

/* ---- batches ------------------------------------------------------------------------------------ */
static inline void prepare(batch *b)
{
    for (int i = 0; i < BATCH; i++) {
        b->vectors[i] = (struct iovec){b->data[i], DATAGRAM_BYTES};
        b->messages[i].msg_hdr.msg_iov = &b->vectors[i];
        b->messages[i].msg_hdr.msg_iovlen = 1;
        b->messages[i].msg_hdr.msg_name = &b->names[i];
        b->messages[i].msg_hdr.msg_namelen = sizeof b->names[i];
    }
}

/* Receives into the places from `first` on; how many came. IPv4 names keep their length: nothing to set anew. */
static inline int receive_batch(batch *b, int first, int fd)
{
    int count = recvmmsg(fd, b->messages + first, (unsigned)(BATCH - first), MSG_DONTWAIT, NULL);
    return count > 0 ? count : 0;
}

/* Place `at` of a batch that is sent: `length` bytes at `data` to `to`, NULL on a connected socket. */
static inline void put(batch *b, int at, void *data, size_t length, struct sockaddr_in *to)
{
    b->vectors[at] = (struct iovec){data, length};
    b->messages[at].msg_hdr.msg_name = to;
    b->messages[at].msg_hdr.msg_namelen = to ? sizeof *to : 0;
}

/* A message the kernel refuses is skipped: the next may be welcome. */
static inline void send_batch(batch *b, int count, int fd)
{
    for (int sent = 0, taken; sent < count; sent += taken > 0 ? taken : 1)
        taken = sendmmsg(fd, b->messages + sent, (unsigned)(count - sent), 0);
}

#endif

/* The limit of recvmmsg/sendmmsg: a minimal C forwarder, batches of 64, one thread, no state machine.
 *
 *   flow    one connected upstream socket a flow, as every NAT and every plain-mode relay needs it. Batches
 *           come in by recvmmsg and go down by sendmmsg; upwards each flow has a socket, hence a call, of its own.
 *   shared  one upstream socket for all flows, sendmmsg both ways. No real relay can be built so without a
 *           header: it finds the client of a reply by the flow number that OUR generator writes into the SSRC
 *           of every probe and into the first word of every transaction id. It is a bound, not a rival.
 *
 * It routes by the server ufrag of a client's first STUN Binding Request like the other reference relays.
 *
 *   c_mmsg --listen=127.0.0.1:3478 --routes=FILE [--sockets=flow|shared] [--coalesce-us=N] [--buffer=BYTES]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, DATAGRAM_BYTES = 2048, SLOTS = 1 << 18, UFRAG_BYTES = 64 };

typedef struct { struct sockaddr_in client; int upstream; uint32_t used; } flow;
typedef struct { char ufrag[UFRAG_BYTES]; struct sockaddr_in backend; } route;
typedef struct {
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    struct sockaddr_in names[BATCH];
    uint8_t data[BATCH][DATAGRAM_BYTES];
} batch;

static flow *flows;                     /* open addressing by client address and port */
static flow **by_number;                /* shared: the flow of each flow number */
static route *routes;
static size_t routes_count;
static int clients, shared_upstream = -1, epoll, buffer_bytes = 16 << 20;
static batch incoming, outgoing;

static _Noreturn void fail(const char *what) { perror(what); exit(1); }

static _Noreturn void refuse(const char *why, const char *what)
{
    fprintf(stderr, "c_mmsg: %s: %s\n", why, what);
    exit(2);
}

static struct sockaddr_in parse_address(const char *text)
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

static int by_ufrag(const void *a, const void *b)
{
    return strcmp(((const route *)a)->ufrag, ((const route *)b)->ufrag);
}

static void read_routes(const char *path)
{
    FILE *file = fopen(path, "r");
    char address[64];
    if (file == NULL) fail(path);
    for (;;) {
        if (routes_count % 1024 == 0) routes = realloc(routes, (routes_count + 1024) * sizeof *routes);
        if (fscanf(file, "%63s %63s", routes[routes_count].ufrag, address) != 2) break;
        routes[routes_count++].backend = parse_address(address);
    }
    fclose(file);
    qsort(routes, routes_count, sizeof *routes, by_ufrag);
}

/* The server ufrag of a Binding Request (RFC 8489 sections 5 and 14.3) as a text; 0 when there is none. */
static int server_ufrag(const uint8_t *data, size_t length, char *out)
{
    size_t at = 20, size;
    if (length < 20 || data[0] != 0 || data[1] != 1 || memcmp(data + 4, "\x21\x12\xa4\x42", 4) != 0) return 0;
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

static void watch(int fd, void *owner)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

static int open_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0) fail("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    return fd;
}

static int open_upstream(const struct sockaddr_in *backend, void *owner)
{
    int fd = open_socket();
    if (connect(fd, (const struct sockaddr *)backend, sizeof *backend) < 0) fail("connect");
    watch(fd, owner);
    return fd;
}

/* The number our generator gives a flow: SSRC of a probe, first word of a transaction id. */
static uint32_t flow_number(const uint8_t *data)
{
    uint32_t number;
    memcpy(&number, data + 8, 4);
    return number % SLOTS;
}

static flow *find_flow(const struct sockaddr_in *client, const uint8_t *data, size_t length, int shared)
{
    uint64_t key = (uint64_t)client->sin_addr.s_addr << 16 | client->sin_port;
    size_t slot = (key * 0x9e3779b97f4a7c15u) >> 46;
    char ufrag[UFRAG_BYTES];
    route wanted, *found;
    for (; flows[slot].used; slot = (slot + 1) % SLOTS)
        if (flows[slot].client.sin_addr.s_addr == client->sin_addr.s_addr &&
            flows[slot].client.sin_port == client->sin_port)
            return &flows[slot];
    if (!server_ufrag(data, length, ufrag)) return NULL;
    strcpy(wanted.ufrag, ufrag);
    found = bsearch(&wanted, routes, routes_count, sizeof *routes, by_ufrag);
    if (found == NULL) return NULL;
    if (shared && shared_upstream < 0) shared_upstream = open_upstream(&found->backend, &shared_upstream);
    flows[slot].client = *client;
    flows[slot].upstream = shared ? shared_upstream : open_upstream(&found->backend, &flows[slot]);
    flows[slot].used = 1;
    by_number[flow_number(data)] = &flows[slot];
    return &flows[slot];
}

static void send_batch(int fd, int count)
{
    for (int sent = 0, taken; sent < count; sent += taken > 0 ? taken : 1)
        taken = sendmmsg(fd, outgoing.messages + sent, (unsigned)(count - sent), 0);
}

static int receive_batch(int fd)
{
    for (int i = 0; i < BATCH; i++) incoming.messages[i].msg_hdr.msg_namelen = sizeof incoming.names[i];
    return recvmmsg(fd, incoming.messages, BATCH, MSG_DONTWAIT, NULL);
}

static void put(int place, int i, struct sockaddr_in *name)
{
    outgoing.vectors[place] = (struct iovec){incoming.data[i], incoming.messages[i].msg_len};
    outgoing.messages[place].msg_hdr.msg_name = name;
    outgoing.messages[place].msg_hdr.msg_namelen = name ? sizeof *name : 0;
}

static int forward_up(int shared)
{
    int count = receive_batch(clients), waiting = 0;
    for (int i = 0; i < count; i++) {
        flow *f = find_flow(&incoming.names[i], incoming.data[i], incoming.messages[i].msg_len, shared);
        if (f == NULL) continue;
        if (shared) put(waiting++, i, NULL);
        else (void)!send(f->upstream, incoming.data[i], incoming.messages[i].msg_len, 0);
    }
    send_batch(shared_upstream, waiting);
    return count;
}

static int forward_down(int fd, flow *owner)
{
    int count = receive_batch(fd), waiting = 0;
    for (int i = 0; i < count; i++) {
        flow *f = owner;
        if (f == NULL && incoming.messages[i].msg_len >= 12) f = by_number[flow_number(incoming.data[i])];
        if (f != NULL) put(waiting++, i, &f->client);
    }
    send_batch(clients, waiting);
    return count;
}

static void prepare(batch *b, int names)
{
    for (int i = 0; i < BATCH; i++) {
        b->vectors[i] = (struct iovec){b->data[i], DATAGRAM_BYTES};
        b->messages[i].msg_hdr.msg_iov = &b->vectors[i];
        b->messages[i].msg_hdr.msg_iovlen = 1;
        if (names) b->messages[i].msg_hdr.msg_name = &b->names[i];
    }
}

static _Noreturn void serve(int shared, int coalesce_us)
{
    struct epoll_event events[BATCH];
    struct timespec nap = {0, coalesce_us * 1000L};
    for (;;) {
        int ready = epoll_wait(epoll, events, BATCH, -1), full = 0;
        for (int i = 0; i < ready; i++) {
            void *owner = events[i].data.ptr;
            if (owner == &clients) full |= forward_up(shared) == BATCH;
            else if (owner == &shared_upstream) full |= forward_down(shared_upstream, NULL) == BATCH;
            else forward_down(((flow *)owner)->upstream, owner);
        }
        if (coalesce_us && !full) nanosleep(&nap, NULL);
    }
}

int main(int count, char **arguments)
{
    struct sockaddr_in listen = parse_address("127.0.0.1:3478");
    int shared = 0, coalesce_us = 0;
    for (int i = 1; i < count; i++) {
        char *name = arguments[i], *value = strchr(name, '=');
        if (value == NULL) refuse("an option is --name=value", name);
        *value++ = 0;
        if (!strcmp(name, "--listen")) listen = parse_address(value);
        else if (!strcmp(name, "--routes")) read_routes(value);
        else if (!strcmp(name, "--sockets")) shared = !strcmp(value, "shared");
        else if (!strcmp(name, "--coalesce-us")) coalesce_us = atoi(value);
        else if (!strcmp(name, "--buffer")) buffer_bytes = atoi(value);
        else refuse("unknown option", name);
    }
    flows = calloc(SLOTS, sizeof *flows);
    by_number = calloc(SLOTS, sizeof *by_number);
    epoll = epoll_create1(0);
    if (flows == NULL || by_number == NULL || epoll < 0) fail("start");
    clients = open_socket();
    if (bind(clients, (struct sockaddr *)&listen, sizeof listen) < 0) fail("bind");
    watch(clients, &clients);
    prepare(&incoming, 1);
    prepare(&outgoing, 0);
    printf("ready\n");
    fflush(stdout);
    serve(shared, coalesce_us);
}

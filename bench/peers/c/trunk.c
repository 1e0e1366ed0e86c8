/* The limit of our own technique: one upstream socket for all flows, trunk FT1, UDP_SEGMENT and UDP_GRO.
 *
 *   bundle  records of many clients share a datagram of at most --mtu bytes, datagrams of one size share a sendmsg
 *   run     a datagram for each record, datagrams of one size share a sendmsg: bare GSO
 *
 * It speaks what our relay speaks (fastpath/trunk.pxd), untagged, so that the same sink answers it: a record of length,
 * flags, client port and address before each payload, a header of epoch and sequence before the records of a datagram.
 * It checks nothing: no flow of a reply, no replay, no state records, no pings. All routes lead to one backend.
 *
 *   c_trunk --listen=127.0.0.1:3478 --routes=FILE [--mode=bundle|run] [--coalesce-us=N] [--mtu=1400] [--buffer=BYTES]
 */
#include "forwarder.h"
#include <netinet/udp.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

enum {
    HEADER_BYTES = 12, RECORD_BYTES = 10, CONTROL = 0x10, IPV6 = 0x04,      /* FT1 */
    RUN_BYTES = 65000,                  /* of one sendmsg with UDP_SEGMENT */
    WASTE_DIVISOR = 20,                 /* padding up to 1/20 of a datagram keeps its run together */
    TRUNK_BATCH = 16, TRUNK_BYTES = 65536,
    CONTROL_BYTES = 64,
};

typedef struct { int first, records; size_t length; } segment;

static int clients, upstream = -1, bundled = 1;
static size_t mtu_bytes = 1400;
static uint32_t epoch, sequence;
static batch incoming, outgoing;        /* of clients, to clients */
static int waiting;                     /* in `outgoing` */
static uint8_t run[RUN_BYTES + 4096];
static struct {
    struct mmsghdr messages[TRUNK_BATCH];
    struct iovec vectors[TRUNK_BATCH];
    uint8_t control[TRUNK_BATCH][CONTROL_BYTES];
    uint8_t data[TRUNK_BATCH][TRUNK_BYTES];
} trunk;

static int open_trunk(const struct sockaddr_in *backend, flow *f)
{
    int on = 1;
    (void)f;
    if (upstream >= 0) return upstream;
    upstream = open_upstream(backend, &upstream);
    if (setsockopt(upstream, IPPROTO_UDP, UDP_GRO, &on, sizeof on) < 0) fail("UDP_GRO");
    return upstream;
}

static uint8_t *write_u32(uint8_t *out, uint32_t value)
{
    value = htonl(value);
    memcpy(out, &value, 4);
    return out + 4;
}

/* ---- up ----------------------------------------------------------------------------------------- */
/* Which records share a datagram: as many as --mtu lets. Returns how many datagrams; `order` names the places in
 * `incoming` that hold a routed datagram. */
static int plan(const int *order, int count, segment *out)
{
    int planned = 0;
    for (int i = 0; i < count; i++) {
        size_t bytes = RECORD_BYTES + incoming.messages[order[i]].msg_len;
        if (bundled && planned && out[planned - 1].length + bytes <= mtu_bytes) {
            out[planned - 1].length += bytes;
            out[planned - 1].records++;
        } else {
            out[planned++] = (segment){i, 1, HEADER_BYTES + bytes};
        }
    }
    return planned;
}

/* The longest segment that --mtu lets into a run. */
static size_t widest_of(const segment *segments, int count)
{
    size_t widest = 0;
    for (int i = 0; i < count; i++)
        if (segments[i].length > widest && segments[i].length <= mtu_bytes) widest = segments[i].length;
    return widest;
}

/* How many of the next segments one run takes: all but the last nearly as long as the widest. */
static int members_of(const segment *segments, int count, size_t widest)
{
    int members = 0;
    while (members < count && segments[members].length <= widest && (members + 1) * widest <= RUN_BYTES) {
        members++;
        if ((widest - segments[members - 1].length) * WASTE_DIVISOR > widest) break;
    }
    return members ? members : 1;
}

static uint8_t *write_segment(uint8_t *out, const int *order, const segment *s)
{
    memcpy(out, "FT\1\0", 4);
    out = write_u32(write_u32(out + 4, epoch), sequence++);
    for (int i = s->first; i < s->first + s->records; i++) {
        size_t length = incoming.messages[order[i]].msg_len;
        const struct sockaddr_in *client = &incoming.names[order[i]];
        out[0] = (uint8_t)(length >> 8);
        out[1] = (uint8_t)length;
        out[2] = out[3] = 0;            /* flags, ingress: not used here */
        memcpy(out + 4, &client->sin_port, 2);
        memcpy(out + 6, &client->sin_addr, 4);
        memcpy(out + RECORD_BYTES, incoming.data[order[i]], length);
        out += RECORD_BYTES + length;
    }
    return out;
}

static void send_run(const int *order, const segment *segments, int members, size_t segment_bytes)
{
    uint8_t control[CMSG_SPACE(sizeof(uint16_t))] __attribute__((aligned(8)));
    struct iovec vector = {run, 0};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    uint16_t size = (uint16_t)segment_bytes;
    uint8_t *end = run;
    for (int i = 0; i < members; i++) {
        uint8_t *padded = end + segment_bytes;
        end = write_segment(end, order, &segments[i]);
        if (i < members - 1) {          /* zeros are padding to the end */
            memset(end, 0, (size_t)(padded - end));
            end = padded;
        }
    }
    vector.iov_len = (size_t)(end - run);
    if (members > 1) {
        struct cmsghdr *header;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = IPPROTO_UDP;
        header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(header), &size, sizeof size);
    }
    (void)!sendmsg(upstream, &message, 0);
}

static int forward_up(void)
{
    segment segments[BATCH];
    int order[BATCH], routed = 0, planned, members;
    size_t widest;
    int count = receive_batch(&incoming, 0, clients);
    for (int i = 0; i < count; i++)
        if (find_flow(&incoming.names[i], incoming.data[i], incoming.messages[i].msg_len, open_trunk) != NULL)
            order[routed++] = i;
    planned = plan(order, routed, segments);
    widest = widest_of(segments, planned);
    for (int next = 0; next < planned; next += members) {
        members = members_of(segments + next, planned - next, widest);
        send_run(order, segments + next, members, widest);
    }
    return count;
}

/* ---- down --------------------------------------------------------------------------------------- */
static void flush_down(void)
{
    send_batch(&outgoing, waiting, clients);
    waiting = 0;
}

static void take_datagram(uint8_t *data, size_t length)
{
    size_t at = HEADER_BYTES, payload;
    if (length < HEADER_BYTES || memcmp(data, "FT\1\0", 4) != 0) return;
    for (; at + RECORD_BYTES <= length; at += RECORD_BYTES + payload) {
        payload = (size_t)data[at] << 8 | data[at + 1];
        if (payload == 0 || data[at + 2] & IPV6 || at + RECORD_BYTES + payload > length) return;
        if (data[at + 2] & CONTROL) continue;
        memcpy(&outgoing.names[waiting].sin_port, data + at + 4, 2);
        memcpy(&outgoing.names[waiting].sin_addr, data + at + 6, 4);
        put(&outgoing, waiting, data + at + RECORD_BYTES, payload, &outgoing.names[waiting]);
        if (++waiting == BATCH) flush_down();
    }
}

/* The size of the datagrams UDP_GRO joined into a message; its length when it joined none. */
static size_t joined_bytes(struct msghdr *header, size_t length)
{
    struct cmsghdr *control = CMSG_FIRSTHDR(header);
    int bytes = 0;
    if (control != NULL && control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO)
        memcpy(&bytes, CMSG_DATA(control), sizeof bytes);
    return bytes > 0 ? (size_t)bytes : length;
}

static int forward_down(void)
{
    int count = recvmmsg(upstream, trunk.messages, TRUNK_BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
        size_t length = trunk.messages[i].msg_len, step = joined_bytes(&trunk.messages[i].msg_hdr, length);
        for (size_t at = 0; at < length; at += step)
            take_datagram(trunk.data[i] + at, length - at < step ? length - at : step);
        trunk.messages[i].msg_hdr.msg_controllen = CONTROL_BYTES;
    }
    flush_down();
    return count == TRUNK_BATCH;
}

/* ---- start -------------------------------------------------------------------------------------- */
static void prepare_trunk(void)
{
    for (int i = 0; i < TRUNK_BATCH; i++) {
        trunk.vectors[i] = (struct iovec){trunk.data[i], TRUNK_BYTES};
        trunk.messages[i].msg_hdr.msg_iov = &trunk.vectors[i];
        trunk.messages[i].msg_hdr.msg_iovlen = 1;
        trunk.messages[i].msg_hdr.msg_control = trunk.control[i];
        trunk.messages[i].msg_hdr.msg_controllen = CONTROL_BYTES;
    }
    for (int i = 0; i < BATCH; i++) outgoing.names[i].sin_family = AF_INET;
}

static int take_own(const char *name, const char *value)
{
    if (!strcmp(name, "--mtu")) {
        mtu_bytes = (size_t)atoi(value);
    } else if (!strcmp(name, "--mode")) {
        bundled = !strcmp(value, "bundle");
        if (!bundled && strcmp(value, "run") != 0) refuse("--mode is bundle or run, not", value);
    } else {
        return 0;
    }
    return 1;
}

int main(int count, char **arguments)
{
    struct epoll_event events[2];
    read_options(count, arguments, take_own);
    if (mtu_bytes < 576 || mtu_bytes > 9000) refuse("--mtu is 576..9000 bytes", "");
    epoch = (uint32_t)time(NULL);
    prepare(&incoming);
    prepare(&outgoing);
    prepare_trunk();
    clients = start(&clients);
    for (;;) {
        int ready = epoll_wait(epoll, events, 2, -1), full = 0;
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &clients) full |= forward_up() == BATCH;
            else full |= forward_down();
        }
        rest(full);
    }
}

/* The limit of recvmmsg/sendmmsg: batches of 64.
 *
 *   flow    one connected upstream socket a flow, as every NAT and every plain-mode relay needs it. Upwards each flow
 *           has a socket, hence a call, of its own; downwards what many sockets received leaves in one sendmmsg.
 *   shared  one upstream socket for all flows, sendmmsg both ways. No real relay can be built so without a
 *           header: it finds the client of a reply by the flow number that OUR generator writes into the SSRC
 *           of every probe and into the first word of every transaction id. It is a bound, not a rival.
 *
 *   c_mmsg --listen=127.0.0.1:3478 --routes=FILE [--sockets=flow|shared] [--coalesce-us=N] [--buffer=BYTES]
 */
#include "forwarder.h"

static int clients, shared, shared_upstream = -1;
static flow **by_number;                /* shared: the flow of each flow number */
static batch incoming, outgoing;
static int held;                        /* replies in `incoming` from its start, to be sent from `outgoing` */

static int open_own(const struct sockaddr_in *backend, flow *f)
{
    if (!shared) return open_upstream(backend, f);
    if (shared_upstream < 0) shared_upstream = open_upstream(backend, &shared_upstream);
    return shared_upstream;
}

/* The number our generator gives a flow: SSRC of a probe, first word of a transaction id. */
static uint32_t flow_number(const uint8_t *data)
{
    uint32_t number;
    memcpy(&number, data + 8, 4);
    return number % SLOTS;
}

static int forward_up(void)
{
    int count = receive_batch(&incoming, 0, clients), waiting = 0;
    for (int i = 0; i < count; i++) {
        size_t length = incoming.messages[i].msg_len;
        flow *f = find_flow(&incoming.names[i], incoming.data[i], length, open_own);
        if (f == NULL) continue;
        if (!shared) {
            (void)!send(f->upstream, incoming.data[i], length, 0);
        } else {
            if (length >= STUN_HEADER_BYTES && incoming.data[i][0] == 0) by_number[flow_number(incoming.data[i])] = f;
            put(&outgoing, waiting++, incoming.data[i], length, NULL);
        }
    }
    send_batch(&outgoing, waiting, shared_upstream);
    return count;
}

static void send_held(void)
{
    send_batch(&outgoing, held, clients);
    held = 0;
}

/* Collects the replies of one flow behind those of others; a full batch leaves at once. */
static int collect_down(flow *f)
{
    int count = receive_batch(&incoming, held, f->upstream);
    for (int end = held + count; held < end; held++)
        put(&outgoing, held, incoming.data[held], incoming.messages[held].msg_len, &f->client);
    if (held < BATCH) return 0;
    send_held();
    return 1;
}

static int forward_shared_down(void)
{
    int count = receive_batch(&incoming, 0, shared_upstream), waiting = 0;
    for (int i = 0; i < count; i++) {
        flow *f = incoming.messages[i].msg_len >= 12 ? by_number[flow_number(incoming.data[i])] : NULL;
        if (f != NULL) put(&outgoing, waiting++, incoming.data[i], incoming.messages[i].msg_len, &f->client);
    }
    send_batch(&outgoing, waiting, clients);
    return count == BATCH;
}

static int take_own(const char *name, const char *value)
{
    if (strcmp(name, "--sockets") != 0) return 0;
    shared = !strcmp(value, "shared");
    if (!shared && strcmp(value, "flow") != 0) refuse("--sockets is flow or shared, not", value);
    return 1;
}

int main(int count, char **arguments)
{
    struct epoll_event events[BATCH];
    read_options(count, arguments, take_own);
    by_number = calloc(SLOTS, sizeof *by_number);
    if (by_number == NULL) fail("start");
    prepare(&incoming);
    prepare(&outgoing);
    clients = start(&clients);
    for (;;) {
        int ready = epoll_wait(epoll, events, BATCH, -1), full = 0, up = 0;
        for (int i = 0; i < ready; i++) {
            void *owner = events[i].data.ptr;
            if (owner == &clients) up = 1;
            else if (owner == &shared_upstream) full |= forward_shared_down();
            else full |= collect_down(owner);
        }
        send_held();
        if (up) full |= forward_up() == BATCH;
        rest(full);
    }
}

/* The limit of one datagram a call: recvfrom, sendto, a connected upstream socket a flow, epoll.
 *
 *   c_recvfrom --listen=127.0.0.1:3478 --routes=FILE [--coalesce-us=N] [--buffer=BYTES]
 */
#include "forwarder.h"

static int clients;

static int open_own(const struct sockaddr_in *backend, flow *f) { return open_upstream(backend, f); }

/* Takes what waits, at most a batch, so that the other sockets get their turn; how many came. */
static int forward_up(void)
{
    uint8_t data[DATAGRAM_BYTES];
    struct sockaddr_in client;
    int count = 0;
    for (; count < BATCH; count++) {
        socklen_t name_bytes = sizeof client;
        ssize_t length = recvfrom(clients, data, sizeof data, 0, (struct sockaddr *)&client, &name_bytes);
        flow *f;
        if (length < 0) break;
        f = find_flow(&client, data, (size_t)length, open_own);
        if (f != NULL) (void)!send(f->upstream, data, (size_t)length, 0);
    }
    return count;
}

/* One datagram an event: a flow seldom has two, and asking would cost a call; epoll tells of the next. */
static void forward_down(flow *f)
{
    uint8_t data[DATAGRAM_BYTES];
    ssize_t length = recv(f->upstream, data, sizeof data, 0);
    if (length >= 0)
        (void)!sendto(clients, data, (size_t)length, 0, (struct sockaddr *)&f->client, sizeof f->client);
}

int main(int count, char **arguments)
{
    struct epoll_event events[BATCH];
    read_options(count, arguments, NULL);
    clients = start(&clients);
    for (;;) {
        int ready = epoll_wait(epoll, events, BATCH, -1), full = ready == BATCH;
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &clients) full |= forward_up() == BATCH;
            else forward_down(events[i].data.ptr);
        }
        rest(full);
    }
}

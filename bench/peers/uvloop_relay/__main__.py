"""A reference relay on uvloop: what a careful author gets from Python without leaving it.

One socket for the clients; the server ufrag of a client's first STUN Binding Request picks the backend
from a fixed route table; one connected upstream transport per flow; replies go back from the client
socket. No logging, no metrics, no state machine: only what forwarding needs.

    python -m bench.peers.uvloop_relay --listen 127.0.0.1:3478 --routes FILE      # lines: UFRAG ADDRESS:PORT
"""

import argparse
import asyncio
import contextlib
import gc
import signal
import socket
from pathlib import Path
from typing import Any

import uvloop

from bench.peers.uvloop_relay.stun import server_ufrag

Address = tuple[str, int]
SO_RCVBUFFORCE = 33  # Linux; the socket module does not name it


class Upstream(asyncio.DatagramProtocol):
    """The backend's side of one flow: every reply goes to the flow's client."""

    def __init__(self, send_to_client: Any, client: Address) -> None:
        self.send_to_client = send_to_client
        self.client = client

    def datagram_received(self, data: bytes, _address: Address) -> None:
        self.send_to_client(data, self.client)


class Clients(asyncio.DatagramProtocol):
    """The one public socket. `sends` maps a client to the bound sendto of its upstream transport, so that a
    datagram of a known flow costs one dictionary look-up and one call."""

    def __init__(self, routes: dict[bytes, Address], buffer_bytes: int) -> None:
        self.routes = routes
        self.buffer_bytes = buffer_bytes
        self.sends: dict[Address, Any] = {}
        self.opening: dict[Address, list[bytes]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        self.send_to_client = transport.sendto

    def datagram_received(self, data: bytes, client: Address) -> None:
        send = self.sends.get(client)
        if send is not None:
            send(data)
        else:
            self.unknown(data, client)

    def unknown(self, data: bytes, client: Address) -> None:
        """Opens the flow of a client whose datagram names a routed ufrag; keeps what comes meanwhile."""
        waiting = self.opening.get(client)
        if waiting is not None:
            waiting.append(data)
            return
        ufrag = server_ufrag(data)
        backend = self.routes.get(ufrag) if ufrag is not None else None
        if backend is None:
            return
        self.opening[client] = [data]
        task = asyncio.get_running_loop().create_task(self.open(client, backend))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def open(self, client: Address, backend: Address) -> None:
        upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        upstream.setblocking(False)
        set_buffers(upstream, self.buffer_bytes)
        upstream.connect(backend)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Upstream(self.send_to_client, client), sock=upstream
        )
        for data in self.opening.pop(client):
            transport.sendto(data)
        self.sends[client] = transport.sendto


def set_buffers(sock: socket.socket, buffer_bytes: int) -> None:
    """Asks for the receive buffer that the relay it is compared with asks for; one limit holds for both."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer_bytes)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)


def parse_address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def read_routes(path: Path) -> dict[bytes, Address]:
    pairs = (line.split() for line in path.read_text().splitlines() if line.strip())
    return {ufrag.encode(): parse_address(backend) for ufrag, backend in pairs}


async def serve(listen: Address, routes: dict[bytes, Address], buffer_bytes: int) -> None:
    clients = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    clients.setblocking(False)
    set_buffers(clients, buffer_bytes)
    clients.bind(listen)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Clients(routes, buffer_bytes), sock=clients)
    # Forwarding makes no reference cycles: without the collector's walks over the flow table it is faster.
    gc.collect()
    gc.disable()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(f"ready {listen[0]}:{listen[1]}", flush=True)
    await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="reference relay on uvloop")
    parser.add_argument("--listen", type=parse_address, default=("127.0.0.1", 3478))
    parser.add_argument("--routes", type=Path, required=True, help="file of lines `UFRAG ADDRESS:PORT`")
    parser.add_argument("--buffer", type=int, default=16 << 20, help="receive buffers asked for, in bytes")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(arguments.listen, read_routes(arguments.routes), arguments.buffer))


if __name__ == "__main__":
    main()

"""The relays others publish, as Debian ships them: nginx, coturn, rtpengine. Their settings: bench/peers."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.contestants.children import ROOT, bound, child, fill, program, sockets_max, wait_until
from bench.contestants.contract import Address, Contestant, Running
from bench.peers.coturn.turn import CHANNEL, open_channels
from bench.peers.rtpengine.offers import Control, teach
from bench.place import Place

PEERS = ROOT / "bench" / "peers"
PORTS = (33_000, 65_000)  # for relays that take a port or more a flow; taken ones they pass over
SESSION_DESCRIPTORS = 2  # coturn's own reckoning of what an allocation takes
CALL_SOCKETS = 4  # rtpengine: RTP and RTCP, on both sides


def nginx() -> Contestant:
    """ngx_stream: a UDP session a client, proxied to one upstream."""
    return Contestant("nginx stream", "plain", _nginx, sockets_max(), (("nginx", "libnginx-mod-stream"),))


def coturn() -> Contestant:
    """A TURN server: an allocation a client, ChannelData towards it, bare datagrams towards the backend."""
    return Contestant(
        "coturn", "plain", _coturn, sockets_max() // SESSION_DESCRIPTORS, (("turnserver", "coturn"),)
    )


def rtpengine() -> Contestant:
    """A media proxy: a call a client, RTP/AVP forwarded in user space."""
    needs = (("rtpengine", "rtpengine-daemon"),)
    return Contestant("rtpengine", "plain", _rtpengine, sockets_max() // CALL_SOCKETS, needs)


@contextmanager
def _nginx(place: Place, backend: Address, ufrags: Sequence[str]) -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        directory.chmod(0o755)  # started by root, its worker is another user
        listen = (place.relay_ip, place.free_port(socket.SOCK_DGRAM))
        connections = 2 * len(ufrags) + 256
        config = fill(
            PEERS / "nginx" / "nginx.conf.in",
            directory / "nginx.conf",
            LOAD_MODULE=_stream_module(),
            DIRECTORY=directory,
            FILES=connections + 256,
            CONNECTIONS=connections,
            LISTEN=f"{listen[0]}:{listen[1]}",
            BACKEND=f"{backend[0]}:{backend[1]}",
        )
        log = directory / "nginx.log"
        command = [program("nginx"), "-p", text, "-e", "stderr", "-c", str(config)]
        with child(place, command, log) as pid:
            wait_until(lambda: bound(pid, listen) and _has_children(pid), pid, log)
            yield Running(listen, pid)


@contextmanager
def _coturn(place: Place, backend: Address, ufrags: Sequence[str]) -> Iterator[Running]:
    flows = len(ufrags)
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        listen = (place.relay_ip, place.free_port(socket.SOCK_DGRAM))
        config = fill(
            PEERS / "coturn" / "turnserver.conf.in",
            directory / "turnserver.conf",
            DIRECTORY=directory,
            LISTEN_IP=listen[0],
            LISTEN_PORT=listen[1],
            RELAY_IP=place.upstream_ip,
            MIN_PORT=PORTS[0],
            MAX_PORT=PORTS[1],
        )

        def open_flows(generator: Any, _sink: Any, timeout_ms: int) -> int:
            opened = open_channels(generator, flows, listen, backend, timeout_ms)
            if opened == flows:
                generator.mark_confirmed()
            return opened

        log = directory / "coturn.log"
        with child(place, [program("turnserver"), "-c", str(config)], log) as pid:
            wait_until(lambda: bound(pid, listen), pid, log)
            yield Running(listen, pid, open_flows, {"turn_numbers": [CHANNEL] * flows})


@contextmanager
def _rtpengine(place: Place, backend: Address, ufrags: Sequence[str]) -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        control = ("127.0.0.1", place.free_port(socket.SOCK_DGRAM, "127.0.0.1"))
        config = fill(
            PEERS / "rtpengine" / "rtpengine.conf.in",
            directory / "rtpengine.conf",
            DIRECTORY=directory,
            CLIENTS_IP=place.relay_ip,
            BACKEND_IP=place.upstream_ip,
            CONTROL_PORT=control[1],
            MIN_PORT=PORTS[0],
            MAX_PORT=PORTS[1],
        )
        log = directory / "rtpengine.log"
        with child(place, [program("rtpengine"), f"--config-file={config}"], log) as pid:
            wait_until(lambda: bound(pid, control), pid, log)
            targets = _calls(place, control, backend, len(ufrags))

            def open_flows(generator: Any, sink: Any, timeout_ms: int) -> int:
                taught = teach(generator, sink, targets, timeout_ms)
                if taught == len(targets):
                    generator.mark_confirmed()
                return taught

            yield Running(targets, pid, open_flows)


def _calls(place: Place, control: Address, backend: Address, flows: int) -> list[Address]:
    """A call for every flow; where its client sends."""
    with place.network.inside():  # only the socket must be made there: it stays there
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        speaker = Control(sock, control)
        return [
            (place.relay_ip, speaker.open_call(flow, place.first_client, backend)) for flow in range(flows)
        ]


def _stream_module() -> str:
    """The line that loads ngx_stream where it is a module of its own (Debian); empty where it is built in."""
    said = subprocess.run([program("nginx"), "-V"], capture_output=True, text=True, check=True).stderr
    if "--with-stream=dynamic" not in said:
        return ""
    folder = re.search(r"--modules-path=(\S+)", said)
    module = Path(folder[1] if folder else "/usr/lib/nginx/modules") / "ngx_stream_module.so"
    if not module.exists():
        raise RuntimeError(f"nginx has no stream module ({module}): apt install libnginx-mod-stream")
    return f"load_module {module};"


def _has_children(pid: int) -> bool:
    """The master has its worker: what is bound is served."""
    try:
        return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return False

"""What is read of processes: their children, memory, CPU time and sockets."""

import os
import socket
import subprocess
import sys

from tests.chaos import processes
from tests.support.rig import until

BUSY = (
    "import time; b = bytearray(64 << 20); [0 for _ in range(9_000_000)]; print(flush=True); time.sleep(60)"
)


def test_a_child_is_part_of_the_tree_with_its_memory_and_its_time() -> None:
    me = os.getpid()
    before_s, all_s = processes.user_s(processes.tree(me)), processes.user_of_all_s()
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            assert {me, child.pid} <= set(processes.tree(me))
            assert 64 << 20 < processes.private_bytes([child.pid]) < 512 << 20
            assert processes.memory_bytes([child.pid]) >= processes.private_bytes([child.pid])
            assert processes.threads([child.pid]) == 1
            assert processes.descriptors([child.pid]) >= 3
            assert processes.busy(child.pid, 0.1) < 0.5, "it sleeps"
        finally:
            child.kill()
    used_s = processes.user_s(processes.tree(me)) - before_s
    assert used_s > 0.1, "time of a child that has ended counts"
    assert processes.user_of_all_s() - all_s >= used_s - 0.1


def test_a_process_that_is_gone_counts_as_nothing() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    gone = [child.pid]
    assert processes.tree(child.pid) == gone
    found = (processes.memory_bytes, processes.threads, processes.descriptors, processes.user_s)
    assert [count(gone) for count in found] == [0, 0, 0, 0]
    assert processes.udp_drops(child.pid) == {}
    assert processes.busy(child.pid, 0.01) == 0.0


def test_a_process_that_works_is_busy() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            until(lambda: processes.busy(child.pid, 0.1) > 0.1, "it takes its share")
        finally:
            child.kill()


def test_drops_at_a_socket_of_ours_are_counted() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        end.bind(("127.0.0.1", 0))
        before = processes.udp_drops(os.getpid())
        inode = os.fstat(end.fileno()).st_ino
        assert before[inode] == 0
        for _ in range(100):
            sender.sendto(bytes(100), end.getsockname())
        until(lambda: processes.udp_drops(os.getpid())[inode] > 50, "drops")
        now = processes.udp_drops(os.getpid())
        assert processes.drops_since(before, now) == now[inode]
        assert processes.drops_since({}, now) >= now[inode]

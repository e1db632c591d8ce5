"""
A network namespace whose only way out is a wire that loses packets, delays them, or is pulled out.

Why not `tc netem`: not every kernel has it. Here both ends are TUN devices, one in the namespace and one outside, and a
thread carries the packets between them: TCP meets real loss. Needs root; whoever has no right to it is skipped.
"""

import ctypes
import fcntl
import heapq
import ipaddress
import os
import random
import selectors
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shutil import which
from threading import Thread
from time import monotonic

import pytest

TUN = Path("/dev/net/tun")
TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEAD = 0x1001
CLONE_NEWNET = 0x40000000
PACKET_BYTES_MAX = 65_536
WAITING_MAX = 20_000  # packets under way; one more is lost, as in a router whose queue is full
TURN_S = 0.05


@dataclass(slots=True, kw_only=True)
class Condition:
    """How the wire is; change a field at any time."""

    is_up: bool = True  # else nothing passes, and nobody is told
    loss: float = 0.0  # share of the packets, each way
    delay_s: float = 0.0  # of each packet, each way


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A namespace and the wire to it."""

    namespace: str
    outside: str  # address of this end
    inside: str  # address of the namespace's end
    condition: Condition

    @property
    def command(self) -> tuple[str, ...]:
        """Return what runs the command behind it within the namespace, as the same process."""
        return ("ip", "netns", "exec", self.namespace)


@contextmanager
def wired() -> Iterator[Wire]:
    """Make a namespace and the wire to it; skip the test where that is not allowed."""
    if os.geteuid() != 0 or which("ip") is None or not TUN.exists():
        pytest.skip("a network namespace needs root, iproute2 and /dev/net/tun")
    name = f"tg{os.getpid() % 100_000}"
    # A pair of addresses of those kept for tests of networks (RFC 2544), so that two runs can go side by side.
    pair = ipaddress.ip_address("198.18.0.0") + 4 * (os.getpid() % 16_384)
    outside, inside = str(pair + 1), str(pair + 2)
    with ExitStack() as ending:
        ip("netns", "add", name)
        ending.callback(ip, "netns", "delete", name)
        near = open_tun(name)
        ending.callback(os.close, near)
        far = within(name, lambda: open_tun(name))
        ending.callback(os.close, far)
        for prefix, address in (((), outside), (("-n", name), inside)):
            ip(*prefix, "address", "add", f"{address}/30", "dev", name)
            ip(*prefix, "link", "set", name, "up")
        ip("-n", name, "link", "set", "lo", "up")
        condition = Condition()
        ending.enter_context(carrying(near, far, condition))
        yield Wire(namespace=name, outside=outside, inside=inside, condition=condition)


def ip(*arguments: str) -> None:
    """Run iproute2's command."""
    subprocess.run(("ip", *arguments), check=True)


def open_tun(name: str) -> int:
    """Return a TUN device of the namespace that the thread is in; whoever reads it has what is sent through it."""
    device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN_WITHOUT_HEAD))
    return device


def within(namespace: str, act: Callable[[], int]) -> int:
    """Return what *act* opens in *namespace*; it belongs there wherever it is used."""

    def enter_and_act() -> int:
        with Path(f"/run/netns/{namespace}").open() as entrance:
            if ctypes.CDLL(None, use_errno=True).setns(entrance.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return act()

    with ThreadPoolExecutor(1) as thread:  # it alone enters, and ends
        return thread.submit(enter_and_act).result()


@contextmanager
def carrying(near: int, far: int, condition: Condition) -> Iterator[None]:
    """Carry packets between two devices, both ways, as *condition* says."""
    carrier = _Carrier(near, far, condition)
    thread = Thread(target=carrier.run, name="wire")
    thread.start()
    try:
        yield
    finally:
        carrier.ends = True
        thread.join()


class _Carrier:
    def __init__(self, near: int, far: int, condition: Condition) -> None:
        self.ends = False
        self._other = {near: far, far: near}
        self._condition = condition
        self._under_way: list[tuple[float, int, int, bytes]] = []  # due, number, whereto, packet
        self._numbers = count()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for device in self._other:
                selector.register(device, selectors.EVENT_READ)
            while not self.ends:
                for ready, _ in selector.select(self._until_due_s()):
                    self._take(ready.fd)
                self._deliver()

    def _until_due_s(self) -> float:
        return max(0.0, min(TURN_S, self._under_way[0][0] - monotonic())) if self._under_way else TURN_S

    def _take(self, device: int) -> None:
        condition = self._condition
        try:
            packet = os.read(device, PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        if condition.is_up and random.random() >= condition.loss and len(self._under_way) < WAITING_MAX:
            due_s = monotonic() + condition.delay_s
            heapq.heappush(self._under_way, (due_s, next(self._numbers), self._other[device], packet))

    def _deliver(self) -> None:
        while self._under_way and self._under_way[0][0] <= monotonic():
            _, _, whereto, packet = heapq.heappop(self._under_way)
            if self._condition.is_up:
                os.write(whereto, packet)

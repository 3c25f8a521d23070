"""How long a call takes over the kernel's Binder and over UNIX sockets: ``python -m tests.kernel.latency [--calls N]``.

Owns: one measurement, made where a binder device is (``make bench-kernel``: in the guest). Three ways to the same
echo in another process: a bare pair of UNIX sockets, this package over UNIX sockets, this package over the device. The
rounds take turns, so that a slow moment of the machine meets all three; each figure is the median of all its calls.
Under software emulation only the ratios mean anything, and those roughly.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import binderkit as bk
from binderkit.driver.kernel.node import KernelNode
from binderkit.ipc.driver import current_driver, set_driver
from binderkit.process import binder_device

SIZES = (16, 4096, 64 * 1024)
ROUNDS = 5
BAR = 2.5
Echo = Callable[[bytes], object]


class EchoService(bk.RemoteObject):
    """Answers with the bytes it is sent."""

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Read bytes, write them back."""
        reply.write_array_buffer(data.read_array_buffer(bk.TypeCode.UINT8_ARRAY), bk.TypeCode.UINT8_ARRAY)
        return True


def make() -> EchoService:
    """Return the root object of the child."""
    return EchoService("binderkit.tests.IEcho")


@contextmanager
def bare() -> Iterator[Echo]:
    """A pair of sockets and a process that sends back what it gets, a length before each message."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        ours.close()
        try:
            while True:
                theirs.sendall(_received(theirs))
        except ConnectionError:
            os._exit(0)
    theirs.close()

    def echo(body: bytes) -> object:
        ours.sendall(len(body).to_bytes(4, "little") + body)
        return _received(ours)

    with ours:
        yield echo
    os.waitpid(pid, 0)


def _received(sock: socket.socket) -> bytes:
    got = sock.recv(65540)
    if not got:
        raise ConnectionError("the other side ended")
    size = 4 + int.from_bytes(got[:4], "little")
    while len(got) < size:
        got += sock.recv(size - len(got))
    return got


@contextmanager
def package(driver: str) -> Iterator[Echo]:
    """A child process with an echo service, over one of the drivers, which this process uses from here on."""
    set_driver(None)
    if driver == "kernel":
        node = KernelNode(binder_device())
        node.become_context(bk.RemoteObject("binderkit.tests.IContext"))
        set_driver(node)
    kind = bk.TypeCode.UINT8_ARRAY
    with closing(current_driver()), bk.spawn("tests.kernel.latency:make") as child:
        root = child.root

        def echo(body: bytes) -> object:
            data, reply = bk.MessageSequence(), bk.MessageSequence()
            data.write_array_buffer(body, kind)
            root.send_request(1, data, reply)
            return reply.read_array_buffer(kind)

        yield echo


def measure(echoes: dict[str, Echo], size: int, calls: int) -> dict[str, float]:
    """Return the median time of a call by each way, in microseconds."""
    body = os.urandom(size)
    times: dict[str, list[float]] = {name: [] for name in echoes}
    for _ in range(ROUNDS):
        for name, echo in echoes.items():
            for _ in range(calls // 10):
                echo(body)
            for _ in range(calls):
                began = time.perf_counter()
                echo(body)
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) * 1e6 for name, taken in times.items()}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a table; return 1 if the bar is missed, with ``--check``."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernel.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=300, help="measured calls of a round, five rounds (%(default)s)")
    parser.add_argument("--check", action="store_true", help=f"fail if 16 bytes take over {BAR} x UNIX sockets")
    chosen = parser.parse_args(arguments)
    print(f"{'bytes':>6} {'bare sockets':>13} {'unix driver':>12} {'kernel driver':>14} {'kernel : unix':>14}")
    worst = 0.0
    for size in SIZES:
        with ExitStack() as stack:
            echoes = {"bare": stack.enter_context(bare())}  # first: it forks
            for driver in ("unix", "kernel"):
                echoes[driver] = stack.enter_context(package(driver))
            took = measure(echoes, size, chosen.calls)
        ratio = took["kernel"] / took["unix"]
        worst = max(worst, ratio) if size == SIZES[0] else worst
        print(
            f"{size:>6} {took['bare']:>10.0f} us {took['unix']:>9.0f} us {took['kernel']:>11.0f} us {ratio:>12.2f} x",
            flush=True,
        )
    return int(chosen.check and worst > BAR)


if __name__ == "__main__":
    sys.exit(main())

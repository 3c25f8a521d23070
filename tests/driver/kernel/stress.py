"""A client that does everything at once until its input ends: ``python -m tests.driver.kernel.stress DEVICE SEED``.

It says "ready", and at its end "calls N", or what was wrong: an answer that is another call's, an error that has no
cause, an object or a reference that is left.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

from binderkit import limits
from binderkit.driver.kernel.node import KernelNode
from binderkit.errors import CallTimeoutError, DeadObjectError, IpcError, QuotaError, RemoteError
from binderkit.ipc.driver import set_driver
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from tests.driver.kernel.service import Code, add_one, ask
from tests.driver.kernel.state import until

THREADS = 4


class Adder(RemoteObject):
    """Adds one, for whoever was given it."""

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        """Handle a request."""
        reply.write_int(data.read_int() + 1)
        return code == Code.ADD_ONE


class Client:
    """Its calls, on any number of threads."""

    def __init__(self, root: Any, seed: int) -> None:
        self._root = root
        self._seed = seed
        self.over = threading.Event()
        self.calls = 0
        self.errors: list[str] = []
        self._steps: tuple[Callable[[random.Random], None], ...] = (
            self.add, self.add, self.add_in_time, self.keep, self.have_called, self.fetch, self.make, self.tell,
            self.descriptors, self.block,
        )  # fmt: skip

    def run(self, number: int) -> None:
        """Do anything, in an order that the seed decides."""
        chance = random.Random(self._seed * 100 + number)
        try:
            while not self.over.is_set():
                chance.choice(self._steps)(chance)
                self.calls += 1
        except BaseException as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def add(self, chance: random.Random) -> None:
        """The plain case: the answer is that of this very call."""
        number = chance.randrange(1 << 30)
        assert add_one(self._root, number) == number + 1

    def add_in_time(self, chance: random.Random) -> None:
        """The same, which may come too late."""
        number = chance.randrange(1 << 30)
        with contextlib.suppress(CallTimeoutError):
            assert add_one(self._root, number, MessageOption(timeout=chance.uniform(0.0005, 0.02))) == number + 1

    def keep(self, chance: random.Random) -> None:
        """Give an object away; another client's takes its place soon."""
        with MessageSequence() as data:
            data.write_remote_object(Adder("binderkit.tests.IAdder"))
            self._root.send_request(Code.KEEP, data, MessageSequence())

    def have_called(self, chance: random.Random) -> None:
        """Have the service call the object it holds: ours, or that of a client that may be dead, or none."""
        number = chance.randrange(1 << 30)
        with contextlib.suppress(RemoteError, DeadObjectError):
            assert ask(self._root, Code.CALL, number).read_int() == number + 1

    def fetch(self, chance: random.Random) -> None:
        """Fetch the object it holds, and call it."""
        number = chance.randrange(1 << 30)
        with contextlib.suppress(RemoteError, DeadObjectError):
            with ask(self._root, Code.GIVE) as reply:
                given = reply.read_remote_object()
            assert add_one(given, number) == number + 1

    def make(self, chance: random.Random) -> None:
        """Have an object made, call it, forget it."""
        with ask(self._root, Code.MAKE) as reply:
            made = reply.read_remote_object()
        assert made.get_descriptor() == "binderkit.tests.IMade"

    def tell(self, chance: random.Random) -> None:
        """Tell, and not wait."""
        with contextlib.suppress(QuotaError):
            ask(self._root, Code.COUNTED, option=MessageOption(MessageOption.TF_ASYNC))

    def descriptors(self, chance: random.Random) -> None:
        """Send a descriptor, and get one."""
        text = f"{chance.random()}"
        reading, writing = os.pipe()
        os.write(writing, text.encode())
        with MessageSequence() as data:
            data.write_file_descriptor(reading)
            os.close(reading)
            os.close(writing)
            with MessageSequence() as reply:
                self._root.send_request(Code.READ_FD, data, reply)
                assert reply.read_string() == text
        ask(self._root, Code.GIVE_FD).reclaim()

    def block(self, chance: random.Random) -> None:
        """Send a block that goes through shared memory."""
        size = limits.RAW_DATA_INLINE + chance.randrange(1, 50_000)
        with MessageSequence() as data, MessageSequence() as reply:
            data.write_int(size)
            data.write_raw_data_buffer(bytes(size), size)
            self._root.send_request(Code.RAW, data, reply)
            assert reply.read_int() == size


def main(device: str, seed: str) -> int:
    """Call until the input ends."""
    node = KernelNode(device)
    set_driver(node)
    root = node.context_object(start=False)
    client = Client(root, int(seed))
    threads = [threading.Thread(target=client.run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    client.over.set()
    for thread in threads:
        thread.join()
    with contextlib.suppress(IpcError):
        ask(root, Code.DROP)

    def nothing_left() -> bool:
        gc.collect()
        node.flush_released()
        now = node.statistics()
        return (now["exports"], now["proxies"], now["handling"], now["blocked"]) == (0, 1, 0, 0)

    try:
        until(nothing_left, "nothing is left")
    except AssertionError as error:
        client.errors.append(f"{error}: {node.statistics()}")
    print("; ".join(client.errors).replace("\n", " ") or f"calls {client.calls}", flush=True)
    node.close()
    return len(client.errors)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

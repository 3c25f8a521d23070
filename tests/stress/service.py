"""The object that the processes of a stress test serve."""

from __future__ import annotations

import gc
import threading

import binderkit as bk
from binderkit.process import local_node

WAIT = 15.0
"""Seconds after which a call that must end counts as hanging."""
PING = 1
"""int -> the int plus one"""
NEST = 2
"""objects -> how many there were: the first is called with the rest"""
COUNT = 3
"""one-way: count"""
COUNTED = 4
"""-> how many one-way calls were counted"""
RAW = 5
"""size, raw data -> size"""
SLOW = 6
"""milliseconds: wait so long, unless the call is given up"""
EXIT = 7
"""raise SystemExit in the handler"""
MAKE = 8
"""-> a new object"""
COLLECT = 9
"""-> statistics, after collecting garbage"""


class Service(bk.RemoteObject):
    """Does what the code says."""

    def __init__(self) -> None:
        super().__init__("tests.IStress")
        self._lock = threading.Lock()
        self._counted = 0
        self._never = threading.Event()

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Handle one call."""
        if code == PING:
            reply.write_int(data.read_int() + 1)
        elif code == NEST:
            path = data.read_remote_object_array()
            reply.write_int(1 + nest(path) if path else 0)
        elif code == COUNT:
            with self._lock:
                self._counted += 1
        elif code == COUNTED:
            reply.write_int(self._counted)
        elif code == RAW:
            size = data.read_int()
            reply.write_int(len(data.read_raw_data_buffer(size)))
        elif code == SLOW:
            self._never.wait(data.read_int() / 1000)
        elif code == EXIT:
            raise SystemExit("a handler calls sys.exit")
        elif code == MAKE:
            reply.write_remote_object(Service())
        elif code == COLLECT:
            gc.collect()
            reply.write_string(str(local_node().statistics()))
        else:
            return False
        return True


def ping(proxy: bk.IRemoteObject, number: int = 1, timeout: float = WAIT) -> None:
    """Check that ``proxy`` answers."""
    data, reply = bk.MessageSequence(), bk.MessageSequence()
    data.write_int(number)
    proxy.send_request(PING, data, reply, bk.MessageOption(timeout=timeout))
    assert reply.read_int() == number + 1


def nest(path: list[bk.IRemoteObject], timeout: float | None = None) -> int:
    """Call the first object with the rest; return how many were called."""
    data, reply = bk.MessageSequence(), bk.MessageSequence()
    data.write_remote_object_array(path[1:])
    path[0].send_request(NEST, data, reply, None if timeout is None else bk.MessageOption(timeout=timeout))
    return reply.read_int()


def tell(proxy: bk.IRemoteObject) -> None:
    """Make a one-way call."""
    proxy.send_request(COUNT, bk.MessageSequence(), bk.MessageSequence(), bk.MessageOption(bk.MessageOption.TF_ASYNC))


def raw(proxy: bk.IRemoteObject, size: int, timeout: float = WAIT) -> None:
    """Send a block."""
    data, reply = bk.MessageSequence(), bk.MessageSequence()
    data.write_int(size)
    data.write_raw_data_buffer(bytes(size), size)
    proxy.send_request(RAW, data, reply, bk.MessageOption(timeout=timeout))
    assert reply.read_int() == size


def slow(proxy: bk.IRemoteObject, milliseconds: int, timeout: float) -> None:
    """Make a call that takes so long."""
    data = bk.MessageSequence()
    data.write_int(milliseconds)
    proxy.send_request(SLOW, data, bk.MessageSequence(), bk.MessageOption(timeout=timeout))


def counted(proxy: bk.IRemoteObject) -> int:
    """Return how many one-way calls were counted."""
    reply = bk.MessageSequence()
    proxy.send_request(COUNTED, bk.MessageSequence(), reply, bk.MessageOption(timeout=WAIT))
    return reply.read_int()

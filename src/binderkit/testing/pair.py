"""A client and a service in one process, for the tests of people who use binderkit.

Owns: ``loopback`` and ``Pair``. The two "processes" are those of the loopback driver (driver/loopback.py): what a
call carries is copied and translated as between real ones, but a debugger shows both sides in one stack.

Rules upheld: leaving the block ends both processes and their threads, and fails if the code under test kept objects
of the other side or left calls running (ARCHITECTURE, Rules of behaviour: references).
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from binderkit.driver.loopback import LoopbackNetwork, LoopbackProcess
from binderkit.errors import ParamTypeError
from binderkit.ipc import loop as handler_loop
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import RemoteObject
from binderkit.testing.taps import Pauses, TappedLink

if TYPE_CHECKING:
    from binderkit.interface.contract import Interface

__all__ = ["Pair", "loopback"]

SETTLE_TIME = 2.0
"""Seconds that calls and references which are just ending may take at the end of a block."""
_LOOK = 0.002
"""Seconds between two looks whether they have ended."""


class Pair:
    """Two processes in one. Made by ``loopback``.

    Attributes:
        client: the process the test plays; its pid is ours.
        service: the process the objects under test live in.
    """

    def __init__(self, network: LoopbackNetwork) -> None:
        self.network = network
        self.client = network.process(pid=os.getpid())
        self.service = network.process()
        self.to_service = self.client._links[self.service] = TappedLink(self.client, self.service)
        self.to_client = self.service._links[self.client] = TappedLink(self.service, self.client)
        self.pauses = Pauses()
        self._kept: list[RemoteProxy] = []

    def offer(self, stub: RemoteObject | Interface) -> RemoteProxy:
        """Let ``stub`` live in the service; return the client's proxy of it.

        The test may hold this proxy beyond the block. Wrap it for a typed interface: ``proxy(IFoo, pair.offer(stub))``.

        Args:
            stub: any RemoteObject, an object that implements a typed interface, or a fake.

        Raises:
            ParamTypeError: no RemoteObject (401).
            DeadObjectError: the service was killed (-32).
        """
        target: object = stub if isinstance(stub, RemoteObject) or not hasattr(stub, "as_object") else stub.as_object()
        if not isinstance(target, RemoteObject):
            raise ParamTypeError(f"offer takes a RemoteObject, got {type(stub).__name__}: offer the object, no proxy")
        proxy = self.service.offer(target, self.client)
        return self.keep(proxy)

    def keep(self, proxy: RemoteProxy) -> RemoteProxy:
        """Allow the test to hold ``proxy`` beyond the block; return it."""
        self._kept.append(proxy)
        return proxy

    def kill_service(self) -> None:
        """End the service as SIGKILL does: calls in flight raise DeadObjectError, death recipients are told."""
        self.service.kill()
        self.pauses.end()

    def check(self) -> None:
        """Fail if a living side holds objects of the other one, or handles a call.

        Proxies that ``offer`` returned, or that were given to ``keep``, may stay.

        Raises:
            AssertionError: says who holds what, after up to SETTLE_TIME seconds.
        """
        end = time.monotonic() + SETTLE_TIME
        while True:
            self.network.flush()
            left = self._left()
            if not left:
                return
            gc.collect()  # an exception and its frames are a cycle, which is no leak
            if time.monotonic() > end:
                raise AssertionError("at the end of the loopback block\n  " + "\n  ".join(left))
            time.sleep(_LOOK)  # the interval between two looks, not a wait for it to come true

    def _left(self) -> list[str]:
        """Return what must not be there, one line each."""
        sides = (("client", self.client, self.to_service), ("service", self.service, self.to_client))
        return [line for name, process, link in sides if not process.dead for line in self._held(name, process, link)]

    def _held(self, name: str, process: LoopbackProcess, link: TappedLink) -> list[str]:
        counts = process.statistics()
        kept = {id(proxy) for proxy in self._kept}
        proxies = [] if link.is_dead else [proxy for proxy in link.live_proxies() if id(proxy) not in kept]
        left = [f"the {name} still holds {proxy!r}: drop it (del), or name it to pair.keep" for proxy in proxies]
        if counts["handling"]:
            left.append(f"the {name} still handles {counts['handling']} calls: let them end, or give them a timeout")
        if counts["oneway_bytes"]:
            left.append(f"one-way calls of the {name} ({counts['oneway_bytes']} bytes) still wait or run")
        return left

    def close(self) -> None:
        """End both processes and their threads. Idempotent."""
        self.kill_service()
        self.network.close()


@contextlib.contextmanager
def loopback() -> Iterator[Pair]:
    """Open a pair of processes in one; a ``with`` block whose end checks that nothing is left.

    Raises:
        AssertionError: at the end of a block that went well: one side still holds objects of the other, or handles
            a call. ``Pair.check`` says what is allowed.

    Example::

        with loopback() as pair:
            remote = pair.offer(Echo())
            remote.send_request(1, data, reply)
    """
    had_loop = handler_loop._loop is not None
    pair = Pair(LoopbackNetwork())
    try:
        yield pair
        pair.check()
    finally:
        pair.close()
        if not had_loop:  # it came with async handlers of this block; another user's loop is left alone
            handler_loop.stop()

"""Objects of this process that the kernel knows, and how long it needs them. Pure tables, no device.

Owns: the number of each stub (the pointer and cookie of its kernel node) and what keeps it alive: references that the
kernel announced with BR_ACQUIRE and has not taken back with BR_RELEASE, and messages on their way that carry it.

Why counts and not flags: two threads may read the end of one reference and the beginning of the next in either order;
the sum is right in both.

Rules upheld: a number is never used twice, so a late return cannot mean another object; a stub is let go outside the
lock, because its finalizer is user code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from binderkit.ipc.remote import RemoteObject, bound_handler

if TYPE_CHECKING:
    from binderkit.ipc.remote import Handler


class OwnNode:
    """A stub of ours that others can call.

    Attributes:
        stub, handler: the object and what is called for its requests.
        number: pointer and cookie of its kernel node; 0 is the context manager.
        strong: references the kernel holds; flying: messages on their way that carry it.
    """

    __slots__ = ("flying", "handler", "number", "strong", "stub")

    def __init__(self, stub: RemoteObject, number: int, handler: Handler) -> None:
        self.stub = stub
        self.handler = handler
        self.number = number
        self.strong = 0
        self.flying = 0


class OwnNodes:
    """All stubs of this process that the kernel may deliver calls to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_stub: dict[int, OwnNode] = {}
        self.by_number: dict[int, OwnNode] = {}
        self._next = 1
        self._wrap: Callable[[Handler], Handler] | None = None

    def wrap_handlers(self, wrap: Callable[[Handler], Handler] | None) -> None:
        """Call ``wrap`` of each stub's handler in its place, from the next request on; None: the handlers again."""
        with self._lock:
            self._wrap = wrap
            for node in self.by_number.values():
                node.handler = self._handler_of(node.stub)

    def _handler_of(self, stub: RemoteObject) -> Handler:
        handler = bound_handler(stub)
        return handler if self._wrap is None else self._wrap(handler)

    def set_root(self, stub: RemoteObject) -> None:
        """Make ``stub`` node 0, for as long as the driver is open."""
        with self._lock:
            node = OwnNode(stub, 0, self._handler_of(stub))
            node.strong = 1
            self.by_number[0] = self._by_stub[id(stub)] = node

    def clear_root(self) -> None:
        """Take ``set_root`` back: the device refused."""
        with self._lock:
            node = self.by_number.pop(0)
            del self._by_stub[id(node.stub)]

    def send(self, stub: RemoteObject) -> OwnNode:
        """A message will carry ``stub``: return its node, which stays until ``landed``."""
        with self._lock:
            node = self._by_stub.get(id(stub))
            if node is None:
                node = OwnNode(stub, self._next, self._handler_of(stub))
                self._next += 1
                self.by_number[node.number] = self._by_stub[id(stub)] = node
            node.flying += 1
        return node

    def landed(self, node: OwnNode) -> RemoteObject | None:
        """The message is delivered, or failed; return the stub if nobody needs it any more."""
        with self._lock:
            node.flying -= 1
            return self._unneeded(node)

    def acquired(self, number: int) -> None:
        """The kernel holds one more reference (BR_ACQUIRE)."""
        with self._lock:
            node = self.by_number.get(number)
            if node is not None:
                node.strong += 1

    def released(self, number: int) -> RemoteObject | None:
        """The kernel gave one back (BR_RELEASE); return the stub if nobody needs it any more."""
        with self._lock:
            node = self.by_number.get(number)
            if node is None or number == 0:
                return None
            node.strong -= 1
            return self._unneeded(node)

    def _unneeded(self, node: OwnNode) -> RemoteObject | None:
        if node.strong > 0 or node.flying > 0 or self.by_number.get(node.number) is not node:
            return None
        del self.by_number[node.number]
        del self._by_stub[id(node.stub)]
        return node.stub

    def is_held(self, stub: RemoteObject) -> bool:
        """Whether any other process holds ``stub`` (the kernel does not tell how many)."""
        with self._lock:
            node = self._by_stub.get(id(stub))
            return node is not None and node.strong + node.flying > 0

    def clear(self) -> list[OwnNode]:
        """Forget everything; return what was there, to be let go by the caller."""
        with self._lock:
            nodes = list(self.by_number.values())
            self.by_number.clear()
            self._by_stub.clear()
        return nodes

    def __len__(self) -> int:
        return len(self.by_number)

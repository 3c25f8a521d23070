"""Who holds which object: exports, what each peer holds of them, what we hold of a peer. Pure tables, no I/O.

Owns: handles of our own stubs, and the counts that decide how long a stub lives; the one proxy of each object of
a peer, and how often that object was received.

How counting works: each time an object of ours travels to a peer, that peer's count goes up by one
*before* the message leaves. The peer counts how often it received the object and gives exactly that number
back when its proxy dies. A message that could not be sent is taken back. A peer's
death drops all its counts. So no order of messages can lose or double a reference.

Rules upheld: a peer can name only handles it holds; everything is bounded per peer.

Locks: exports have none, the node's table lock is held by callers that change anything; ``Imports`` has its own,
held for a few statements.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.errors import ProtocolError, QuotaError
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import ForeignObject, RemoteObject, bound_handler

if TYPE_CHECKING:
    from binderkit.ipc.driver import Connection


class Export:
    """A stub of ours that somebody may call.

    Attributes:
        stub: the object; held strongly for as long as anybody holds it.
        handle: its number for all peers.
        total: references of all peers together.
        queue, running: one-way calls that wait, and whether one is being executed.
    """

    __slots__ = ("handle", "queue", "running", "stub", "total")

    def __init__(self, stub: RemoteObject, handle: int) -> None:
        self.stub = stub
        self.handle = handle
        self.total = 0
        self.queue: deque[Any] = deque()
        self.running = False


class Held:
    """What one peer holds of one export."""

    __slots__ = ("count", "export", "handler", "stub")

    def __init__(self, export: Export) -> None:
        self.export = export
        self.stub = export.stub
        self.handler = bound_handler(export.stub)
        self.count = 0


class Exports:
    """All stubs of ours that are held by somebody, and the root object."""

    def __init__(self) -> None:
        self._by_handle: dict[int, Export] = {}
        self._by_stub: dict[int, Export] = {}
        self._next = 1
        self._next_foreign = limits.RPC_HANDLE_BASE
        self.root: Export | None = None

    def set_root(self, stub: RemoteObject) -> Export:
        """Make ``stub`` handle 0, which everybody who connects may call."""
        export = self._by_stub.get(id(stub))
        if export is None or export.handle != 0:
            export = Export(stub, 0)
        export.total += 1
        self.root = self._by_handle[0] = self._by_stub[id(stub)] = export
        return export

    def handle_of(self, stub: RemoteObject) -> int | None:
        """Return the handle of a stub that somebody holds, None when nobody does."""
        export = self._by_stub.get(id(stub))
        return None if export is None else export.handle

    def grant(self, stub: RemoteObject, held: dict[int, Held]) -> int:
        """Count one more reference of the peer whose table is ``held``; return the handle.

        Raises:
            QuotaError: the peer holds too many objects of ours and never gives one back.
        """
        export = self._by_stub.get(id(stub))
        if export is None:
            export = Export(stub, self._new_handle(stub))
            if len(held) < limits.MAX_REFERENCES_PER_PEER:
                self._by_handle[export.handle] = self._by_stub[id(stub)] = export
        return self.grant_export(export, held)

    def _new_handle(self, stub: RemoteObject) -> int:
        if isinstance(stub, ForeignObject):
            self._next_foreign += 1
            return self._next_foreign
        handle = self._next
        # The ranges never meet: it would take 687 million objects of one process.
        self._next += 1
        return handle

    def grant_export(self, export: Export, held: dict[int, Held]) -> int:
        """The same for an export that is known already."""
        entry = held.get(export.handle)
        if entry is None:
            if len(held) >= limits.MAX_REFERENCES_PER_PEER:
                raise QuotaError(
                    f"the other process holds {len(held)} objects of this one, the limit is "
                    f"{limits.MAX_REFERENCES_PER_PEER}; it must drop proxies it no longer needs"
                )
            entry = held[export.handle] = Held(export)
        entry.count += 1
        export.total += 1
        return export.handle

    def release(self, held: dict[int, Held], handle: int, count: int) -> RemoteObject | None:
        """Take ``count`` references of a peer back; return the stub if nobody holds it any more.

        Raises:
            ProtocolError: more than the peer holds.
        """
        entry = held.get(handle)
        if entry is None or not 0 < count <= entry.count:
            raise ProtocolError(f"the peer gives back {count} references to handle {handle}, which it does not hold")
        entry.count -= count
        if entry.count == 0:
            del held[handle]
        return self._drop(entry.export, count)

    def release_all(self, held: dict[int, Held]) -> list[RemoteObject]:
        """Take all references of a dead peer back; return the stubs nobody holds any more.

        The caller drops them outside its locks: their finalizers are user code.
        """
        gone = []
        for entry in held.values():
            stub = self._drop(entry.export, entry.count)
            if stub is not None:
                gone.append(stub)
        held.clear()
        return gone

    def _drop(self, export: Export, count: int) -> RemoteObject | None:
        export.total -= count
        if export.total > 0:
            return None
        self._by_handle.pop(export.handle, None)
        self._by_stub.pop(id(export.stub), None)
        return export.stub

    def __len__(self) -> int:
        return len(self._by_handle)


def _proxy_of(connection: Connection, handle: int) -> RemoteProxy:
    if handle < limits.RPC_HANDLE_BASE:
        return RemoteProxy(connection, handle)
    from binderkit.ipc.rpc_proxy import RpcProxy  # only who has objects of other devices pays for it

    return RpcProxy(connection, handle)


class _Import(weakref.ref[RemoteProxy]):
    """A proxy as the table knows it, and how often its object was received for it."""

    __slots__ = ("handle", "received")
    handle: int
    received: int


class Imports:
    """The objects of one peer that somebody here holds: one proxy each.

    The end of a proxy is told by the weak reference, not by a finalizer of its own: a finalizer runs while
    the reference still works, so another thread could get a proxy out of this table whose references are
    just being given back.
    """

    __slots__ = ("_by_handle", "_connection", "_lock", "_released")

    def __init__(self, connection: Connection, released: Callable[[int, int], None]) -> None:
        """``released(handle, count)`` is called by the collector, from any thread and inside any lock."""
        self._connection = connection
        self._released = released
        self._by_handle: dict[int, _Import] = {}
        self._lock = threading.Lock()

    def receive(self, handle: int) -> RemoteProxy:
        """Count that object ``handle`` was received once more; return its proxy.

        Raises:
            ProtocolError: too many objects.
        """
        with self._lock:
            known = self._by_handle.get(handle)
            proxy = None if known is None else known()
            if known is None or proxy is None:
                if len(self._by_handle) >= limits.MAX_REFERENCES_PER_PEER:
                    raise ProtocolError(f"the peer made us hold more than {limits.MAX_REFERENCES_PER_PEER} objects")
                proxy = _proxy_of(self._connection, handle)
                known = self._by_handle[handle] = _Import(proxy, self._gone)
                known.handle = handle
                known.received = 0
            known.received += 1
        return proxy

    def _gone(self, known: weakref.ref[RemoteProxy]) -> None:
        assert isinstance(known, _Import)
        self._released(known.handle, known.received)

    def forget(self, handle: int) -> None:
        """The references of a proxy that died are being given back."""
        with self._lock:
            known = self._by_handle.get(handle)
            if known is not None and known() is None:
                del self._by_handle[handle]

    def live(self) -> list[RemoteProxy]:
        """Return the proxies somebody holds."""
        with self._lock:
            proxies = [known() for known in self._by_handle.values()]
        return [proxy for proxy in proxies if proxy is not None]

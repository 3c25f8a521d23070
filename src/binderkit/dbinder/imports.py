"""Which objects of other devices this one holds: one stand-in each, for as long as somebody here holds it.

Owns: the table from (device, number) to the RemoteStub, and how often each object was received.

Rules upheld: identity (one stand-in per object); the last local proxy's end gives exactly the received references
back; what runs when a stand-in goes only enqueues, because the collector may run it inside any lock.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from binderkit import limits
from binderkit.dbinder.wire import ObjectRef
from binderkit.errors import ProtocolError

__all__ = ["Imports", "Returned"]

Returned = tuple[str, int, int, int]
"""Device, its generation, number of the object, references to give back."""


class _Import(weakref.ref[Any]):
    """A stand-in as the table knows it."""

    __slots__ = ("device", "generation", "object_id", "received")
    device: str
    generation: int
    object_id: int
    received: int


class Imports:
    """The stand-ins of the objects of other devices.

    Locks: ``_lock`` for a few statements; it is re-entrant because making a stand-in may run the collector.
    """

    def __init__(self, make: Callable[[ObjectRef, int], Any], returned: Callable[[Returned], None]) -> None:
        """Args:
        make: returns a new stand-in for an object of a device in that generation.
        returned: gets what is to be given back; called by the collector, from any thread and inside any lock.
        """
        self._make: Final = make
        self._returned: Final = returned
        self._by_device: dict[str, dict[int, _Import]] = {}
        self._lock = threading.RLock()

    def receive(self, reference: ObjectRef, generation: int) -> Any:
        """Count that an object was received once more; return its stand-in.

        Raises:
            ProtocolError: the device makes us hold too many objects (601).
        """
        with self._lock:
            table = self._by_device.setdefault(reference.owner, {})
            known = table.get(reference.object_id)
            stub = None if known is None else known()
            if known is None or stub is None:
                if len(table) >= limits.MAX_REFERENCES_PER_PEER:
                    raise ProtocolError(
                        f"device {reference.owner[:8]} made us hold more than {limits.MAX_REFERENCES_PER_PEER} objects"
                    )
                stub = self._make(reference, generation)
                known = _Import(stub, self._gone)
                known.device, known.object_id = reference.owner, reference.object_id
                known.generation, known.received = generation, 0
                table[reference.object_id] = known
            known.received += 1
        return stub

    def _gone(self, known: weakref.ref[Any]) -> None:
        assert isinstance(known, _Import)
        self._returned((known.device, known.generation, known.object_id, known.received))

    def forget(self, device: str, object_id: int) -> None:
        """The references of a stand-in that went are being given back."""
        with self._lock:
            table = self._by_device.get(device, {})
            known = table.get(object_id)
            if known is not None and known() is None:
                del table[object_id]
                if not table:
                    del self._by_device[device]

    def find(self, device: str, object_id: int) -> Any:
        """Return the stand-in somebody holds, None when nobody does."""
        with self._lock:
            known = self._by_device.get(device, {}).get(object_id)
        return None if known is None else known()

    def drop_device(self, device: str) -> list[Any]:
        """Forget all objects of a device that left; return the stand-ins somebody still holds."""
        with self._lock:
            table = self._by_device.pop(device, {})
            stubs = [known() for known in table.values()]
            table.clear()  # weak references that go call nobody back: there is nothing to give back any more
        return [stub for stub in stubs if stub is not None]

    def __len__(self) -> int:
        with self._lock:
            return sum(known() is not None for table in self._by_device.values() for known in table.values())

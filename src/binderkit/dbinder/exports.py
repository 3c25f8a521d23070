"""Which objects of this device other devices hold. Pure tables; whoever uses them holds their lock.

Owns: the numbers of our objects, and how often each device was given each of them.

How counting works (as in driver/tables.py): a device's count goes up by one *before* a message with the object leaves;
the device counts what it receives and gives exactly that number back; a message whose object certainly did not arrive
is taken back; when a device leaves, all its counts go. So no order of messages can lose or double a reference.

Rules upheld: a device can name only objects it was given (603 otherwise, reference 4.3); numbers start at random, so
that one of an earlier life never meets a new object; everything is bounded per device.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import ERR_NOT_AUTHORISED, DeadObjectError, ProtocolError, QuotaError, RpcLimitError

if TYPE_CHECKING:
    from binderkit.ipc.proxy import DeathRecipient
    from binderkit.ipc.remote import IRemoteObject

__all__ = ["Export", "Exports"]

_MASK: Final = 2**64 - 1


class Export:
    """An object of this device that another one holds.

    Attributes:
        target: the stub of this process, or the proxy of another one's; held for as long as a device holds the object.
        object_id: its number, for all devices; never 0.
        ability: whether it was given out as a registered system ability.
        dead: whether its process ended.
        total: references of all devices together.
        watchers: devices that are to be told of its death.
        recipient: what tells us.
    """

    __slots__ = ("__weakref__", "ability", "dead", "object_id", "recipient", "target", "total", "watchers")

    def __init__(self, target: IRemoteObject, object_id: int) -> None:
        self.target = target
        self.object_id = object_id
        self.ability = False
        self.dead = False
        self.total = 0
        self.watchers: set[str] = set()
        self.recipient: DeathRecipient | None = None


class Exports:
    """All objects of this device that other devices hold."""

    def __init__(self, *, first: int | None = None) -> None:
        """``first`` is the first number given out (tests); random by default."""
        self._ids = count(int.from_bytes(os.urandom(8), "little") if first is None else first)
        self._by_id: dict[int, Export] = {}
        self._by_target: dict[int, Export] = {}
        self._held: dict[str, dict[int, int]] = {}

    def grant(self, device: str, target: IRemoteObject) -> Export:
        """Count one more reference of ``device`` to ``target``.

        Raises:
            QuotaError: the device holds too many objects of ours and never gives one back (29201).
        """
        held = self._held.setdefault(device, {})
        export = self._by_target.get(id(target))
        known = 0 if export is None else held.get(export.object_id, 0)
        if not known and len(held) >= limits.MAX_REFERENCES_PER_PEER:
            raise QuotaError(
                f"device {device[:8]} holds {len(held)} objects of this one, the limit is "
                f"{limits.MAX_REFERENCES_PER_PEER}; it must drop proxies it no longer needs"
            )
        if export is None:
            export = Export(target, self._new_id())
            self._by_id[export.object_id] = self._by_target[id(target)] = export
        held[export.object_id] = known + 1
        export.total += 1
        return export

    def _new_id(self) -> int:
        while True:
            number = next(self._ids) & _MASK
            if number and number not in self._by_id:
                return number

    def find(self, device: str, object_id: int) -> Export:
        """Return the object of ours that ``device`` names.

        Raises:
            RpcLimitError: it was not given this object (603).
            DeadObjectError: it was, and the object's process ended since (-32).
        """
        if object_id not in self._held.get(device, ()):
            raise RpcLimitError(
                f"device {device[:8]} was not given object {object_id:#x} of this device, or gave it back; "
                "get the object anew",
                code=ERR_NOT_AUTHORISED,
            )
        export = self._by_id[object_id]
        if export.dead:
            raise DeadObjectError(f"the process of object {object_id:#x} ended; get the object anew")
        return export

    def release(self, device: str, object_id: int, number: int) -> Export | None:
        """Take ``number`` references of ``device`` back; return the export if nobody holds it any more.

        Raises:
            ProtocolError: more than the device holds (601).
        """
        held = self._held.get(device, {})
        known = held.get(object_id, 0)
        if not 0 < number <= known:
            raise ProtocolError(f"device {device[:8]} gives back {number} references to {object_id:#x}, it has {known}")
        export = self._by_id[object_id]
        if known == number:
            del held[object_id]
            export.watchers.discard(device)
            if not held:
                del self._held[device]
        else:
            held[object_id] = known - number
        return self._drop(export, number)

    def release_device(self, device: str) -> list[Export]:
        """Take everything back from a device that left; return what nobody holds any more."""
        gone = []
        for object_id, number in self._held.pop(device, {}).items():
            export = self._by_id[object_id]
            export.watchers.discard(device)
            if self._drop(export, number) is not None:
                gone.append(export)
        return gone

    def died(self, export: Export) -> list[str]:
        """The object's process ended; return the devices to tell, each once."""
        export.dead = True
        watchers = sorted(export.watchers)
        export.watchers.clear()
        # A later object could get its address; its number stays known until the devices gave it back.
        self._by_target.pop(id(export.target), None)
        return watchers

    def _drop(self, export: Export, number: int) -> Export | None:
        export.total -= number
        if export.total > 0:
            return None
        del self._by_id[export.object_id]
        if self._by_target.get(id(export.target)) is export:
            del self._by_target[id(export.target)]
        return export

    def held_by(self, device: str) -> int:
        """Return how many references ``device`` has."""
        return sum(self._held.get(device, {}).values())

    def __len__(self) -> int:
        return len(self._by_id)

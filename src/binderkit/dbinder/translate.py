"""The objects of a message <-> what stands for them between devices.

Owns: what travels instead of an object: an object of this device becomes a number the other one may call; one of the
other device, arriving, becomes a stand-in (stub.py); raw data and Ashmem become their contents.

Rules upheld (reference 0, 4.2): the limits are refused here, before anything of the message leaves, each with its
code and what to do instead; a message leaves with all of its references or with none; a device can only send objects
of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import unpack_from
from typing import TYPE_CHECKING, Protocol

from binderkit import limits
from binderkit.dbinder.wire import Memory, ObjectRef, Value
from binderkit.errors import (
    ERR_NOT_TRANSLATABLE,
    AshmemError,
    InvalidObjectError,
    ParcelWriteError,
    ProtocolError,
    RpcLimitError,
    TooBigError,
)
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import ForeignObject, RemoteObject
from binderkit.ipc.rpc_proxy import RpcProxy, is_shared_memory
from binderkit.memory import pool
from binderkit.memory.ashmem import Ashmem
from binderkit.memory.pool import Slot
from binderkit.parcel.objects import (
    KIND_BLOB,
    KIND_FD,
    KIND_REMOTE,
    RECORD_SIZE,
    OwnedFd,
    SlotHold,
    release_dropped_slots,
    view_holding,
)

if TYPE_CHECKING:
    from binderkit.dbinder.exports import Export
    from binderkit.ipc.remote import IRemoteObject
    from binderkit.parcel import MessageSequence

__all__ = ["BulkPort", "Packed", "Translator", "Unpacked", "data_area"]

Objects = dict[int, tuple[int, object]]


class BulkPort(Protocol):
    """What carries memory that is too large for a message (softbus/bulk.py)."""

    def put(self, udid: str, data: memoryview) -> bytes:
        """Offer ``data`` to a device; return the ticket it takes it with."""

    def drop(self, ticket: bytes) -> bool:
        """Forget what nobody will take."""

    def take(self, source: str, ticket: bytes, *, into: Callable[[int], memoryview] | None = None) -> memoryview:
        """Return what ``source`` offers under ``ticket``, in the memory that ``into(size)`` returns."""


class Tables(Protocol):
    """Who holds what (service.py)."""

    def grant(self, device: str, target: IRemoteObject) -> Export:
        """Count one more reference of a device to an object of ours."""

    def take_back(self, device: str, granted: list[int]) -> None:
        """Undo grants."""

    def receive(self, reference: ObjectRef, generation: int) -> ForeignObject:
        """Count one more reference of ours to an object of a device; return its stand-in."""

    def give_back(self, device: str, object_id: int, generation: int) -> None:
        """Give one reference back that was not received."""


@dataclass(slots=True)
class Unpacked:
    """The objects of a received message, and the hold on the shared memory that raw data was fetched into."""

    objects: Objects = field(default_factory=dict)
    hold: SlotHold | None = None

    def fill(self, sequence: MessageSequence, data: bytes | bytearray | memoryview) -> None:
        """Turn ``sequence`` into a received one with this data area and these objects."""
        sequence._load(data, self.objects or None)
        sequence._blob = self.hold


@dataclass(slots=True)
class Packed:
    """A data area and what stands for its objects; ``granted`` are our objects the other device was given by it."""

    data: bytes | bytearray | memoryview
    objects: dict[int, Value] = field(default_factory=dict)
    granted: list[int] = field(default_factory=list)

    def tickets(self) -> list[bytes]:
        """Return the tickets of memory that waits to be fetched."""
        return [bytes(v.content) for v in self.objects.values() if isinstance(v, Memory) and v.is_ticket]


class Translator:
    """Translates for one device (this one); whose objects they are is the caller's table."""

    def __init__(self, udid: str, bulk: BulkPort, tables: Tables) -> None:
        """``udid`` is this device; ``tables`` count what goes and comes."""
        self._udid = udid
        self._bulk = bulk
        self._tables = tables

    def pack(self, device: str, sequence: MessageSequence, *, ability: bool = False) -> Packed:
        """Return what of ``sequence`` goes to ``device``; its objects are counted for that device.

        Args:
            ability: the objects are registered system abilities, whose death is told.

        Raises:
            RpcLimitError: a proxy that may not go there (505), or a file descriptor (507).
            TooBigError: too much data, or too many objects (1900009).
            DeadObjectError, QuotaError, InvalidObjectError: see their texts. Nothing stays behind.
        """
        packed = Packed(data_area(sequence))
        size = len(packed.data)
        if size > limits.RPC_DATA:
            raise TooBigError(
                f"{size} bytes of data for another device, the limit is {limits.RPC_DATA}; send large parts as raw "
                f"data (up to {limits.MAX_RAW_DATA} bytes) or in an Ashmem"
            )
        room = limits.RPC_DATA - size
        try:
            for offset, (kind, value) in (sequence._objects or {}).items():
                if kind == KIND_REMOTE:
                    packed.objects[offset] = self._pack_object(device, value, packed.granted, ability)
                    continue
                memory = self._pack_memory(device, packed.data, offset, value, room)
                room -= len(memory.content)
                packed.objects[offset] = memory
        except BaseException:
            self.undo(device, packed)
            raise
        return packed

    def undo(self, device: str, packed: Packed) -> None:
        """The message did not leave: take back what it gave to ``device``."""
        self._tables.take_back(device, packed.granted)
        for ticket in packed.tickets():
            self._bulk.drop(ticket)

    def _pack_object(self, device: str, value: object, granted: list[int], ability: bool) -> ObjectRef:
        if isinstance(value, ForeignObject):
            raise _may_not_travel(value, device)
        if isinstance(value, RpcProxy) or not isinstance(value, (RemoteObject, RemoteProxy)):
            raise InvalidObjectError(f"{value!r} is not an object of this device and cannot be sent to another one")
        export = self._tables.grant(device, value)
        granted.append(export.object_id)
        if ability:
            export.ability = True
        known = value._descriptor or ""
        return ObjectRef(self._udid, export.object_id, export.ability, known)

    def _pack_memory(
        self, device: str, data: bytes | bytearray | memoryview, offset: int, value: object, room: int
    ) -> Memory:
        if isinstance(value, OwnedFd):
            return self._pack_shared(device, data, offset, value, room)
        (size,) = unpack_from("<i", data, offset - 4)
        # The view keeps the memory from being reused until the other device took it.
        view = view_holding(value, size) if isinstance(value, Slot) else value
        assert isinstance(view, memoryview)
        return self._memory(device, view[:size], room, ashmem=False, read_only=True)

    def _pack_shared(
        self, device: str, data: bytes | bytearray | memoryview, offset: int, value: OwnedFd, room: int
    ) -> Memory:
        if not is_shared_memory(data, offset, value):
            raise RpcLimitError(
                "a file descriptor cannot go to another device; send the file's contents (raw data up to 128 MiB, or "
                "an Ashmem), or open a SoftBus session for a stream",
                code=ERR_NOT_TRANSLATABLE,
            )
        (size,) = unpack_from("<i", data, offset + RECORD_SIZE)
        if size > limits.MAX_RAW_DATA:
            raise TooBigError(
                f"an Ashmem of {size} bytes for another device, the limit is {limits.MAX_RAW_DATA}; send it in parts"
            )
        try:
            ashmem = Ashmem._from_fd(value.dup(), size)
        except AshmemError as error:
            raise ParcelWriteError(f"the Ashmem cannot be sent: {error}") from error
        try:
            ashmem.map_readonly_ashmem()
            content = memoryview(ashmem.read_data_from_ashmem(size, 0))
            read_only = not ashmem._protection() & Ashmem.PROT_WRITE
        finally:
            ashmem.close_ashmem()
        return self._memory(device, content, room, ashmem=True, read_only=read_only)

    def _memory(self, device: str, view: memoryview, room: int, *, ashmem: bool, read_only: bool) -> Memory:
        size = view.nbytes
        if size <= min(room, limits.RPC_INLINE_BLOB):
            return Memory(size, view, False, ashmem, read_only)
        return Memory(size, self._bulk.put(device, view), True, ashmem, read_only)

    def unpack(self, device: str, objects: dict[int, Value], generation: int) -> Unpacked:
        """Return the objects of a message of ``device`` as a sequence of this process carries them.

        Args:
            generation: of the device, for the stand-ins that are made.

        Raises:
            ProtocolError: an object of another device, or memory that is not what was announced (601).
            DeadObjectError, CallTimeoutError, QuotaError: memory could not be fetched.
        """
        unpacked = Unpacked()
        found = unpacked.objects
        try:
            # Memory first: fetching it can fail, and objects that were counted would have to be given back.
            for offset, value in objects.items():
                if isinstance(value, Memory):
                    found[offset] = self._unpack_memory(device, value, unpacked)
                elif value.owner != device:
                    raise ProtocolError(f"device {device[:8]} sends an object of device {value.owner[:8]}")
            for offset, value in objects.items():
                if isinstance(value, ObjectRef):
                    found[offset] = KIND_REMOTE, self._tables.receive(value, generation)
        except BaseException:
            for _, taken in found.values():
                if isinstance(taken, OwnedFd):
                    taken.close()
            for offset, value in objects.items():
                # Those that were received go back when their stand-ins go; nobody else gives these back.
                if isinstance(value, ObjectRef) and value.owner == device and offset not in found:
                    self._tables.give_back(device, value.object_id, generation)
            raise
        unpacked.objects = dict(sorted(found.items()))
        return unpacked

    def _unpack_memory(self, device: str, memory: Memory, unpacked: Unpacked) -> tuple[int, object]:
        if memory.ashmem:
            return KIND_FD, self._unpack_shared(device, memory)
        if memory.is_ticket and unpacked.hold is None:
            # Straight into what the driver passes on: the raw data of a sequence is copied once on this device.
            release_dropped_slots()  # of earlier calls: nobody else in this process looks after them
            slot = pool.take(memory.size)
            unpacked.hold = SlotHold(slot)
            self._fetch(device, memory, lambda size: slot.buffer[:size])
            return KIND_BLOB, slot
        content = self._fetch(device, memory, None) if memory.is_ticket else memoryview(memory.content)
        return KIND_BLOB, content.toreadonly()

    def _unpack_shared(self, device: str, memory: Memory) -> OwnedFd:
        ashmem = Ashmem.create("binderkit-rpc", memory.size)
        try:
            ashmem.map_read_write_ashmem()
            if memory.is_ticket:
                self._fetch(device, memory, lambda size: ashmem.view()[:size])
            else:
                ashmem.write_data_to_ashmem(memory.content, memory.size, 0)
            ashmem.unmap_ashmem()
            if memory.read_only:
                ashmem.set_protection_type(Ashmem.PROT_READ)
            return OwnedFd(ashmem._dup())
        finally:
            ashmem.close_ashmem()

    def _fetch(self, device: str, memory: Memory, into: Callable[[int], memoryview] | None) -> memoryview:
        def checked(size: int) -> memoryview:
            if size != memory.size:
                raise ProtocolError(f"{memory.size} bytes of memory were announced, the ticket says {size}")
            return into(size) if into is not None else memoryview(bytearray(size))

        view = self._bulk.take(device, bytes(memory.content), into=checked)
        if view.nbytes != memory.size:
            raise ProtocolError(f"{memory.size} bytes of memory were announced, {view.nbytes} came")
        return view


def data_area(sequence: MessageSequence) -> bytes | bytearray | memoryview:
    """Return the data area of a sequence that is to be sent.

    Raises:
        ParcelWriteError: it was reclaimed (1900009).
    """
    data: bytes | bytearray | memoryview | None = sequence._in if sequence._out is None else sequence._out
    if data is None:
        raise ParcelWriteError("the sequence was reclaimed and cannot be sent; create a new one")
    return data


def _may_not_travel(value: ForeignObject, device: str) -> RpcLimitError:
    """Return the error of sending an object of another device to a device (reference 0, C3)."""
    if getattr(value, "device", "") == device:
        return RpcLimitError(
            f"{value!r} lives on device {device[:8]}, to which it cannot be sent back; send what tells that device "
            "which of its own objects is meant, e.g. a name or number it gave you"
        )
    return RpcLimitError(
        f"{value!r} belongs to another device and cannot be sent on to device {device[:8]}; let that device get it "
        "from its owner, or offer an object of your own that forwards"
    )

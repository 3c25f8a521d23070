"""A message for the device, and from it: the data area, objects <-> flat objects, and what we add behind the data.

Owns: ``place`` (a sequence becomes data and offsets in the thread's buffer) and ``accept`` (what the kernel wrote into
the mapping becomes data and objects of a sequence). An own object travels as pointer and cookie of its node, another's
as the handle we have for it, a descriptor as its number; the kernel translates each for the receiver. A block of raw
data travels as a descriptor of shared memory that is made for it: nobody else ever sees that memory, and its size and
contents are sealed.

A large data area that the receiver's mapping of 1 MiB has no room for travels the same way between processes of this
package (TF_SHARED_BODY). What goes through the mapping then is: the memory's descriptor and the objects, one behind
the other; an offset in the data area for each of those objects (u64); the trailer.

Rules upheld: a message leaves with all of its objects or with none; every descriptor that arrived has an owner before
anything can fail; blocks are read only from memory that cannot shrink.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.kernel import protocol as p
from binderkit.errors import (
    DeadObjectError,
    InvalidObjectError,
    MmapError,
    ParcelWriteError,
    ProtocolError,
    TooBigError,
)
from binderkit.ipc.proxy import RemoteProxy, passed_on
from binderkit.ipc.remote import ForeignObject, RemoteObject
from binderkit.memory.pool import Slot
from binderkit.parcel.objects import KIND_BLOB, KIND_FD, KIND_REMOTE, OwnedFd

if TYPE_CHECKING:
    from binderkit.driver.kernel.device import Channel
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.driver.kernel.target import Target
    from binderkit.parcel import MessageSequence

Objects = dict[int, tuple[int, object]]
Placed = tuple[int, int, int, int]
"""Size and address of the data, size and address of the offsets."""
_pack_object = p.OBJECT.pack_into
_unpack_object = p.OBJECT.unpack_from
_pack_trailer = p.TRAILER.pack_into
_pack_offset = p.POINTER.pack_into
_OWN_FLAGS = p.NODE_FLAGS | p.NODE_OURS
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def place(
    node: KernelNode,
    channel: Channel,
    sequence: MessageSequence,
    trailer: p.Trailer | None,
    receiver: Target | int,
) -> Placed:
    """Put a message into the thread's buffer; return size and address of its data, size and address of its offsets.

    What must outlive the message's way is in ``channel.sent`` and ``channel.held``.

    Args:
        receiver: the object that is called; the pid of the caller that is answered.

    Raises:
        ParcelWriteError, TooBigError, InvalidObjectError, DeadObjectError, MmapError: see their texts; nothing is sent.
        RpcLimitError: an object of another device would go to a process that does not speak for it (510).
    """
    data = _data_of(sequence)
    objects = sequence._objects
    size = len(data)
    if not objects and trailer is None:
        _, address = channel.place(data, size)
        return size, address, 0, 0
    count = len(objects) if objects else 0
    offsets_at = size + p.TRAILER_SIZE + 7 & ~7
    view, address = channel.place(data, offsets_at + 8 * count)
    try:
        if objects:
            _check_counts(objects)
            at = offsets_at
            for offset, (kind, value) in objects.items():
                _pack_object(view, offset, *_flat(node, channel, data, offset, kind, value, receiver))
                _pack_offset(view, at, offset)
                at += 8
    except BaseException:
        node.settle(channel)
        raise
    if trailer is not None:
        _pack_trailer(view, size, *trailer)
        size += p.TRAILER_SIZE
    return size, address, 8 * count, address + offsets_at


def _check_counts(objects: Objects) -> None:
    if len(objects) >= limits.MAX_OBJECTS_PER_MESSAGE:
        raise TooBigError(
            f"{len(objects)} objects in one message, the limit is {limits.MAX_OBJECTS_PER_MESSAGE - 1}; "
            "send them in several calls"
        )
    if sum(kind == KIND_FD for kind, _ in objects.values()) > limits.MAX_FDS_PER_MESSAGE:
        raise TooBigError(
            f"more than {limits.MAX_FDS_PER_MESSAGE} descriptors in one message; send them in several calls"
        )


def place_shared(
    node: KernelNode,
    channel: Channel,
    sequence: MessageSequence,
    trailer: p.Trailer | None,
    receiver: Target | int,
) -> Placed:
    """Do what ``place`` does, with the data area in shared memory; the flag TF_SHARED_BODY goes with it."""
    data = _data_of(sequence)
    objects = sequence._objects or {}
    count = len(objects) + 1
    size = count * p.OBJECT_SIZE + 8 * len(objects)
    offsets_at = size + p.TRAILER_SIZE
    view, address = channel.place(b"", offsets_at + 8 * count)
    try:
        _check_counts(objects)
        _pack_object(view, 0, *_shared(channel, memoryview(data)))
        _pack_offset(view, offsets_at, 0)
        for number, (offset, (kind, value)) in enumerate(objects.items()):
            at = (number + 1) * p.OBJECT_SIZE
            _pack_object(view, at, *_flat(node, channel, data, offset, kind, value, receiver))
            _pack_offset(view, count * p.OBJECT_SIZE + 8 * number, offset)
            _pack_offset(view, offsets_at + 8 * (number + 1), at)
    except BaseException:
        node.settle(channel)
        raise
    if trailer is not None:
        _pack_trailer(view, size, *trailer)
        size += p.TRAILER_SIZE
    return size, address, 8 * count, address + offsets_at


def size_of(sequence: MessageSequence) -> int:
    """Return the bytes of the data area."""
    return len(_data_of(sequence))


def _data_of(sequence: MessageSequence) -> bytes | bytearray | memoryview:
    data = sequence._in if sequence._out is None else sequence._out
    if data is None:
        raise ParcelWriteError("the sequence was reclaimed and cannot be sent; create a new one")
    return data


def _flat(
    node: KernelNode,
    channel: Channel,
    data: bytes | bytearray | memoryview,
    offset: int,
    kind: int,
    value: Any,
    receiver: Target | int,
) -> tuple[int, int, int, int]:
    """Return the fields of an object for the kernel."""
    if kind == KIND_REMOTE:
        return _flat_remote(node, channel, value, receiver)
    if kind == KIND_FD:
        channel.held.append(value)
        return p.TYPE_FD, 0, value.fileno(), 0
    if isinstance(value, Slot):
        (size,) = struct.unpack_from("<i", data, offset - 4)
        value = value.view(size)
    return _shared(channel, value)


def _flat_remote(node: KernelNode, channel: Channel, value: Any, receiver: Target | int) -> tuple[int, int, int, int]:
    if isinstance(value, RemoteObject):
        own = node.nodes.send(value)
        channel.sent.append(own)
        flags = _OWN_FLAGS | p.NODE_FOREIGN if isinstance(value, ForeignObject) else _OWN_FLAGS
        return p.TYPE_BINDER, flags, own.number, own.number
    target: Any = value._connection if isinstance(value, RemoteProxy) else None
    if getattr(target, "node", None) is not node:
        raise InvalidObjectError(f"{value!r} belongs to another driver and cannot be passed on here")
    if target.is_dead:
        raise DeadObjectError(f"{value!r} is dead and cannot be passed on")
    if target.flags & p.NODE_FOREIGN and not _is_home(target, receiver):
        raise passed_on(value)
    channel.held.append(value)
    return p.TYPE_HANDLE, p.NODE_FLAGS | target.flags, target.handle, 0


def _is_home(target: Target, receiver: Target | int) -> bool:
    """Whether a message goes to the process that an object belongs to (as that process says: nobody else knows)."""
    pid = receiver if isinstance(receiver, int) else receiver.caller.pid
    return pid > 0 and target.caller.pid == pid


def _shared(channel: Channel, block: memoryview) -> tuple[int, int, int, int]:
    memory = _share(block)
    channel.held.append(memory)
    return p.TYPE_FD, 0, memory.fileno(), p.BLOB_COOKIE


def _share(block: memoryview) -> OwnedFd:
    """Return shared memory with a copy of ``block``, sealed."""
    try:
        shared = OwnedFd(os.memfd_create("binderkit-block", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        at = 0
        while at < len(block):
            at += os.write(shared.fileno(), block[at:])
        fcntl.fcntl(shared.fileno(), fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        raise MmapError(f"cannot create {len(block)} bytes of shared memory: {error}") from error
    return shared


def accept(
    node: KernelNode, channel: Channel, transaction: tuple[int, ...]
) -> tuple[bytes, Objects | None, p.Trailer | None]:
    """Return data area, objects and trailer of a received message; the caller frees its buffer afterwards, always.

    Raises:
        ProtocolError: it names an object of ours that is none. QuotaError: we hold too many objects.
            Everything that came with the message is given back.
    """
    flags, size, offsets_size, address, offsets = transaction[3], *transaction[6:10]
    memory, base = node.device.memory, node.device.base
    start = address - base
    body = bytes(memory[start : start + size])
    objects = _accept_objects(node, channel, body, memory, offsets - base, offsets_size) if offsets_size else None
    if not flags & (p.TF_TRAILER | p.TF_SHARED_BODY):
        return body, objects, None
    trailer: p.Trailer | None = None
    if flags & p.TF_TRAILER:
        if size < p.TRAILER_SIZE:
            raise ProtocolError(f"a message of {size} bytes announces a trailer of {p.TRAILER_SIZE}")
        trailer = p.TRAILER.unpack_from(body, size - p.TRAILER_SIZE)
        body = body[: -p.TRAILER_SIZE]
    if flags & p.TF_SHARED_BODY:
        body, objects = _unshared(body, objects or {})
    return body, objects, trailer


def _unshared(table: bytes, objects: Objects) -> tuple[bytes, Objects | None]:
    """Return the data area that travelled in shared memory, and its objects where they stand in it.

    Raises:
        ProtocolError: the table is none.
    """
    kind, block = objects.pop(0, (0, None))
    count = len(objects)
    if kind != KIND_BLOB or list(objects) != list(range(p.OBJECT_SIZE, (count + 1) * p.OBJECT_SIZE, p.OBJECT_SIZE)):
        raise ProtocolError("a message says its data area is shared memory, and has none or other objects before it")
    if len(table) != (count + 1) * p.OBJECT_SIZE + 8 * count:
        raise ProtocolError(f"{len(table)} bytes of table for {count} objects of a data area in shared memory")
    offsets = struct.unpack_from(f"={count}Q", table, (count + 1) * p.OBJECT_SIZE)
    assert isinstance(block, memoryview)
    if len(block) > limits.MAX_CAPACITY:
        raise ProtocolError(f"a data area of {len(block)} bytes in shared memory, the limit is {limits.MAX_CAPACITY}")
    # A copy: what a handler reads must not depend on how long the memory stays mapped.
    return bytes(block), dict(zip(offsets, objects.values(), strict=True)) or None


def _accept_objects(
    node: KernelNode, channel: Channel, body: bytes, memory: memoryview, at: int, size: int
) -> Objects | None:
    offsets = struct.unpack_from(f"={size // 8}Q", memory, at)
    rows = [(offset, *_unpack_object(body, offset)) for offset in offsets]
    # First of all, every descriptor gets its owner: whatever is wrong with the rest, none stays open.
    owned = {offset: OwnedFd(value & 0xFFFFFFFF) for offset, kind, _, value, _ in rows if kind == p.TYPE_FD}
    objects: Objects = {}
    for offset, kind, flags, value, cookie in rows:
        if kind == p.TYPE_HANDLE:
            objects[offset] = KIND_REMOTE, node.targets.receive(channel, value & 0xFFFFFFFF, flags)
        elif kind == p.TYPE_BINDER:
            own = node.nodes.by_number.get(value)
            if own is None:
                raise ProtocolError(f"the binder device brought object {value} home, which this process does not have")
            objects[offset] = KIND_REMOTE, own.stub
        elif kind == p.TYPE_FD:
            fd = owned[offset]
            objects[offset] = (KIND_BLOB, _block(fd)) if cookie == p.BLOB_COOKIE else (KIND_FD, fd)
    return dict(sorted(objects.items())) or None


def _block(fd: OwnedFd) -> memoryview:
    """Return a read-only view of a received block; the memory goes with the last view of it.

    Raises:
        ProtocolError: it is no shared memory, too large, or its size is not sealed (a shrinking file would crash us).
    """
    with fd:
        try:
            size = os.fstat(fd.fileno()).st_size
            seals = fcntl.fcntl(fd.fileno(), fcntl.F_GET_SEALS)
            if not seals & fcntl.F_SEAL_SHRINK or not 0 < size <= limits.MAX_RAW_DATA:
                raise ProtocolError(f"a block of raw data of {size} bytes whose size is not sealed, or too large")
            return memoryview(mmap.mmap(fd.fileno(), size, prot=mmap.PROT_READ))
        except OSError as error:
            raise ProtocolError(f"a block of raw data that cannot be mapped: {error}") from None

"""A message for the device, and from it: the data area, objects <-> flat objects, and what we add behind the data.

Owns: ``place`` (a sequence becomes data and offsets in the thread's buffer) and ``accept`` (what the kernel wrote into
the mapping becomes data and objects of a sequence). An own object travels as pointer and cookie of its node, another's
as the handle we have for it, a descriptor as its number; the kernel translates each for the receiver. A block of raw
data travels as a descriptor of shared memory that is made for it: nobody else ever sees that memory, and its size and
contents are sealed.

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
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import RemoteObject
from binderkit.memory.pool import Slot
from binderkit.parcel.objects import KIND_BLOB, KIND_FD, KIND_REMOTE, OwnedFd

if TYPE_CHECKING:
    from binderkit.driver.kernel.device import Channel
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.parcel import MessageSequence

Objects = dict[int, tuple[int, object]]
_pack_object = p.OBJECT.pack_into
_unpack_object = p.OBJECT.unpack_from
_pack_trailer = p.TRAILER.pack_into
_pack_offset = p.POINTER.pack_into
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def place(
    node: KernelNode, channel: Channel, sequence: MessageSequence, trailer: p.Trailer | None
) -> tuple[int, int, int, int]:
    """Put a message into the thread's buffer; return size and address of its data, size and address of its offsets.

    What must outlive the message's way is in ``channel.sent`` and ``channel.held``.

    Raises:
        ParcelWriteError, TooBigError, InvalidObjectError, DeadObjectError, MmapError: see their texts; nothing is sent.
    """
    data = sequence._in if sequence._out is None else sequence._out
    if data is None:
        raise ParcelWriteError("the sequence was reclaimed and cannot be sent; create a new one")
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
                _place_one(node, channel, view, offset, kind, value)
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


def _place_one(node: KernelNode, channel: Channel, view: memoryview, offset: int, kind: int, value: Any) -> None:
    if kind == KIND_REMOTE:
        if isinstance(value, RemoteObject):
            own = node.nodes.send(value)
            channel.sent.append(own)
            _pack_object(view, offset, p.TYPE_BINDER, p.NODE_FLAGS, own.number, own.number)
            return
        target: Any = value._connection if isinstance(value, RemoteProxy) else None
        if getattr(target, "node", None) is not node:
            raise InvalidObjectError(f"{value!r} belongs to another driver and cannot be passed on here")
        if target.is_dead:
            raise DeadObjectError(f"{value!r} is dead and cannot be passed on")
        channel.held.append(value)
        _pack_object(view, offset, p.TYPE_HANDLE, p.NODE_FLAGS, target.handle, 0)
        return
    if kind == KIND_FD:
        channel.held.append(value)
        _pack_object(view, offset, p.TYPE_FD, 0, value.fileno(), 0)
        return
    if isinstance(value, Slot):
        (size,) = struct.unpack_from("<i", view, offset - 4)
        value = value.view(size)
    block = _share(value)
    channel.held.append(block)
    _pack_object(view, offset, p.TYPE_FD, 0, block.fileno(), p.BLOB_COOKIE)


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
    if not flags & p.TF_TRAILER:
        return body, objects, None
    if size < p.TRAILER_SIZE:
        raise ProtocolError(f"a message of {size} bytes announces a trailer of {p.TRAILER_SIZE}")
    trailer: p.Trailer = p.TRAILER.unpack_from(body, size - p.TRAILER_SIZE)
    return body[: -p.TRAILER_SIZE], objects, trailer


def _accept_objects(
    node: KernelNode, channel: Channel, body: bytes, memory: memoryview, at: int, size: int
) -> Objects | None:
    offsets = struct.unpack_from(f"={size // 8}Q", memory, at)
    rows = [(offset, *_unpack_object(body, offset)) for offset in offsets]
    # First of all, every descriptor gets its owner: whatever is wrong with the rest, none stays open.
    owned = {offset: OwnedFd(value & 0xFFFFFFFF) for offset, kind, _, value, _ in rows if kind == p.TYPE_FD}
    objects: Objects = {}
    for offset, kind, _, value, cookie in rows:
        if kind == p.TYPE_HANDLE:
            objects[offset] = KIND_REMOTE, node.targets.receive(channel, value & 0xFFFFFFFF)
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

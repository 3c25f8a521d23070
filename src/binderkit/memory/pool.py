"""Pooled shared memory for large bodies: one memfd, mapped once by each side, reused.

Owns: the slots this process sends from (``take``) and the mappings of slots
other processes send to us (``Mapping``). Why a pool: fresh shared memory per
message costs more than two copies through a socket at every size; a reused
slot costs one copy, or none when built in place.

Rules upheld:
* A slot is shared with one peer at most, ever: what was written for one
  process can never be read by another. ``Slot.shared_with`` says with whom.
* The size is sealed and the receiver can only map read-only
  (F_SEAL_SHRINK | GROW | FUTURE_WRITE | SEAL); the receiver checks the seals,
  because a shrinking file would crash it.
* A slot goes back to the pool when nobody holds it: neither the message that
  was written nor a receiver that still looks at it (``hold``/``release``).
* Finalizers only enqueue (``Mapping.view`` takes the callback).

Locks: ``_lock`` guards the free lists and the hold counts; never held while calling out.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from binderkit import limits
from binderkit.errors import MmapError, ProtocolError, QuotaError

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | 0x0010 | fcntl.F_SEAL_SEAL
"""0x0010 is F_SEAL_FUTURE_WRITE, which the fcntl module does not name."""

_lock = threading.Lock()
_free: dict[int, list[Slot]] = {size: [] for size in limits.SLOT_CLASSES}
_total = 0
_generation = 0
"""Goes up in a forked child: slots of the parent are the parent's memory and never reused here."""


class Slot:
    """A piece of shared memory of this process, to write a large body into.

    Attributes:
        size: bytes (one of limits.SLOT_CLASSES).
        buffer: writable view of the whole slot.
        fd: the memfd (owned by the slot).
        shared_with: the peer that has mapped it, None before the first send.
        index: the slot's number at that peer.
    """

    __slots__ = ("__weakref__", "_generation", "_holds", "_map", "buffer", "fd", "index", "shared_with", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.shared_with: object | None = None
        self.index = -1
        self._holds = 1
        self._generation = _generation
        try:
            self.fd = os.memfd_create("binderkit-slot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise MmapError(f"cannot create {size} bytes of shared memory: {error}") from error
        try:
            os.ftruncate(self.fd, size)
            self._map = mmap.mmap(self.fd, size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        except (OSError, ValueError) as error:
            os.close(self.fd)
            raise MmapError(f"cannot map {size} bytes of shared memory: {error}") from error
        self.buffer = memoryview(self._map)

    def view(self, size: int) -> memoryview:
        """Return a read-only view of the first ``size`` bytes."""
        return self.buffer[:size].toreadonly()

    def hold(self) -> None:
        """Keep the slot from being reused until one more ``release``."""
        with _lock:
            self._holds += 1

    def release(self) -> None:
        """Give up one hold; the last one puts the slot back into the pool."""
        global _total
        with _lock:
            self._holds -= 1
            if self._holds != 0 or self._generation != _generation:
                return
            if self.fd >= 0:
                _free[self.size].append(self)
            else:
                # The collector finalized the slot together with its holder, whose finalizer brought it back.
                _total -= self.size

    def discard(self) -> None:
        """Close the memory for good (the peer it was shared with is gone)."""
        _forget(self.size)
        self._close()

    def _close(self) -> None:
        os.close(self.fd)
        self.fd = -1
        # Views a user still holds keep the pages; the map goes with the last of them.
        self.buffer = memoryview(b"")

    def __del__(self) -> None:
        fd = getattr(self, "fd", -1)
        if fd >= 0:
            self.fd = -1
            os.close(fd)

    def __repr__(self) -> str:
        return f"<Slot {self.size} bytes index={self.index} shared_with={self.shared_with!r} holds={self._holds}>"


def _forget(size: int) -> None:
    global _total
    with _lock:
        _total -= size


def size_class(size: int) -> int:
    """Return the smallest slot size that takes ``size`` bytes.

    Raises:
        QuotaError: larger than the largest slot.
    """
    for candidate in limits.SLOT_CLASSES:
        if size <= candidate:
            return candidate
    raise QuotaError(f"{size} bytes do not fit into shared memory slots of at most {limits.SLOT_CLASSES[-1]} bytes")


def take(size: int, peer: object | None = None) -> Slot:
    """Return a slot of at least ``size`` bytes, held once by the caller.

    Args:
        size: bytes needed.
        peer: when given, only a slot that is shared with nobody or with this
            peer; otherwise the most recently used one (the next message most
            likely goes where the last one went).

    Raises:
        QuotaError: over limits.MAX_POOLED in flight, or larger than the largest slot.
        MmapError: the system has no memory.
    """
    global _total
    wanted = size_class(size)
    with _lock:
        free = _free[wanted]
        for at in range(len(free) - 1, -1, -1):
            if peer is None or free[at].shared_with in (None, peer):
                slot = free.pop(at)
                slot._holds = 1
                return slot
        if _total + wanted > limits.MAX_POOLED:
            _trim_locked(wanted)
        if _total + wanted > limits.MAX_POOLED:
            raise QuotaError(
                f"{_total} bytes of shared memory are in flight, the limit is {limits.MAX_POOLED}; "
                "let receivers drop their views, or reclaim sequences that are no longer needed"
            )
        _total += wanted
    try:
        return Slot(wanted)
    except BaseException:
        _forget(wanted)
        raise


def _trim_locked(needed: int) -> None:
    """Close idle slots until ``needed`` bytes fit under the limit."""
    global _total
    for slots in _free.values():
        while slots and _total + needed > limits.MAX_POOLED:
            slot = slots.pop(0)
            _total -= slot.size
            slot._close()


def forget_peer(peer: object) -> None:
    """Close idle slots that are shared with ``peer`` (it is gone)."""
    global _total
    with _lock:
        for size, slots in _free.items():
            keep = []
            for slot in slots:
                if slot.shared_with is not peer:
                    keep.append(slot)
                    continue
                _total -= size
                slot._close()
            _free[size] = keep


def statistics() -> dict[str, int]:
    """Return ``bytes`` (all slots) and ``idle`` (slots ready for reuse)."""
    with _lock:
        return {"bytes": _total, "idle": sum(len(slots) for slots in _free.values())}


def trim() -> None:
    """Close every idle slot."""
    global _total
    with _lock:
        for slots in _free.values():
            while slots:
                slot = slots.pop()
                _total -= slot.size
                slot._close()


class Mapping:
    """A slot of another process, mapped read-only here for as long as the peer lives.

    ctypes is imported on first use: a process that never receives a large body does not pay for it.
    """

    __slots__ = ("_address", "_array", "_ref", "_size", "_unmap")

    def __init__(self, fd: int, size: int) -> None:
        """Map ``fd`` after checking what the peer claims about it (takes no ownership of ``fd``).

        Raises:
            ProtocolError: not a memfd of a known size with sealed size.
            MmapError: the system cannot map it.
        """
        if size not in limits.SLOT_CLASSES:
            raise ProtocolError(f"a shared slot of {size} bytes; sizes are {limits.SLOT_CLASSES}")
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError as error:
            raise ProtocolError(f"the descriptor of a shared slot is not a memfd: {error}") from error
        if not seals & fcntl.F_SEAL_SHRINK or os.fstat(fd).st_size != size:
            raise ProtocolError("a shared slot whose size is not sealed, or differs from what was announced")
        self._size = size
        self._array, self._address, self._unmap = _map_readonly(fd, size)
        self._ref: weakref.ref[Any] | None = None

    def view(self, size: int, released: Callable[[], None]) -> memoryview:
        """Return a read-only view of the first ``size`` bytes.

        ``released`` is called once when the last slice, cast or array made
        from the view is gone: from any thread, so it may only enqueue.

        Raises:
            ProtocolError: the peer reused the slot while a view exists, or lies about the size.
        """
        if size > self._size:
            raise ProtocolError(f"{size} bytes announced in a shared slot of {self._size}")
        if self._ref is not None and self._ref() is not None:
            raise ProtocolError("the peer sent a shared slot again that is still in use here")
        # A weakref to a memoryview would die while slices of it live; the ctypes array is what they all keep.
        array = self._array.from_address(self._address)
        array.mapping = self
        self._ref = weakref.ref(array, lambda _: released())
        return memoryview(array).cast("B").toreadonly()[:size]

    @property
    def in_use(self) -> bool:
        """Whether somebody here still holds a view."""
        return self._ref is not None and self._ref() is not None

    def __del__(self) -> None:
        unmap = getattr(self, "_unmap", None)
        if unmap is not None:
            unmap(self._address, self._size)


_arrays: dict[int, Any] = {}
_libc: Any = None


def _map_readonly(fd: int, size: int) -> tuple[Any, int, Callable[[int, int], int]]:
    """mmap through libc, because ctypes needs the address and a read-only mmap object does not give it."""
    global _libc
    import ctypes

    if _libc is None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_long,
        )
        libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        _libc = libc
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise MmapError(f"cannot map {size} bytes: {os.strerror(ctypes.get_errno())}")
    array = _arrays.get(size)
    if array is None:
        array = _arrays[size] = ctypes.c_char * size
    return array, address, _libc.munmap


def _after_fork() -> None:
    global _lock, _total, _generation
    _lock = threading.Lock()
    _generation += 1
    _total = 0
    for slots in _free.values():
        slots.clear()


os.register_at_fork(after_in_child=_after_fork)

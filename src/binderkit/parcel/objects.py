"""What travels beside the data area: objects, descriptors, blocks of shared memory.

Owns: the object record in the data area, the kinds of values that belong to
records, and the owners that give a descriptor or a shared slot back exactly once.

A record is 24 bytes shaped like the kernel's flat_binder_object. In a sequence
it is a placeholder (type, flags 0, the object's index in this sequence, cookie
0); the real value stands in the sequence's object table, and each driver
translates both, so that no address or handle of this process leaves it.

Rules upheld: a descriptor is closed once; a slot is released once; a finalizer
takes no lock (it may run while this very thread holds the pool's lock).
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from struct import Struct
from types import TracebackType
from typing import Final

from binderkit.errors import DescriptorError
from binderkit.memory import pool

__all__ = [
    "BINDER_TYPE_BINDER",
    "BINDER_TYPE_FD",
    "BINDER_TYPE_HANDLE",
    "KIND_BLOB",
    "KIND_FD",
    "KIND_REMOTE",
    "RECORD_SIZE",
    "OwnedFd",
    "SlotHold",
    "Transferable",
    "duplicate",
    "pack_record",
    "release_dropped_slots",
    "unpack_record",
    "view_holding",
]

BINDER_TYPE_BINDER: Final = 0x73622A85
BINDER_TYPE_HANDLE: Final = 0x73682A85
BINDER_TYPE_FD: Final = 0x66642A85

KIND_REMOTE: Final = 1
"""The value is a Transferable: a stub of this process or a proxy."""
KIND_FD: Final = 2
"""The value is an OwnedFd."""
KIND_BLOB: Final = 3
"""A large raw data block: a pool.Slot where it was written, a read-only memoryview where it was received."""

RECORD: Final = Struct("<IIQQ")
RECORD_SIZE: Final = RECORD.size
pack_record: Final = RECORD.pack
"""(type, flags, handle, cookie) -> the 24 bytes."""
unpack_record: Final = RECORD.unpack_from

_dropped: deque[pool.Slot] = deque()


class Transferable:
    """Base of everything ``write_remote_object`` accepts (RemoteObject, RemoteProxy)."""

    __slots__ = ()


def duplicate(fd: int) -> int:
    """Return a duplicate of ``fd`` that is closed on exec; the caller owns it.

    Raises:
        DescriptorError: the system refuses (1900013); ``errno`` says why.
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
    except (OSError, ValueError, OverflowError) as error:
        failure = DescriptorError(f"cannot duplicate descriptor {fd}: {error}; pass an open descriptor of this process")
        failure.errno = getattr(error, "errno", None)
        raise failure from error


class OwnedFd:
    """A file descriptor that is closed exactly once: by ``close``, a ``with`` block, or when nobody holds it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        """Take ownership of ``fd``: nobody else may close it."""
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor, still owned by this object.

        Raises:
            DescriptorError: already closed (1900013).
        """
        fd = self._fd
        if fd < 0:
            raise DescriptorError("the descriptor was closed; duplicate it before its owner closes it")
        return fd

    def dup(self) -> int:
        """Return a duplicate that the caller owns.

        Raises:
            DescriptorError: closed, or the system refuses (1900013).
        """
        return duplicate(self.fileno())

    def detach(self) -> int:
        """Return the descriptor and give up its ownership: the caller closes it.

        Raises:
            DescriptorError: already closed (1900013).
        """
        fd = self.fileno()
        self._fd = -1
        return fd

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> OwnedFd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<OwnedFd {self._fd}>" if self._fd >= 0 else "<OwnedFd closed>"


class SlotHold:
    """One hold on a pooled slot, given up once: by ``release``, or when nobody has this object any more."""

    __slots__ = ("__weakref__", "_slot")

    def __init__(self, slot: pool.Slot) -> None:
        """Take over one hold the caller has on ``slot``."""
        self._slot: pool.Slot | None = slot

    def release(self) -> None:
        """Give the hold back; a second call does nothing."""
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()

    def __del__(self) -> None:
        # Only enqueue: the garbage collector can run this inside the pool, under its lock.
        if self._slot is not None:
            _dropped.append(self._slot)


def release_dropped_slots() -> None:
    """Give back the slots whose holders were forgotten rather than released."""
    while _dropped:
        try:
            slot = _dropped.popleft()
        except IndexError:  # another thread took the last one
            return
        slot.release()


def view_holding(slot: pool.Slot, size: int) -> memoryview:
    """Return a read-only view of the slot's first ``size`` bytes that keeps the slot from being reused.

    The last slice, cast or array made from the view ends the hold.
    """
    import ctypes  # only who reads a large block in the process that wrote it pays for it

    # A memoryview cannot carry the hold, its slices would outlive it; the ctypes array is what they all keep.
    array = (ctypes.c_char * size).from_buffer(slot.buffer)
    slot.hold()
    array.hold = SlotHold(slot)  # type: ignore[attr-defined]
    return memoryview(array).cast("B").toreadonly()

"""A peer that says whatever a test tells it to: the device and its commands, nothing of the driver but its numbers.

Owns: ``Raw``, one opening of a device. To the kernel each is a process of its own, whoever opened it, so a test may be
several. Only the thread that uses it first may go on using it while a call is on its way.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from binderkit.driver.kernel import protocol as p

BC_TRANSACTION_SG = 1 << 30 | 72 << 16 | ord("c") << 8 | 17
BC_REPLY_SG = 1 << 30 | 72 << 16 | ord("c") << 8 | 18
TYPE_FD_ARRAY = int.from_bytes(b"fda\x85", "big")
TYPE_BUFFER = int.from_bytes(b"pt*\x85", "big")
MAPPING = 1024 * 1024 - 2 * mmap.PAGESIZE
ROOM = 4096
OUTCOMES = (p.BR_REPLY, p.BR_DEAD_REPLY, p.BR_FAILED_REPLY, p.BR_FROZEN_REPLY)
SENT = (p.BR_TRANSACTION_COMPLETE, p.BR_ONEWAY_SPAM_SUSPECT, p.BR_TRANSACTION_PENDING_FROZEN)

_libc: Any = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


@dataclass(frozen=True)
class Message:
    """What the device said about a call: its outcome, or a call to us.

    Attributes:
        word: the return, e.g. ``protocol.BR_REPLY``.
        fields: of the transaction, see ``protocol.TRANSACTION``; empty if there is none.
        body: a copy of the data.
        objects: type, flags, value and cookie of each object in it.
    """

    word: int
    fields: tuple[int, ...] = ()
    body: bytes = b""
    objects: tuple[tuple[int, int, int, int], ...] = ()

    @property
    def name(self) -> str:
        """The return's name."""
        return p.NAMES[self.word]

    @property
    def failed(self) -> bool:
        """Whether it is a reply that carries a status."""
        return self.word == p.BR_REPLY and bool(self.fields[3] & p.TF_STATUS_CODE)


class Raw:
    """One opening of a binder device, as a context manager."""

    def __init__(self, path: str, mapping: int = MAPPING) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._mapping = mapping
        self.base = _libc.mmap(None, mapping, mmap.PROT_READ, mmap.MAP_PRIVATE, self.fd, 0)
        assert self.base != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
        self._inbox = ctypes.create_string_buffer(ROOM)
        self._events: deque[tuple[int, bytes]] = deque()
        self._kept: list[Any] = []

    def close(self) -> None:
        """Leave the device: to the kernel, this process has died."""
        if self.fd >= 0:
            _libc.munmap(self.base, self._mapping)
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the device --------------------------------------------------------------------------------

    def exchange(self, commands: bytes = b"", room: int = ROOM) -> None:
        """Write commands; with ``room``, read at least one return."""
        written = ctypes.create_string_buffer(commands, max(1, len(commands)))
        request = bytearray(
            p.WRITE_READ.pack(len(commands), 0, ctypes.addressof(written), room, 0, ctypes.addressof(self._inbox))
        )
        while True:
            try:
                fcntl.ioctl(self.fd, p.BINDER_WRITE_READ, request, True)
                break
            except InterruptedError:
                continue
        self._kept.clear()
        self._events.extend(self._read(struct.unpack_from("=Q", request, p.READ_CONSUMED_AT)[0]))

    def _read(self, size: int) -> Iterator[tuple[int, bytes]]:
        got, at = self._inbox.raw[:size], 0
        while at < size:
            (word,) = struct.unpack_from("=I", got, at)
            end = at + 4 + (word >> 16 & 0x3FFF)
            yield word, got[at + 4 : end]
            at = end

    def wait_for(self, *words: int) -> Message:
        """Return the next of these returns; references the kernel takes are acknowledged, the rest is dropped."""
        while True:
            while self._events:
                word, payload = self._events.popleft()
                if word in words:
                    return self._message(word, payload)
                if word in (p.BR_INCREFS, p.BR_ACQUIRE):
                    done = p.BC_INCREFS_DONE if word == p.BR_INCREFS else p.BC_ACQUIRE_DONE
                    self.exchange(p.COMMAND_NODE.pack(done, *p.NODE.unpack(payload)), room=0)
            self.exchange()

    def has_returns(self) -> bool:
        """Whether there is something to read now."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        return bool(poller.poll(0))

    def _message(self, word: int, payload: bytes) -> Message:
        if word not in (p.BR_TRANSACTION, p.BR_REPLY):
            return Message(word)
        fields = p.TRANSACTION.unpack(payload)
        body = ctypes.string_at(fields[8], fields[6])
        at = ctypes.string_at(fields[9], fields[7])
        offsets = struct.unpack(f"={len(at) // 8}Q", at)
        return Message(word, fields, body, tuple(p.OBJECT.unpack_from(body, offset) for offset in offsets))

    # --- calls ---------------------------------------------------------------------------------------

    def command(
        self,
        word: int,
        handle: int,
        code: int,
        data: bytes,
        offsets: Sequence[int] | bytes = (),
        flags: int = p.TF_ACCEPT_FDS,
        more: int = 0,
    ) -> bytes:
        """Return the command of a call or a reply; ``offsets`` may be any bytes, ``more`` is room for buffers."""
        table = offsets if isinstance(offsets, bytes) else struct.pack(f"={len(offsets)}Q", *offsets)
        addresses = [self.keep(data), self.keep(table)]
        packed = p.COMMAND_TRANSACTION.pack(
            word, handle, 0, code, flags, 0, 0, len(data), len(table), addresses[0], addresses[1]
        )
        return packed + struct.pack("=Q", more) if word in (BC_TRANSACTION_SG, BC_REPLY_SG) else packed

    def keep(self, data: bytes) -> int:
        """Return the address of a copy of ``data`` that stays until the next exchange."""
        kept = ctypes.create_string_buffer(data, max(1, len(data)))
        self._kept.append(kept)
        return ctypes.addressof(kept)

    def call(
        self,
        code: int,
        data: bytes = b"",
        offsets: Sequence[int] | bytes = (),
        flags: int = p.TF_ACCEPT_FDS,
        handle: int = 0,
    ) -> Message:
        """Make a call and return its outcome, or a call that came back to us meanwhile."""
        self.exchange(self.command(p.BC_TRANSACTION, handle, code, data, offsets, flags), room=0)
        if flags & p.TF_ONE_WAY:
            return self.wait_for(*SENT, *OUTCOMES)
        return self.wait_for(*OUTCOMES, p.BR_TRANSACTION)

    def answer(
        self,
        call: Message,
        data: bytes = b"",
        offsets: Sequence[int] | bytes = (),
        flags: int = p.TF_ACCEPT_FDS,
    ) -> None:
        """Reply to a call that was received, and free it."""
        reply = self.command(p.BC_REPLY, 0, 0, data, offsets, flags)
        self.exchange(self.free_command(call) + reply, room=0)

    def next_call(self) -> Message:
        """Wait for a call to us."""
        return self.wait_for(p.BR_TRANSACTION)

    def last_error(self) -> int:
        """Return the number of the error behind this thread's last BR_FAILED_REPLY."""
        told = bytearray(p.EXTENDED_ERROR.size)
        fcntl.ioctl(self.fd, p.BINDER_GET_EXTENDED_ERROR, told, True)
        return int(-p.EXTENDED_ERROR.unpack(told)[2])

    def become_manager(self) -> None:
        """Make this the device's context manager, which takes descriptors."""
        fcntl.ioctl(self.fd, p.BINDER_SET_CONTEXT_MGR_EXT, p.OBJECT.pack(0, p.NODE_FLAGS, 0, 0))
        self.exchange(p.WORD.pack(p.BC_ENTER_LOOPER), room=0)

    @staticmethod
    def free_command(message: Message) -> bytes:
        """Return the command that gives a message's buffer back."""
        return p.COMMAND_POINTER.pack(p.BC_FREE_BUFFER, message.fields[8])

    def free(self, message: Message) -> None:
        """Give a message's buffer back, if it has one, and close the descriptors that came in it."""
        for kind, _, value, _ in message.objects:
            if kind == p.TYPE_FD:
                os.close(value & 0xFFFFFFFF)
        if message.fields:
            self.exchange(self.free_command(message), room=0)

    def handle_commands(self, handle: int, *words: int) -> None:
        """Write commands about a handle, such as BC_ACQUIRE."""
        self.exchange(b"".join(p.COMMAND_HANDLE.pack(word, handle) for word in words), room=0)


def freeze(path: str, pid: int, frozen: bool, wait: int = 5000) -> None:
    """Freeze a process on its binder devices, or thaw it; OSError if its calls do not end in ``wait`` milliseconds."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, p.BINDER_FREEZE, struct.pack("=III", pid, frozen, wait))
    finally:
        os.close(fd)


def own(number: int, cookie: int | None = None) -> bytes:
    """Return an object of the sender."""
    return p.OBJECT.pack(p.TYPE_BINDER, p.NODE_FLAGS, number, number if cookie is None else cookie)


def other(handle: int, kind: int = p.TYPE_HANDLE) -> bytes:
    """Return an object of somebody else, by the sender's handle."""
    return p.OBJECT.pack(kind, p.NODE_FLAGS, handle, 0)


def descriptor(fd: int, cookie: int = 0) -> bytes:
    """Return a descriptor."""
    return p.OBJECT.pack(p.TYPE_FD, 0, fd, cookie)

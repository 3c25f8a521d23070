"""The smallest program that uses the device, without binderkit: ``python -m tests.kernel.hello_binder [DEVICE]``.

A context object in a child process and one call to it. It runs before the tests in the guest, and tells a broken guest
from a broken driver.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import struct
import sys
from collections.abc import Iterator


def _word(direction: int, kind: str, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord(kind) << 8 | number


WRITE_READ = _word(3, "b", 1, 48)
VERSION = _word(3, "b", 9, 4)
SET_CONTEXT_MANAGER = _word(1, "b", 7, 4)
BC_TRANSACTION = _word(1, "c", 0, 64)
BC_REPLY = _word(1, "c", 1, 64)
BC_FREE_BUFFER = _word(1, "c", 3, 8)
BC_ENTER_LOOPER = _word(0, "c", 12, 0)
BR_TRANSACTION = _word(2, "r", 2, 64)
BR_REPLY = _word(2, "r", 3, 64)
BR_DEAD_REPLY = _word(0, "r", 5, 0)
BR_FAILED_REPLY = _word(0, "r", 17, 0)
TRANSACTION = struct.Struct("=QQIIiIQQQQ")
"""Target, cookie, code, flags, the sender's pid and euid, sizes of data and of offsets, addresses of both."""
ROOM = 4096
MAPPING = 128 * 1024
PATIENCE = 30
"""Seconds until the program ends itself: the device has no time-outs."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


class Device:
    """An open device with its mapping, for one thread."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        base = _libc.mmap(None, MAPPING, mmap.PROT_READ, mmap.MAP_PRIVATE, self.descriptor, 0)
        if base == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), f"{path} cannot be mapped")
        self._read = ctypes.create_string_buffer(ROOM)
        self._sent = ctypes.create_string_buffer(1)

    def version(self) -> int:
        """Return the version of the kernel's Binder protocol."""
        answer = bytearray(4)
        fcntl.ioctl(self.descriptor, VERSION, answer, True)
        return int(struct.unpack("=i", answer)[0])

    def exchange(self, commands: bytes, room: int = ROOM) -> Iterator[tuple[int, bytes]]:
        """Write commands and read what comes, a return word and its payload each."""
        written = ctypes.create_string_buffer(commands, max(1, len(commands)))
        addresses = ctypes.addressof(written), ctypes.addressof(self._read)
        request = bytearray(struct.pack("=6Q", len(commands), 0, addresses[0], room, 0, addresses[1]))
        fcntl.ioctl(self.descriptor, WRITE_READ, request, True)
        got, at = self._read.raw[: struct.unpack_from("=Q", request, 32)[0]], 0
        while at < len(got):
            (word,) = struct.unpack_from("=I", got, at)
            end = at + 4 + (word >> 16 & 0x3FFF)
            yield word, got[at + 4 : end]
            at = end

    def command(self, word: int, code: int, data: bytes) -> bytes:
        """Return the command that sends a call or a reply; its data stays valid until the next one."""
        self._sent = ctypes.create_string_buffer(data, max(1, len(data)))
        return struct.pack("=I", word) + TRANSACTION.pack(
            0, 0, code, 0, 0, 0, len(data), 0, ctypes.addressof(self._sent), 0
        )

    def call(self, code: int, data: bytes) -> bytes:
        """Call the context object and return its reply.

        Raises:
            ConnectionError: it is dead, or the device refuses the call.
        """
        commands = self.command(BC_TRANSACTION, code, data)
        while True:
            for word, payload in list(self.exchange(commands)):
                if word == BR_REPLY:
                    _, reply, free = taken(payload)
                    list(self.exchange(free, room=0))
                    return reply
                if word in (BR_DEAD_REPLY, BR_FAILED_REPLY):
                    raise ConnectionError(hex(word))
            commands = b""

    def serve(self) -> None:
        """Answer calls for ever, each with what is known of its sender."""
        commands = struct.pack("=I", BC_ENTER_LOOPER)
        while True:
            events, commands = list(self.exchange(commands)), b""
            for word, payload in events:
                if word == BR_TRANSACTION:
                    call, data, free = taken(payload)
                    said = b"code %d pid %d euid %d: " % (call[2], call[4], call[5])
                    commands += free + self.command(BC_REPLY, 0, said + data)


def taken(payload: bytes) -> tuple[tuple[int, ...], bytes, bytes]:
    """Return a transaction's fields, a copy of its data, and the command that frees its buffer."""
    fields = TRANSACTION.unpack(payload)
    return fields, ctypes.string_at(fields[8], fields[6]), struct.pack("=IQ", BC_FREE_BUFFER, fields[8])


def main(path: str) -> int:
    """Run it on a device that has no context object; return the exit status."""
    signal.alarm(PATIENCE)
    device = Device(path)
    print(f"{path}: Binder protocol {device.version()}", flush=True)
    try:
        device.call(1, b"")
    except ConnectionError as error:
        assert str(error) == hex(BR_DEAD_REPLY), error
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:  # a mapping is not inherited, so the child opens the device itself
        served = Device(path)
        fcntl.ioctl(served.descriptor, SET_CONTEXT_MANAGER, struct.pack("=i", 0))
        os.write(told, b"x")
        served.serve()
    os.close(told)
    assert os.read(ready, 1) == b"x", "the child ended before it was the context object"
    reply = device.call(7, b"hello")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(f"{path}: {reply.decode()}", flush=True)
    return 0 if reply == b"code 7 pid %d euid 0: hello" % os.getpid() else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["/dev/b63"]))

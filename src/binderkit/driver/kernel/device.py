"""One open binder device: the descriptor, its mapping, and BINDER_WRITE_READ for each thread.

Owns: ``Device`` (open, version check, the 1 MiB - 2 pages mapping, maximum of threads, context manager) and
``Channel``, the buffers of one thread. Each thread has buffers of its own, because the kernel answers the thread that
asked; they are made once, so that a call allocates nothing but its results.

Rules upheld: an interrupted ioctl is repeated with the very same structure (``write_consumed`` is set, nothing is
sent twice); a forked child never touches its parent's mapping; a device that cannot be used says what to load or
whom to ask.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import mmap
import os
import select
import threading
from typing import Any

from binderkit import limits
from binderkit.driver.kernel import protocol as p
from binderkit.errors import DeadObjectError, ForkedError, IpcError, ProtocolError, RefusedError

_log = logging.getLogger("binderkit.driver")
MAP_SIZE = limits.MIB - 2 * mmap.PAGESIZE
"""Bytes of the mapping, as libbinder and IPC Kit have it."""
READ_ROOM = 4096
_FIRST_DATA = 64 * limits.KIB
_ioctl = fcntl.ioctl
_pack_wr = p.WRITE_READ.pack_into
_read_consumed = p.POINTER.unpack_from

_libc: Any = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Device:
    """An open binder device with its mapping."""

    def __init__(self, path: str) -> None:
        """Open ``path`` and map its buffer.

        Raises:
            IpcError: there is no such device, it is no binder device, or it speaks another version; the text says
                what to do.
            RefusedError: it may not be opened by this user.
        """
        self.path = path
        self.pid = os.getpid()
        self._closed = False
        self.fd = _open(path)
        try:
            _check_version(self.fd, path)
            self._base = _map(self.fd, path)
        except BaseException:
            os.close(self.fd)
            raise
        self.base = self._base
        # The kernel alone writes there, after the fact; a view over it makes one copy of what was received.
        array = (ctypes.c_char * MAP_SIZE).from_address(self._base)
        self.memory = memoryview(array).cast("B").toreadonly()

    def become_manager(self) -> None:
        """Make this process the context manager: node 0, which accepts descriptors.

        Raises:
            RefusedError: another process is it, or another user was (then only that user may be again).
        """
        node = p.OBJECT.pack(0, p.NODE_FLAGS, 0, 0)
        try:
            try:
                _ioctl(self.fd, p.BINDER_SET_CONTEXT_MGR_EXT, node)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # A kernel before 5.x: the manager then accepts no descriptors.
                _ioctl(self.fd, p.BINDER_SET_CONTEXT_MGR, p.NUMBER.pack(0))
        except OSError as error:
            raise RefusedError(
                f"cannot become the context manager of {self.path}: {error.strerror}; another process is it already, "
                "or a process of another user was it before (then only that user may)"
            ) from None

    def report_floods(self) -> None:
        """Have the kernel say when a process fills another's buffer with one-way calls (BR_ONEWAY_SPAM_SUSPECT)."""
        try:
            _ioctl(self.fd, p.BINDER_ENABLE_ONEWAY_SPAM_DETECTION, p.NUMBER.pack(1))
        except OSError as error:  # kernels before 5.14 only refuse what does not fit any more
            _log.debug("%s does not report floods of one-way calls: %s", self.path, error.strerror)

    def set_max_threads(self, count: int) -> None:
        """Let the device ask for up to ``count`` threads beside those that entered by themselves."""
        _ioctl(self.fd, p.BINDER_SET_MAX_THREADS, p.NUMBER.pack(count))

    def last_error(self) -> int:
        """Return the error number behind this thread's last BR_FAILED_REPLY, 0 if the kernel does not tell."""
        told = bytearray(p.EXTENDED_ERROR.size)
        try:
            _ioctl(self.fd, p.BINDER_GET_EXTENDED_ERROR, told, True)
        except OSError:  # kernels before 6.0 have no such ioctl
            return 0
        number: int = p.EXTENDED_ERROR.unpack(told)[2]
        return -number

    def strong_references(self, handle: int) -> int:
        """Return how many processes hold the object behind ``handle``, this one counted; only for the manager.

        Calls to the object that are under way count, too.

        Raises:
            ProtocolError: the kernel does not tell it (before 4.20), or this process is not the context manager.
        """
        info = bytearray(p.NODE_INFO.pack(handle, 0, 0, 0, 0, 0))
        try:
            _ioctl(self.fd, p.BINDER_GET_NODE_INFO_FOR_REF, info, True)
        except OSError as error:
            raise ProtocolError(f"{self.path} does not tell who holds an object: {error.strerror}") from None
        count: int = p.NODE_INFO.unpack(info)[1]
        return count

    def exit_thread(self) -> None:
        """Tell the device that the calling thread is done: who waits for its answer gets BR_DEAD_REPLY.

        A reply on its way to this thread is dropped by the kernel, with everything it carries.
        """
        _ioctl(self.fd, p.BINDER_THREAD_EXIT, p.NUMBER.pack(0))

    def wait(self, seconds: float) -> bool:
        """Wait until the calling thread has something to read; return whether it has."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        return bool(poller.poll(max(0.0, seconds) * 1000))

    def wake_all(self) -> None:
        """Have every thread that reads return with what it has: closing any descriptor of the device does that."""
        os.close(os.dup(self.fd))

    def check_usable(self) -> None:
        """Raise unless the device belongs to this process and is open (ForkedError, DeadObjectError)."""
        if self.pid != os.getpid():
            raise ForkedError(
                f"this object belongs to process {self.pid}; a forked child cannot use its parent's binder device. "
                "Look the object up again in the child, or start children with spawn or subprocess"
            )
        if self._closed:
            raise DeadObjectError("the driver of this process was closed")

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def mark_closed(self) -> None:
        """No new call from now on; threads that read end when they are woken."""
        self._closed = True

    def close(self) -> None:
        """Unmap and close: to the kernel, this process is gone from the device. No thread may use it any more."""
        self._closed = True
        self.memory = memoryview(b"")
        _libc.munmap(self._base, MAP_SIZE)
        os.close(self.fd)
        self.fd = -1

    def forked(self) -> None:
        """In a forked child: let go of the descriptor, or the parent's death would go unnoticed.

        The mapping is not inherited: nothing to unmap, and nothing may read it.
        """
        self._closed = True
        self.memory = memoryview(b"")
        os.close(self.fd)
        self.fd = -1


class Channel:
    """The buffers of one thread, and its BINDER_WRITE_READ.

    Attributes:
        out: commands that leave with the next ``exchange``.
        inbox: what the last one read.
        sent: objects of ours in the message on its way; they stay until the kernel has taken references to them.
        held: what else must live until then (proxies, shared memory).
        staged: whether ``out`` has a message whose data stands in the thread's one buffer.
        waits_for: the object whose reply this thread waits for; calls that come back meanwhile end with its process.
        depth: synchronous requests this thread is handling, which the kernel expects it to answer.
        is_looper: whether it is a thread that takes requests, which do not count while they wait for others.
    """

    __slots__ = (
        "_address_in",
        "_data",
        "_keep",
        "_wr",
        "depth",
        "device",
        "held",
        "inbox",
        "is_looper",
        "out",
        "sent",
        "staged",
        "thread",
        "waits_for",
    )

    def __init__(self, device: Device) -> None:
        self.device = device
        self.thread = threading.get_native_id()
        self.out = bytearray()
        self.sent: list[Any] = []
        self.held: list[object] = []
        self.depth = 0
        self.is_looper = False
        self.staged = False
        self.waits_for: Any = None
        self._wr = bytearray(p.WRITE_READ.size)
        self.inbox = bytearray(READ_ROOM)
        self._address_in = ctypes.addressof((ctypes.c_char * READ_ROOM).from_buffer(self.inbox))
        self._keep = _Kept(READ_ROOM)
        self._data = _Kept(_FIRST_DATA)

    def place(self, data: bytes | bytearray | memoryview, size: int) -> tuple[memoryview, int]:
        """Copy ``data`` where the kernel can read it, with room for ``size`` bytes; return (buffer, address).

        A message that was staged leaves first (a finalizer may make a call at any moment).
        """
        if self.staged:
            self.flush()
        kept = self._data
        if size > kept.size:
            kept = self._data = _Kept(max(size, 2 * kept.size))
        kept.view[: len(data)] = data
        return kept.view, kept.address

    def exchange(self, room: int = READ_ROOM) -> int:
        """Write what is in ``out``, and with ``room`` read at least one return; return how many bytes came.

        Raises:
            ForkedError, DeadObjectError: the device is not usable here, or was closed.
            ProtocolError: the kernel refused the commands, which is a fault of this package.
        """
        out, keep, wr = self.out, self._keep, self._wr
        size = len(out)
        if size > keep.size:
            keep = self._keep = _Kept(2 * size)
        keep.view[:size] = out
        out.clear()
        self.staged = False
        _pack_wr(wr, 0, size, 0, keep.address, room, 0, self._address_in)
        while True:
            try:
                _ioctl(self.device.fd, p.BINDER_WRITE_READ, wr, True)
            except (OSError, ValueError) as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                    raise  # not the device's: a handler of a signal raised it
                if isinstance(error, InterruptedError):
                    # A handler of a signal ran. The write part is done, its consumed size is in the structure; only
                    # the wait is repeated.
                    if _read_consumed(wr, p.READ_CONSUMED_AT)[0]:
                        break
                    continue
                self.device.check_usable()
                raise ProtocolError(f"the binder device refused commands: {error}") from error
            break
        return _read_consumed(wr, p.READ_CONSUMED_AT)[0]  # type: ignore[no-any-return]

    def flush(self) -> None:
        """Write what is in ``out`` now; never waits."""
        if self.out:
            self.exchange(0)

    def __del__(self) -> None:
        # The thread ends (threading.local lets go of its state in it): its kernel side must not stay behind, or
        # whoever waits for its answer would wait until the process ends.
        device = getattr(self, "device", None)
        if device is None or device.closed or self.thread != threading.get_native_id() or device.pid != os.getpid():
            return
        try:
            self.flush()
            device.exit_thread()
        except (OSError, IpcError):
            _log.debug("the binder device was gone before a thread of it ended")


class _Kept:
    """A buffer whose address is known."""

    __slots__ = ("address", "buffer", "size", "view")

    def __init__(self, size: int) -> None:
        self.size = size
        self.buffer = bytearray(size)
        self.view = memoryview(self.buffer)
        self.address = ctypes.addressof((ctypes.c_char * size).from_buffer(self.buffer))


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise IpcError(
            f"there is no binder device {path}: load the module (modprobe binder_linux devices=binder,hwbinder), mount "
            "binderfs (mount -t binder binder /dev/binderfs), or name another device by BINDERKIT_DEVICE; "
            "BINDERKIT_DRIVER=unix works without a device"
        ) from None
    except PermissionError:
        raise RefusedError(
            f"user {os.getuid()} may not open {path}: its mode decides who may (chmod or a udev rule); "
            "BINDERKIT_DRIVER=unix works without a device"
        ) from None
    except OSError as error:
        raise IpcError(
            f"cannot open {path}: {error.strerror}; name a binder device, or use BINDERKIT_DRIVER=unix"
        ) from error


def _check_version(fd: int, path: str) -> None:
    version = bytearray(4)
    try:
        _ioctl(fd, p.BINDER_VERSION, version, True)
    except OSError as error:
        raise IpcError(f"{path} is no binder device: {error.strerror}") from None
    (found,) = p.NUMBER.unpack(version)
    if found != p.VERSION:
        raise IpcError(f"{path} speaks version {found} of Binder's protocol, this package speaks {p.VERSION}")


def _map(fd: int, path: str) -> int:
    address = _libc.mmap(None, MAP_SIZE, mmap.PROT_READ, mmap.MAP_PRIVATE | 0x4000, fd, 0)  # 0x4000: MAP_NORESERVE
    if address is None or address == ctypes.c_void_p(-1).value:
        raise IpcError(f"cannot map {MAP_SIZE} bytes of {path}: {os.strerror(ctypes.get_errno())}")
    return int(address)

"""RpcProxy: the proxy of an object of another device.

Owns: what differs from a proxy of this device: it waits 8 s unless told otherwise, its data may be up to
limits.RPC_DATA (when its capacity was raised), and its death is told by a notice of its own, because the process the
driver watches is only the one that speaks for the device (dbinder), not the one of the object.

Rules upheld (reference 0, 1.5, 4.4): what cannot go to another device is refused here, before anything is sent; each
recipient is called once; a proxy that is told dead stays dead.

Such a proxy is known by its handle, limits.RPC_HANDLE_BASE and above (reference 0, C2). A process that hands out such
handles for objects of its own deceives nobody: its proxies can do less, not more.
"""

from __future__ import annotations

import fcntl
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import ERR_NOT_TRANSLATABLE, RpcLimitError, TooBigError
from binderkit.ipc.option import MessageOption, RequestResult
from binderkit.ipc.proxy import (
    OBITUARY_TRANSACTION,
    DeathRecipient,
    RemoteProxy,
    _recipients_lock,
    check_code,
    check_sequences,
)
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import KIND_FD, RECORD_SIZE, OwnedFd

if TYPE_CHECKING:
    from binderkit.ipc.driver import Connection

__all__ = ["DIED", "NOTICE_DESCRIPTOR", "RpcProxy", "is_shared_memory"]

NOTICE_DESCRIPTOR: Final = "binderkit.IDeathNotice"
DIED: Final = 1
"""The one transaction of a notice: the object is dead (one-way)."""
_DEFAULT: Final = MessageOption(timeout=float(limits.DEFAULT_WAIT_TIME))
_LINK: Final = MessageOption(timeout=float(limits.DEFAULT_WAIT_TIME))


class RpcProxy(RemoteProxy):
    """Stands for an object of another device. Made by the driver, never by users.

    Differences from RemoteProxy: a synchronous call ends after ``MessageOption.get_wait_time()`` seconds (8 by
    default) or its ``timeout``, whichever comes first; file descriptors are refused; Ashmem and raw data arrive as
    copies; it cannot be passed on to another process of this device, nor be sent back to its own device.
    """

    __slots__ = ("_gone", "_notice")

    def __init__(self, connection: Connection, handle: int) -> None:
        super().__init__(connection, handle)
        self._gone = False
        self._notice: _Notice | None = None
        # Not a method of this proxy: it would be kept alive by itself.
        self._transact = partial(_transact, connection)

    @property
    def _transact_async(self) -> Callable[..., Awaitable[int]]:
        return partial(_transact_async, self._connection)

    async def send_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None = None
    ) -> RequestResult:
        """Call the object from a coroutine; see RemoteProxy.send_message_request."""
        check_code(code)
        check_sequences(data, reply)
        await _transact_async(self._connection, self._handle, code, data, reply, option)
        return RequestResult(0, code, data, reply)

    def is_object_dead(self) -> bool:
        """Whether the object is known to be gone: its process, its device, or the way there."""
        return self._gone or self._connection.is_dead

    def register_death_recipient(self, recipient: DeathRecipient, flags: int = 0) -> None:
        """Have ``recipient.on_remote_died()`` called once when the object's process ends or its device leaves.

        The first registration asks the other device, so it may take as long as a call.

        Raises:
            ParamTypeError: not a DeathRecipient, or flags not an int (401).
            DeadObjectError: the object is gone already (-32).
            RpcLimitError: the object is no registered system ability of its device (510; reference 0, C2): nobody
                tells of the death of an anonymous one. Have its device register it, or ping it now and then.
            CallTimeoutError: the other device did not answer (502).
        """
        super().register_death_recipient(recipient, flags)
        if self._notice is not None:
            return
        notice = _Notice(self)
        data = MessageSequence()
        data.write_remote_object(notice)
        try:
            self._connection.transact(self._handle, OBITUARY_TRANSACTION, data, MessageSequence(), _LINK)
        except BaseException:
            self.unregister_death_recipient(recipient, flags)
            raise
        self._notice = notice

    def died(self) -> None:
        """The object is dead: tell every recipient once (by the notice)."""
        with _recipients_lock:
            self._gone = True
        self.obituary()


class _Notice(RemoteObject):
    """Told by the process that speaks for the device; knows its proxy weakly, or the proxy would never go."""

    __slots__ = ("_proxy",)

    def __init__(self, proxy: RpcProxy) -> None:
        super().__init__(NOTICE_DESCRIPTOR)
        self._proxy = weakref.ref(proxy)

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        """DIED: the object of the proxy is dead. Only the process that was asked to tell knows this notice."""
        if code != DIED:
            return False
        proxy = self._proxy()
        if proxy is not None:
            proxy.died()
        return True


def _transact(
    connection: Connection,
    handle: int,
    code: int,
    data: MessageSequence,
    reply: MessageSequence,
    option: MessageOption | None,
) -> int:
    return connection.transact(handle, code, data, reply, _prepared(data, option))


async def _transact_async(
    connection: Connection,
    handle: int,
    code: int,
    data: MessageSequence,
    reply: MessageSequence,
    option: MessageOption | None,
) -> int:
    return await connection.transact_async(handle, code, data, reply, _prepared(data, option))


def _prepared(data: MessageSequence, option: MessageOption | None) -> MessageOption:
    """Check that ``data`` can go to another device; return the option with the wait time as a timeout."""
    size = len(data)
    if size > limits.RPC_DATA:
        raise TooBigError(
            f"{size} bytes of data for another device, the limit is {limits.RPC_DATA}; send large parts as raw data "
            f"(up to {limits.MAX_RAW_DATA} bytes) or in an Ashmem"
        )
    if data._objects:
        _check_descriptors(data)
    if option is None:
        return _DEFAULT
    wait = float(option.get_wait_time())
    timeout = wait if option.timeout is None else min(wait, option.timeout)
    return MessageOption(option.get_flags(), option.get_wait_time(), timeout=timeout)


def _check_descriptors(data: MessageSequence) -> None:
    body = data._in if data._out is None else data._out
    for offset, (kind, value) in (data._objects or {}).items():
        if kind == KIND_FD and isinstance(value, OwnedFd) and not is_shared_memory(body, offset, value):
            raise RpcLimitError(
                "a file descriptor cannot go to another device; send the file's contents (write_raw_data_buffer up to "
                "128 MiB, or an Ashmem), or open a SoftBus session for a stream",
                code=ERR_NOT_TRANSLATABLE,
            )


def is_shared_memory(body: bytes | bytearray | memoryview, offset: int, fd: OwnedFd) -> bool:
    """Whether the descriptor at ``offset`` belongs to an Ashmem: sealed memory with its size behind the record."""
    after = offset + RECORD_SIZE
    if after + 4 > len(body) or int.from_bytes(body[after : after + 4], "little", signed=True) <= 0:
        return False
    try:
        return bool(fcntl.fcntl(fd.fileno(), fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    except OSError:
        return False  # no memfd

"""How two processes of a device that know only a secret meet: through the context manager.

Owns: what is offered under a token and not yet taken, at the process that is node 0; and the calls others make for
that, and to be told how many processes hold an object, which the kernel tells that process alone. A parent offers a
meeting point before it starts its child and tells the child the token; the child takes it and brings its root object
there. So ``spawn`` works on any device that has a context manager of this package.

Rules upheld: a token is 16 random bytes and works once; what waits is charged to the process that left it, and goes
with it.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from binderkit.driver.kernel import protocol as p
from binderkit.errors import (
    DeadObjectError,
    InvalidObjectError,
    IpcError,
    NoServiceManagerError,
    ParamValueError,
    QuotaError,
)
from binderkit.ipc.context import calling_identity
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.driver.kernel.node import KernelNode

_log = logging.getLogger("binderkit.driver")
MAX_OFFERED: Final = 64
"""Meeting points of one process that wait to be taken (own choice)."""
TOKEN_SIZE: Final = 16
_MEET: Final = 1


class Offers:
    """What waits to be taken at the context manager.

    Args:
        count: returns how many processes hold a proxy's object, this one counted.
    """

    def __init__(self, count: Callable[[RemoteProxy], int]) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._waiting: dict[bytes, tuple[IRemoteObject, int]] = {}

    def offer(self, token: bytes, point: IRemoteObject, pid: int) -> None:
        """Keep ``point`` of process ``pid`` for whoever knows ``token``.

        Raises:
            QuotaError: too many of this process's wait already.
        """
        if len(token) != TOKEN_SIZE:
            raise ParamValueError(f"a token has {TOKEN_SIZE} bytes, not {len(token)}")
        with self._lock:
            gone = [self._waiting.pop(token) for token in list(self._waiting) if _is_gone(self._waiting[token][0])]
            if sum(owner == pid for _, owner in self._waiting.values()) >= MAX_OFFERED:
                raise QuotaError(f"{MAX_OFFERED} meeting points of process {pid} wait already; start fewer at once")
            self._waiting[token] = point, pid
        del gone  # outside the lock: proxies end here

    def take(self, token: bytes) -> IRemoteObject:
        """Return what was offered under ``token``, once.

        Raises:
            InvalidObjectError: nothing was, or it was taken.
        """
        with self._lock:
            found = self._waiting.pop(token, None)
        if found is None:
            raise InvalidObjectError("nothing is offered under this token (any more)")
        return found[0]

    def answer(self, code: int, data: MessageSequence, reply: MessageSequence, caller: int) -> None:
        """Handle OFFER, TAKE or HOLDERS of another process, whose pid is ``caller``."""
        if code == p.HOLDERS_TRANSACTION:
            reply.write_long(self._holders(data))
            return
        token = data.read_long().to_bytes(8, "little", signed=True) + data.read_long().to_bytes(
            8, "little", signed=True
        )
        if code == p.OFFER_TRANSACTION:
            self.offer(token, data.read_remote_object(), caller)
        else:
            reply.write_remote_object(self.take(token))

    def _holders(self, data: MessageSequence) -> int:
        """Return how many processes hold the object in ``data``, without the reference that brought it here."""
        proxy = data.read_remote_object()
        if not isinstance(proxy, RemoteProxy):
            raise InvalidObjectError("this object is the context manager's own")
        count = self._count(proxy)
        ours = weakref.ref(proxy)
        del proxy
        if data._objects is not None:
            data._objects.clear()
        return count if ours() is not None else count - 1


def _is_gone(point: IRemoteObject) -> bool:
    return isinstance(point, RemoteProxy) and point.is_object_dead()


class MeetingPoint(RemoteObject):
    """Where a child brings its root object."""

    def __init__(self) -> None:
        super().__init__("binderkit.IMeetingPoint")
        self.came = threading.Event()
        self.root: RemoteProxy | None = None

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        """Take the root object in, once."""
        if code != _MEET or self.came.is_set():
            return False
        root = data.read_remote_object()
        if not isinstance(root, RemoteProxy):
            return False
        connection: Any = root._connection
        connection.learn_owner(calling_identity())
        self.root = root
        self.came.set()
        return True


def offer(node: KernelNode, token: bytes, point: MeetingPoint) -> None:
    """Offer ``point`` under ``token`` at the context manager, which is started if none runs.

    Raises:
        NoServiceManagerError: the device has none, and none may be or could be started.
    """
    if node.offers is not None:
        node.offers.offer(token, point, os.getpid())
        return
    with _with_token(token) as data:
        data.write_remote_object(point)
        _ask(node, p.OFFER_TRANSACTION, data, start=True)


def withdraw(node: KernelNode, token: bytes) -> None:
    """Take an offer of our own back: nobody will come."""
    try:
        if node.offers is not None:
            node.offers.take(token)
            return
        with _with_token(token) as data:
            _ask(node, p.TAKE_TRANSACTION, data, start=False)
    except IpcError as error:  # it was taken at the last moment, or the manager has ended
        _log.debug("a meeting point need not be taken back: %s", error)


def meet(node: KernelNode, token: bytes, root: RemoteObject) -> RemoteProxy:
    """Bring ``root`` to the meeting point behind ``token``; return its proxy, whose death is that of the other side.

    Raises:
        NoServiceManagerError, InvalidObjectError, DeadObjectError: nobody is there any more.
    """
    with _with_token(token) as data:
        point = _ask(node, p.TAKE_TRANSACTION, data, start=False).read_remote_object()
    if not isinstance(point, RemoteProxy):
        raise InvalidObjectError(f"the context manager of {node.device.path} gave {point!r}, which is of this process")
    with MessageSequence() as data:
        data.write_remote_object(root)
        point.send_request(_MEET, data, MessageSequence())
    return point


def holders(node: KernelNode, stub: RemoteObject) -> int:
    """Return how many other processes hold ``stub``, as the context manager knows it.

    Raises:
        NoServiceManagerError: the device has none. TransactionError: it is none of this package, or may not tell.
    """
    with MessageSequence() as data:
        data.write_remote_object(stub)
        return _ask(node, p.HOLDERS_TRANSACTION, data, start=False).read_long()


def _with_token(token: bytes) -> MessageSequence:
    data = MessageSequence()
    data.write_long(int.from_bytes(token[:8], "little", signed=True))
    data.write_long(int.from_bytes(token[8:], "little", signed=True))
    return data


def _ask(node: KernelNode, code: int, data: MessageSequence, *, start: bool) -> MessageSequence:
    reply = MessageSequence()
    manager = node.context_object(start=start)
    try:
        manager._connection.transact(0, code, data, reply, None)
    except DeadObjectError:
        raise NoServiceManagerError(f"the context manager of {node.device.path} has just ended") from None
    return reply

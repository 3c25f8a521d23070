"""``async with connect(want) as remote``: a connection for as long as a block runs.

Owns: the two context managers, for coroutines and for plain code. Both use the functions of client.py.

Rule upheld: however a block, or the wait before it, ends, the connection ends, too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeoutError
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from binderkit.ability import client
from binderkit.ability.options import ConnectOptions, FailureCode
from binderkit.errors import AbilityError
from binderkit.interface import Interface, proxy
from binderkit.ipc.remote import IRemoteObject

if TYPE_CHECKING:
    from binderkit.ability.want import ElementName, Want

_log = logging.getLogger("binderkit.ability")
T = TypeVar("T")
I = TypeVar("I", bound=Interface)  # noqa: E741 - the usual letter of an interface
END_WAIT: Final = 10.0
"""Seconds the end of a block waits for the end of its connection; the manager's own limit is far below."""


class Connect(Generic[T]):
    """A connection that is made when a block is entered and ended when it is left. Use it once.

    ``ended`` is done when the connection is over, also when the service ended during the block.
    """

    def __init__(self, want: Want, wrap: Callable[[IRemoteObject], T]) -> None:
        self._want = want
        self._wrap = wrap
        self._lock = threading.Lock()
        self._id: int | None = None
        self._left = False
        self._remote: Future[IRemoteObject] = Future()
        self.ended: Future[None] = Future()

    def __enter__(self) -> T:
        """Connect, and wait for the object.

        Raises:
            AbilityError: there is no connection; its code and text say why.
        """
        try:
            self._begin()
            return self._wrap(self._remote.result())
        except BaseException:
            self._leave()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        try:
            self.ended.result(END_WAIT)
        except WaitTimeoutError:
            _log.warning("the end of the connection to %s was not told within %g s", self._want.element, END_WAIT)

    async def __aenter__(self) -> T:
        """Connect, and wait for the object without blocking the event loop; raises as __enter__."""
        try:
            await asyncio.to_thread(self._begin)
            return self._wrap(await asyncio.wrap_future(self._remote))
        except BaseException:
            self._leave_soon()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        leaving = self._leave_soon()
        ended = asyncio.shield(asyncio.wrap_future(self.ended))
        await asyncio.shield(leaving)
        try:
            await asyncio.wait_for(ended, END_WAIT)
        except TimeoutError:
            _log.warning("the end of the connection to %s was not told within %g s", self._want.element, END_WAIT)

    def _begin(self) -> None:
        number = client.connect_service_extension_ability(self._want, _Waiting(self._remote, self.ended))
        with self._lock:
            self._id = number
            left = self._left
        if left:
            client.disconnect_service_extension_ability(number)

    def _leave(self) -> None:
        with self._lock:
            self._left = True
            number = self._id
        if number is not None:
            client.disconnect_service_extension_ability(number)

    def _leave_soon(self) -> asyncio.Future[None]:
        """Leave without blocking the loop, and whatever becomes of the task that called this."""
        return asyncio.get_running_loop().run_in_executor(None, self._leave)


class _Waiting(ConnectOptions):
    """Callbacks that resolve futures."""

    def __init__(self, remote: Future[IRemoteObject], ended: Future[None]) -> None:
        super().__init__(on_connect=lambda element, got: _settle(remote, got))
        self._remote = remote
        self._over = ended
        self.on_failed = self._failed

    def _failed(self, code: FailureCode) -> None:
        self._end(code.error())

    def ended(self, element: ElementName, text: str) -> None:
        """The connection is over, perhaps before it gave an object."""
        self._end(AbilityError(f"{element} was disconnected before it gave an object: {text}"))

    def _end(self, error: AbilityError) -> None:
        if not self._remote.done():
            self._remote.set_exception(error)
        if not self._over.done():
            self._over.set_result(None)


def _settle(future: Future[IRemoteObject], remote: IRemoteObject) -> None:
    if not future.done():
        future.set_result(remote)


@overload
def connect(want: Want) -> Connect[IRemoteObject]: ...
@overload
def connect(want: Want, interface: Callable[..., I]) -> Connect[I]: ...
def connect(want: Want, interface: Callable[..., Any] | None = None) -> Connect[Any]:
    """Return a context manager, for ``async with`` and ``with``, that connects to a service ability.

    Args:
        want: bundle and ability.
        interface: a contract; the block then gets a typed proxy instead of the remote object.

    Raises (when the block is entered):
        AbilityError: the connection failed; codes as for connect_service_extension_ability.
    """
    if interface is None:
        return Connect(want, lambda remote: remote)
    return Connect(want, lambda remote: proxy(interface, remote))

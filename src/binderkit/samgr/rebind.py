"""Proxies that survive restarts: ``get(IPhoto, "com.example.photos", rebind=Rebind.WAIT)``.

Owns: finding a system ability again after its process ended, and what happens to the calls meanwhile.

Rules upheld: a call that was under way when the process died may have been executed, so it raises DeadObjectError; only
a method that its contract marks ``@idempotent`` is ever repeated, at most REPEATS times and within the time the call
has; a proxy that waits for its service holds up nobody but its own caller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from typing import Any, Final, Generic, TypeVar, cast, overload

from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    NoServiceManagerError,
    ParamTypeError,
    ParamValueError,
    ServiceNotFoundError,
)
from binderkit.interface import Interface
from binderkit.interface.contract import contract_of
from binderkit.interface.proxy import proxy, proxy_class
from binderkit.ipc.context import current
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel import MessageSequence
from binderkit.samgr import client, codes
from binderkit.samgr.ability import AbilityKey, checked_key

I = TypeVar("I", bound=Interface)  # noqa: E741 - the usual letter of an interface

DEFAULT_WAIT: Final = 10.0
"""Seconds a call waits for its service to be back, if nothing else says."""
REPEATS: Final = 2
"""How often an idempotent call is repeated: a call that kills its service must not do so for ever."""
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.2
_SLICE: Final = 2.0
"""Seconds for which SAMgr is asked at a time; one that is restarted meanwhile is asked anew."""
_NOT_YET: Final = (DeadObjectError, NoServiceManagerError, ServiceNotFoundError, CallTimeoutError)


class Rebind(Enum):
    """What a proxy does when its service's process ended."""

    FAIL = "fail"
    """every call raises DeadObjectError"""
    WAIT = "wait"
    """the call that was under way raises DeadObjectError; the next one waits for the service to be back"""
    RETRY_IDEMPOTENT = "retry-idempotent"
    """as WAIT; and methods marked @idempotent are repeated instead of raising"""


@overload
def get(interface: Callable[..., I], key: AbilityKey, *, rebind: Rebind = ..., timeout: float | None = ...) -> I: ...
@overload
def get(interface: None, key: AbilityKey, *, rebind: Rebind = ..., timeout: float | None = ...) -> IRemoteObject: ...
def get(
    interface: Callable[..., I] | None,
    key: AbilityKey,
    *,
    rebind: Rebind = Rebind.FAIL,
    timeout: float | None = None,
) -> I | IRemoteObject:
    """Return a proxy of a system ability, which is loaded if it does not run and has a profile.

    With WAIT and RETRY_IDEMPOTENT the proxy finds the service again when its process was restarted. What came from the
    old process does not come back: objects it returned, streams, watched properties, death recipients. To be told, use
    a death recipient on ``as_object()``, which is always the object of the moment.

    Args:
        interface: the contract; None for a remote object without one (FAIL only: the others need a contract).
        key: id or name.
        rebind: see Rebind.
        timeout: seconds for the first search and for each later one, above 0 … 3000; None: the first takes what SAMgr
            takes for a load, later ones DEFAULT_WAIT. A shorter limit of the call itself goes first.

    Raises:
        ServiceNotFoundError, CallTimeoutError: it is not there (1008, 999).
        ParamTypeError, ParamValueError: wrong arguments (401, 1000, 1001).
    """
    checked_key(key)
    if not isinstance(rebind, Rebind):
        raise ParamTypeError(f"rebind is one of Rebind.{', Rebind.'.join(Rebind.__members__)}, got {rebind!r}")
    if interface is None:
        if rebind is not Rebind.FAIL:
            raise ParamValueError(
                f"Rebind.{rebind.name} needs the service's interface as the first argument: a plain remote object is "
                "one object of one process"
            )
        return client.get_system_ability(key, timeout)
    if rebind is Rebind.FAIL:
        return proxy(interface, client.get_system_ability(key, timeout))
    return cast("I", _class_for(contract_of(interface).interface)(_Finder(key, rebind, timeout)))


class _Finder:
    """Finds the object of an ability, again and again.

    Args:
        key: id or name. rebind: WAIT or RETRY_IDEMPOTENT. timeout: seconds for a search, None: DEFAULT_WAIT.

    Attributes:
        known: the object found last; may be dead.
    """

    def __init__(self, key: AbilityKey, rebind: Rebind, timeout: float | None) -> None:
        self.key = key
        self.rebind = rebind
        self._timeout = DEFAULT_WAIT if timeout is None else timeout
        self._lost: IRemoteObject | None = None
        self.known = client.get_system_ability(key, timeout)

    def lost(self, remote: IRemoteObject) -> None:
        """Note that a call to ``remote`` failed for its death, which may be known to the driver a moment later only."""
        self._lost = remote

    def living(self) -> IRemoteObject | None:
        """Return the object found last, None when it is dead."""
        found = self.known
        return None if found is self._lost or found.is_object_dead() else found

    def end(self, until: float | None) -> float:
        """Return when a search that begins now ends: its own time, ``until``, or that of the call being handled."""
        now = time.monotonic()
        end = now + self._timeout
        if until is not None:
            end = min(end, until)
        context = current.get()
        left = None if context is None else context.remaining()
        return end if left is None else min(end, now + left)

    def find(self, end: float) -> IRemoteObject:
        """Return the living object; wait for it at most until ``end``.

        Raises:
            CallTimeoutError: it did not come back (999). RefusedError, ServiceError: it may not be had.
        """
        rest = threading.Event()
        for pause in self._pauses(end):
            found = self.living()
            if found is None:
                with suppress(*_NOT_YET):
                    self.known = client.get_system_ability(self.key, _slice(end))
                    found = self.living()  # None when SAMgr did not notice the death yet
            if found is not None:
                return found
            rest.wait(pause)
        raise self._too_late()

    async def find_async(self, end: float) -> IRemoteObject:
        """The same from a coroutine; the event loop never waits."""
        import asyncio  # only programs that use it pay for it

        from binderkit.samgr import aio

        for pause in self._pauses(end):
            found = self.living()
            if found is None:
                with suppress(*_NOT_YET):
                    self.known = await aio.get_system_ability(self.key, _slice(end))
                    found = self.living()
            if found is not None:
                return found
            await asyncio.sleep(pause)
        raise self._too_late()

    def _pauses(self, end: float) -> Iterator[float]:
        """Yield growing pauses until ``end``; at least one."""
        pause = _FIRST_PAUSE
        yield pause
        while (left := end - time.monotonic()) > 0:
            pause = min(2 * pause, _LONGEST_PAUSE)
            yield min(pause, left)

    def _too_late(self) -> CallTimeoutError:
        return CallTimeoutError(
            f"the process of system ability {self.key!r} ended and it was not back in time; the call was not sent",
            code=codes.LOAD_SA_TIMEOUT,
        )


class _Rebinding(Generic[I]):
    """What a typed proxy that finds its service again has in place of a fixed object."""

    _idempotent: dict[int, tuple[bytes, ...]]

    def __init__(self, finder: _Finder) -> None:
        self._finder = finder
        self._handle = 0
        self._transact = self._send
        self._transact_async = self._send_async

    def as_object(self) -> IRemoteObject:
        """Return the object of the moment; it may be dead."""
        return self._finder.known

    def _send(
        self, handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        until = _until(option)
        left = REPEATS
        while True:
            remote = self._finder.living()
            if remote is None:
                remote = self._finder.find(self._finder.end(until))
                option = _shortened(option, until)
            try:
                return remote.send_request(code, data, reply, option)
            except DeadObjectError:
                self._finder.lost(remote)
                if not left or not self._may_repeat(code, data):
                    raise
            left -= 1

    async def _send_async(
        self, handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        until = _until(option)
        left = REPEATS
        while True:
            remote = self._finder.living()
            if remote is None:
                remote = await self._finder.find_async(self._finder.end(until))
                option = _shortened(option, until)
            try:
                await remote.send_message_request(code, data, reply, option)
                return 0
            except DeadObjectError:
                self._finder.lost(remote)
                if not left or not self._may_repeat(code, data):
                    raise
            left -= 1

    def _may_repeat(self, code: int, data: MessageSequence) -> bool:
        """Whether the method behind ``code`` is marked idempotent, and the policy is to repeat those."""
        if self._finder.rebind is not Rebind.RETRY_IDEMPOTENT:
            return False
        return any(data._out.startswith(token) for token in self._idempotent.get(code, ()))

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of system ability {self._finder.key!r}, {self._finder.rebind.name}>"


def _slice(end: float) -> float:
    """Return the seconds for which SAMgr is asked now, in a search that ends at ``end``."""
    return min(max(end - time.monotonic(), 0.001), _SLICE)


def _until(option: MessageOption | None) -> float | None:
    """Return when the call has to be over, by the limit of time it was made with."""
    return None if option is None or option.timeout is None else time.monotonic() + option.timeout


def _shortened(option: MessageOption | None, until: float | None) -> MessageOption | None:
    """Return ``option`` with what is left of its time."""
    if option is None or until is None:
        return option
    return MessageOption(option.get_flags(), timeout=max(0.001, until - time.monotonic()))


def _class_for(interface: type[Interface]) -> Any:
    """Return the class of an interface's proxies that find their service again; made once."""
    known = interface.__dict__.get("__rebinding__")
    if known is None:
        base = proxy_class(interface)
        idempotent: dict[int, tuple[bytes, ...]] = {}
        for contract, method in interface.__contract__.all_methods():
            if method.idempotent:
                idempotent[method.code] = (*idempotent.get(method.code, ()), contract.token)
        namespace = {"__module__": interface.__module__, "__doc__": interface.__doc__, "_idempotent": idempotent}
        kind: Any = type(base)
        known = kind(f"Rebinding{interface.__name__}Proxy", (_Rebinding, base), namespace, abstract=True)
        interface.__rebinding__ = known  # type: ignore[attr-defined]
    return known

"""The stub side of the object model: IRemoteObject, RemoteObject, IRemoteBroker.

Owns: what a user subclasses to offer an object to other processes, and how
its handler is found (reference 1.7). A RemoteObject knows nothing of drivers;
a driver that exports it keeps its own record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from binderkit import limits
from binderkit.errors import OnlyProxyPermittedError, ParamTypeError, ParamValueError, UnknownTransactionError
from binderkit.ipc.context import RemoteCaller, calling_identity
from binderkit.ipc.option import CallingInfo, MessageOption, RequestResult
from binderkit.ipc.tokens import token_of
from binderkit.parcel.objects import Transferable

if TYPE_CHECKING:
    from binderkit.ipc.proxy import DeathRecipient
    from binderkit.parcel import MessageSequence

HandlerResult: TypeAlias = bool | Awaitable[bool]
Handler = Callable[..., HandlerResult]


@runtime_checkable
class IRemoteBroker(Protocol):
    """Something that has a remote object behind it (reference 1.7): whatever has ``as_object``."""

    @abstractmethod
    def as_object(self) -> IRemoteObject:
        """Return the stub or proxy behind this interface."""


class IRemoteObject(Transferable, ABC):
    """What stubs and proxies have in common: they can be called, and travel in messages."""

    __slots__ = ()

    @abstractmethod
    def send_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None = None
    ) -> int:
        """Call the object and wait for the reply; see RemoteProxy.send_request."""

    @abstractmethod
    async def send_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None = None
    ) -> RequestResult:
        """Call the object from a coroutine; see RemoteProxy.send_message_request."""

    @abstractmethod
    def get_descriptor(self) -> str:
        """Return the descriptor of the object's interface."""

    @abstractmethod
    def is_object_dead(self) -> bool:
        """Whether the object is known to be gone."""

    @abstractmethod
    def register_death_recipient(self, recipient: DeathRecipient, flags: int = 0) -> None:
        """Have ``recipient.on_remote_died`` called once when the object's process ends."""

    @abstractmethod
    def unregister_death_recipient(self, recipient: DeathRecipient, flags: int = 0) -> bool:
        """Take one registration of ``recipient`` back."""

    @abstractmethod
    def get_local_interface(self, descriptor: str) -> IRemoteBroker | None:
        """Return the broker of a local object."""


class RemoteObject(IRemoteObject):
    """An object other processes can call. Subclass it and implement ``on_remote_message_request``.

    Args:
        descriptor: name of the interface, e.g. "com.example.IPhoto"; fewer than 40 960 UTF-16 units.

    Raises:
        ParamTypeError, ParamValueError: the descriptor is no string or too long (401).

    The handler is called with (code, data, reply, option) on a worker thread, several at a time; it reads its
    arguments from ``data``, writes results to ``reply`` and returns True. It may be ``async def``. Returning
    False, or raising, gives the caller an error; nothing it raises is executed at the caller.
    A handler with another number of parameters than four gets a CallingInfo as the fifth.
    """

    __slots__ = ("__dict__", "__weakref__", "_brokers", "_descriptor")

    def __init__(self, descriptor: str) -> None:
        self._descriptor = checked_descriptor(descriptor)
        self._brokers: dict[str, IRemoteBroker] = {}

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> HandlerResult:
        """Handle a request; override this. Return True when the code was known and handled.

        A stub that does not override it refuses every call with 408 (reference 1.7). The default itself, for
        ``return super().on_remote_message_request(...)`` at the end of a handler, refuses the code.

        Raises:
            UnknownTransactionError: always (305).
        """
        raise UnknownTransactionError(f"{self._descriptor!r} does not know transaction {code}")

    def on_dump(self, descriptor: int, arguments: list[str]) -> None:
        """Write a description of the object's state to the file descriptor ``descriptor``.

        Called for DUMP_TRANSACTION (``binderkit dump``). The default writes the repr.
        The descriptor is closed by the caller of this method.
        """
        import os

        os.write(descriptor, f"{self!r}\n".encode())

    def send_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None = None
    ) -> int:
        """Call this object directly: same process, same thread, no driver; flags are ignored (reference 1.7).

        Returns:
            0; the reply is filled even for TF_ASYNC.

        Raises:
            RemoteError, UnknownTransactionError, InvalidCodeError: as through a driver.
        """
        from binderkit.ipc.dispatch import call_local

        return call_local(self, code, data, reply, option)

    async def send_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None = None
    ) -> RequestResult:
        """Like send_request; an ``async def`` handler is awaited on this loop."""
        from binderkit.ipc.dispatch import call_local_async

        await call_local_async(self, code, data, reply, option)
        return RequestResult(0, code, data, reply)

    def get_descriptor(self) -> str:
        """Return the descriptor given to the constructor."""
        return self._descriptor

    def is_object_dead(self) -> bool:
        """Return False: a stub lives as long as its process."""
        return False

    def register_death_recipient(self, recipient: DeathRecipient, flags: int = 0) -> None:
        """Refused: only a proxy can learn of a death (1900005)."""
        raise OnlyProxyPermittedError(f"{self!r} is a local object; register the recipient on a proxy of it")

    def unregister_death_recipient(self, recipient: DeathRecipient, flags: int = 0) -> bool:
        """Refused: only a proxy can learn of a death (1900005)."""
        raise OnlyProxyPermittedError(f"{self!r} is a local object; recipients belong to proxies")

    def modify_local_interface(self, broker: IRemoteBroker, descriptor: str) -> None:
        """Attach ``broker`` so that get_local_interface(descriptor) returns it (reference 1.7)."""
        self._brokers[checked_descriptor(descriptor)] = broker

    def get_local_interface(self, descriptor: str) -> IRemoteBroker | None:
        """Return the broker attached for ``descriptor``, None when there is none."""
        return self._brokers.get(checked_descriptor(descriptor))

    def get_calling_pid(self) -> int:
        """Return the pid of the process whose call is being handled (our own outside a call)."""
        return calling_identity().pid

    def get_calling_uid(self) -> int:
        """Return the uid of the process whose call is being handled (our own outside a call)."""
        return calling_identity().uid

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} stub {self._descriptor!r}>"


class ForeignObject(RemoteObject):
    """Stands on this device for an object of another one (dbinder makes it, in the process that speaks for the device).

    Whoever gets it holds a proxy of its own kind (ipc/rpc_proxy.py), which knows what cannot be done with it.
    """

    __slots__ = ()

    @abstractmethod
    def on_reserved(self, code: int, data: MessageSequence, reply: MessageSequence) -> bool:
        """Handle a code above 0x00FFFFFF; raise RefusedError for those that do not go between devices."""


def checked_descriptor(descriptor: object) -> str:
    """Return ``descriptor`` if it can be an interface descriptor, else raise (401)."""
    if not isinstance(descriptor, str):
        raise ParamTypeError(f"a descriptor is a string such as 'com.example.IPhoto', got {type(descriptor).__name__}")
    if len(descriptor) >= limits.MAX_STRING_UNITS:
        raise ParamValueError(f"the descriptor has {len(descriptor)} characters; it must be shorter than 40960")
    return descriptor


def calling_info() -> CallingInfo:
    """Return who is calling as a CallingInfo (reference 1.7)."""
    caller = calling_identity()
    return CallingInfo(
        caller_pid=caller.pid,
        caller_uid=caller.uid,
        caller_token_id=token_of(caller),
        remote_device_id=caller.device_id,
        local_device_id=caller.local_device_id if isinstance(caller, RemoteCaller) else "",
        is_local_calling=not caller.device_id,
    )


def bound_handler(stub: RemoteObject) -> Handler:
    """Return what a driver calls for the requests of ``stub``.

    A driver keeps it beside the stub, never in it: a stub that held its own bound method would live until
    the garbage collector finds the cycle instead of until its last proxy goes.

    on_remote_message_request wins over the older on_remote_request; a
    function that does not declare exactly four parameters gets a CallingInfo (reference 1.7).
    """
    kind = type(stub)
    method: Handler = stub.on_remote_message_request
    if kind.on_remote_message_request is RemoteObject.on_remote_message_request:
        old = getattr(stub, "on_remote_request", None)
        if old is None:
            return _no_handler
        method = old
    if _positional_count(method) == 4:
        return method

    def with_calling_info(code: int, data: Any, reply: Any, option: Any) -> HandlerResult:
        return method(code, data, reply, option, calling_info())

    return with_calling_info


def _positional_count(method: Handler) -> int:
    code = getattr(getattr(method, "__func__", None), "__code__", None)
    if code is not None:
        return int(code.co_argcount) - 1  # a plain method; importing inspect would cost more than the package
    import inspect

    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(method).parameters.values()
    return sum(parameter.kind in kinds for parameter in parameters)


class NoHandler(Exception):
    """A stub has no handler at all (408)."""


def _no_handler(code: int, data: Any, reply: Any, option: Any) -> HandlerResult:
    raise NoHandler("the stub has no on_remote_message_request; override it in your subclass of RemoteObject")

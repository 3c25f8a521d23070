"""Properties of a contract: a value that can be read, set and watched from other processes.

Owns: where an implementing object keeps the value, and who is told when it changes. On a proxy the same descriptor
makes calls. Watchers are told by one-way calls: in order, and whoever is gone is dropped.

Locks: ``_lock`` for the lists of watchers of all objects; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

from binderkit.errors import DeadObjectError, ParamTypeError, QuotaError, RemoteError, UnknownTransactionError
from binderkit.interface import codes
from binderkit.interface.codec import Mismatch, codec_for, reader
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.interface.codec import Codec

T = TypeVar("T")
_log = logging.getLogger("binderkit.interface")
_lock = threading.Lock()
_VALUES: Final = "_property_values"
_WATCHERS: Final = "_property_watchers"
MAX_WATCHERS: Final = 1000
"""per property; one more is refused"""
_ONE_WAY: Final = MessageOption(MessageOption.TF_ASYNC)


class Property(Generic[T]):
    """A property of a contract: ``volume = Property(int)``.

    On an object that implements the contract it keeps a value (unset: AttributeError; override it with a Python
    property to compute one); on a proxy, reading and assigning are calls. ``watch`` tells about changes.

    Args:
        hint: type of the value.
        readonly: whether other processes may only read it.
    """

    def __init__(self, hint: type[T], *, readonly: bool = False) -> None:
        self.hint: Any = hint
        self.readonly = readonly
        self.name = ""
        self.owner: Any = None
        self.getter = 0
        self.setter = 0
        self._codec: Codec | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.owner = owner

    @property
    def codec(self) -> Codec:
        """How the value travels."""
        if self._codec is None:
            self._codec = codec_for(self.hint)
        return self._codec

    @overload
    def __get__(self, instance: None, owner: type) -> Property[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Property[T] | T:
        if instance is None:
            return self
        if not isinstance(instance, RemoteObject):
            return cast(T, self.read(_exchange(instance, self, self.getter, ())))
        try:
            return cast(T, instance.__dict__[_VALUES][self.name])
        except KeyError:
            raise AttributeError(f"{type(instance).__name__}.{self.name} was not given a value yet") from None

    def __set__(self, instance: object, value: T) -> None:
        if not isinstance(instance, RemoteObject):
            _exchange(instance, self, self.setter, (value,))
            return
        encoded = MessageSequence()
        write_value(self, encoded, value)
        with _lock:
            instance.__dict__.setdefault(_VALUES, {})[self.name] = value
            watchers = list(instance.__dict__.get(_WATCHERS, {}).get(self.name, ()))
        for watcher in watchers:
            self._tell(instance, watcher, value)

    def _tell(self, instance: RemoteObject, watcher: IRemoteObject, value: T) -> None:
        data = MessageSequence()
        data.write_interface_token(codes.WATCHER)
        self.codec.write(data, value)
        try:
            watcher.send_request(codes.CHANGED, data, MessageSequence(), _ONE_WAY)
        except (DeadObjectError, QuotaError) as error:
            _log.info("%r is not told about %s.%s any more: %s", watcher, self.owner.__name__, self.name, error)
            remove_watcher(instance, self, watcher)

    def read(self, data: MessageSequence) -> Any:
        """Read a value.

        Raises:
            ParcelReadError: there is none.
        """
        return reader(self.codec)(data)

    def __repr__(self) -> str:
        return f"<Property {self.owner.__name__ if self.owner else '?'}.{self.name}>"


def write_value(prop: Property[Any], out: MessageSequence, value: object) -> None:
    """Write a property's value.

    Raises:
        ParamTypeError, ParamValueError: not what the contract says (401).
    """
    try:
        prop.codec.write(out, value)
    except Mismatch as error:
        raise error.explained(f"{prop.owner.__name__}.{prop.name}") from None


def _exchange(proxy: Any, prop: Property[Any], code: int, arguments: tuple[Any, ...]) -> MessageSequence:
    data, reply = _request(prop, code, arguments), MessageSequence()
    proxy._transact(proxy._handle, code, data, reply, None)
    return _checked(prop, reply)


def _request(prop: Property[Any], code: int, arguments: tuple[Any, ...]) -> MessageSequence:
    if not code:
        raise AttributeError(f"{prop.owner.__name__}.{prop.name} can only be read from other processes")
    data = MessageSequence()
    data.write_interface_token(prop.owner.__contract__.descriptor)
    for value in arguments:
        write_value(prop, data, value)
    return data


def _checked(prop: Property[Any], reply: MessageSequence) -> MessageSequence:
    status = reply.read_int()
    if status:
        raise RemoteError(f"{prop.owner.__name__}.{prop.name} ended with error code {status}", code=status)
    return reply


async def get_property(target: object, prop: Property[T], *, timeout: float | None = None) -> T:
    """Return a property's value without blocking the event loop.

    Args:
        target: a proxy, e.g. ``player``, or an object of this process.
        prop: the property, e.g. ``IPlayer.volume``.
        timeout: seconds the call may take; None: no limit.

    Raises:
        ParamTypeError: not a property of the target's contract (401). CallTimeoutError, and what calls raise.
    """
    _check_property(target, prop)
    if isinstance(target, RemoteObject):
        return cast(T, getattr(target, prop.name))
    return cast(T, prop.read(await _exchange_async(target, prop, prop.getter, (), timeout)))


async def set_property(target: object, prop: Property[T], value: T, *, timeout: float | None = None) -> None:
    """Set a property without blocking the event loop; arguments and errors as ``get_property``.

    Raises:
        AttributeError: it can only be read from other processes.
    """
    _check_property(target, prop)
    if isinstance(target, RemoteObject):
        setattr(target, prop.name, value)
        return
    await _exchange_async(target, prop, prop.setter, (value,), timeout)


async def _exchange_async(
    proxy: Any, prop: Property[Any], code: int, arguments: tuple[Any, ...], timeout: float | None
) -> MessageSequence:
    data, reply = _request(prop, code, arguments), MessageSequence()
    await proxy._transact_async(proxy._handle, code, data, reply, MessageOption(timeout=timeout))
    return _checked(prop, reply)


# --- watching ------------------------------------------------------------------------------------------


class Watch:
    """A subscription to a property; ``close``, leaving a ``with`` block, or the death of either side ends it."""

    def __init__(self, proxy: Any, prop: Property[Any], watcher: RemoteObject) -> None:
        self._proxy = proxy
        self._prop = prop
        self._watcher: RemoteObject | None = watcher

    def close(self) -> None:
        """Stop being told. Idempotent."""
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        try:
            _subscribe(self._proxy, self._prop, watcher, codes.UNWATCH)
        except DeadObjectError as error:
            _log.debug("the watched object is gone: %s", error)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Watcher(RemoteObject):
    """Gets the new values (in the watching process)."""

    def __init__(self, prop: Property[Any], callback: Callable[[Any], None]) -> None:
        super().__init__(codes.WATCHER)
        self._prop = prop
        self._callback = callback

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        if data.read_interface_token() != codes.WATCHER or code != codes.CHANGED:
            raise UnknownTransactionError(f"a watcher does not know transaction {code}")
        self._callback(self._prop.read(data))
        return True


def watch(target: object, prop: Property[T], callback: Callable[[T], None]) -> Watch:
    """Have ``callback(value)`` called on a worker thread whenever a property of ``target`` is assigned.

    Args:
        target: a proxy, e.g. ``player``.
        prop: the property, e.g. ``IPlayer.volume``.
        callback: must be quick; values come in the order they were assigned.

    Returns:
        The subscription; keep it, close it.

    Raises:
        ParamTypeError: no proxy, or not a property of its contract (401). DeadObjectError: it is gone.
    """
    if isinstance(target, RemoteObject) or not hasattr(type(target), "__contracts__"):
        raise ParamTypeError(f"watch takes a proxy, got {target!r}")
    if not callable(callback):
        raise ParamTypeError(f"a watcher is a function that takes the new value, got {callback!r}")
    _check_property(target, prop)
    watcher = _Watcher(prop, callback)
    _subscribe(target, prop, watcher, codes.WATCH)
    return Watch(target, prop, watcher)


def _check_property(target: object, prop: object) -> None:
    if not isinstance(prop, Property) or not isinstance(target, prop.owner):
        raise ParamTypeError(f"{prop!r} is no property of {target!r}")


def _subscribe(proxy: Any, prop: Property[Any], watcher: RemoteObject, code: int) -> None:
    data, reply = MessageSequence(), MessageSequence()
    data.write_interface_token(prop.owner.__contract__.descriptor)
    data.write_string(prop.name)
    data.write_remote_object(watcher)
    proxy._transact(proxy._handle, code, data, reply, None)


def add_watcher(instance: RemoteObject, prop: Property[Any], watcher: object) -> None:
    """Tell ``watcher`` about changes from now on (in the serving process).

    Raises:
        QuotaError: too many watchers. ParamTypeError: no remote object.
    """
    if not isinstance(watcher, (RemoteProxy, RemoteObject)):
        raise ParamTypeError(f"a watcher is a remote object, got {watcher!r}")
    with _lock:
        watchers = instance.__dict__.setdefault(_WATCHERS, {}).setdefault(prop.name, [])
        if len(watchers) >= MAX_WATCHERS:
            watchers[:] = [known for known in watchers if not known.is_object_dead()]
        if len(watchers) >= MAX_WATCHERS:
            raise QuotaError(f"{len(watchers)} watchers of {prop.name}; the limit is {MAX_WATCHERS}")
        watchers.append(watcher)


def remove_watcher(instance: RemoteObject, prop: Property[Any], watcher: object) -> None:
    """Undo ``add_watcher`` once; unknown watchers are ignored."""
    with _lock:
        watchers = instance.__dict__.get(_WATCHERS, {}).get(prop.name, [])
        if watcher in watchers:
            watchers.remove(watcher)

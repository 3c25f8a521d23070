"""The serving side of a contract: from a request to the method of the implementing object.

Owns: the tables of a class (token -> code -> invoker), made when its first object is. The invokers themselves are made
by generate.py.

Rules upheld: a message that is malformed, or meant for another interface, never reaches a method; an unknown method and
an unknown interface have errors of their own.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from binderkit.errors import InterfaceMismatchError, ParcelReadError, UnknownTransactionError
from binderkit.interface import codes
from binderkit.ipc.remote import HandlerResult, IRemoteBroker, IRemoteObject, RemoteObject
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.interface.contract import Contract, Method
    from binderkit.ipc.option import MessageOption

Invoke = Callable[[Any, MessageSequence, MessageSequence], "bool | Awaitable[bool]"]
Table = dict[int, Invoke]


class TypedStub(RemoteObject):
    """What a class that implements a contract becomes: a RemoteObject whose handler calls its methods."""

    __contracts__: ClassVar[tuple[Contract, ...]]
    _bk_token: ClassVar[bytes]
    _bk_token_size: ClassVar[int]
    _bk_table: ClassVar[Table]
    _bk_tables: ClassVar[dict[str, Table]]

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        if "_bk_tables" not in cls.__dict__:
            _prepare(cls)
        self = super().__new__(cls)
        RemoteObject.__init__(self, cls.__contracts__[0].descriptor)
        return self

    def __init__(self) -> None:
        """Nothing is left to do: a subclass need not call this."""

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> HandlerResult:
        """Call the method that has this code in the interface whose token came along."""
        received = data._in
        if received is not None and received[: self._bk_token_size] == self._bk_token:
            invoke = self._bk_table.get(code)
            if invoke is not None:
                data._pos = self._bk_token_size
                return invoke(self, data, reply)
        return self._bk_other(code, data, reply)

    def _bk_other(self, code: int, data: MessageSequence, reply: MessageSequence) -> HandlerResult:
        """Answer what is not a method of the first interface."""
        general = _GENERAL.get(code)
        if general is not None:
            return general(self, data, reply)
        descriptor = _token_of(data)
        table = self._bk_tables.get(descriptor)
        if table is None:
            raise InterfaceMismatchError(
                f"{type(self).__name__} implements {', '.join(self._bk_tables)}, the call is for {descriptor!r}"
            )
        invoke = table.get(code)
        if invoke is None:
            version = next(known.version for known in self.__contracts__ if known.descriptor == descriptor)
            raise UnknownTransactionError(
                f"{descriptor} version {version} has no method with code {code} (asked of {type(self).__name__})"
            )
        return invoke(self, data, reply)

    def get_local_interface(self, descriptor: str) -> IRemoteBroker | None:
        """Return this object for an interface it implements, else what was attached for ``descriptor``."""
        if descriptor in self._bk_tables:
            return cast("IRemoteBroker", self)  # every implementing class has as_object
        return super().get_local_interface(descriptor)

    def as_object(self) -> IRemoteObject:
        """Return this object."""
        return self


def _token_of(data: MessageSequence) -> str:
    try:
        return data.read_interface_token()
    except ParcelReadError as error:
        raise InterfaceMismatchError(f"the call names no interface: {error}") from None


# --- tables -----------------------------------------------------------------------------------------------


def _prepare(cls: type[TypedStub]) -> None:
    """Make the tables of a class.

    Raises:
        TypeError: it does not implement a method, or not with the contract's parameters.
    """
    from binderkit.interface.generate import invoker  # needs the contracts, which need this module

    tables: dict[str, Table] = {}
    for contract in cls.__contracts__:
        table = tables[contract.descriptor] = {
            method.code: invoker(method, _implementation(cls, contract, method)) for method in contract.methods.values()
        }
        for prop in contract.properties.values():
            table[prop.getter] = _getter(prop.name)
            if prop.setter:
                table[prop.setter] = _setter(prop.name)
    first = cls.__contracts__[0]
    cls._bk_token, cls._bk_token_size, cls._bk_table = first.token, len(first.token), tables[first.descriptor]
    cls._bk_tables = tables


def _implementation(cls: type, contract: Contract, method: Method) -> Callable[..., Any]:
    function: Any = getattr(cls, method.name, None)
    if not callable(function) or function is vars(contract.interface)[method.name]:
        raise TypeError(f"{cls.__name__} does not implement {method.title}")
    positional = [object()] + [0 for known in method.parameters if not known.keyword_only]
    keywords = {known.name: 0 for known in method.parameters if known.keyword_only}
    try:
        inspect.signature(function).bind(*positional, **keywords)
    except TypeError as error:
        raise TypeError(f"{cls.__name__}.{method.name} cannot be called as {method.title} is: {error}") from None
    return function  # type: ignore[no-any-return]


def _getter(name: str) -> Invoke:
    def get(self: TypedStub, data: MessageSequence, reply: MessageSequence) -> bool:
        prop = _property_named(self, name)
        value = getattr(self, name)
        reply.write_int(0)
        prop.codec.write(reply, value)
        return True

    return get


def _setter(name: str) -> Invoke:
    def set_(self: TypedStub, data: MessageSequence, reply: MessageSequence) -> bool:
        value = _property_named(self, name).read(data)
        setattr(self, name, value)
        reply.write_int(0)
        return True

    return set_


def _property_named(stub: TypedStub, name: str) -> Any:
    for contract in stub.__contracts__:
        if name in contract.properties:
            return contract.properties[name]
    raise UnknownTransactionError(f"{type(stub).__name__} has no property {name!r}")


# --- what every typed object answers (codes.py) -----------------------------------------------------------


def _contract_meant(stub: TypedStub, data: MessageSequence) -> Contract:
    descriptor = _token_of(data)
    for contract in stub.__contracts__:
        if contract.descriptor == descriptor:
            return contract
    raise InterfaceMismatchError(f"{type(stub).__name__} implements {', '.join(stub._bk_tables)}, not {descriptor!r}")


def _version(stub: TypedStub, data: MessageSequence, reply: MessageSequence) -> bool:
    reply.write_int(_contract_meant(stub, data).version)
    return True


def _hash(stub: TypedStub, data: MessageSequence, reply: MessageSequence) -> bool:
    reply.write_string(_contract_meant(stub, data).hash)
    return True


def _describe(stub: TypedStub, data: MessageSequence, reply: MessageSequence) -> bool:
    text = json.dumps([contract.describe() for contract in stub.__contracts__]).encode()
    reply.write_int(len(text))
    reply.write_raw_data_buffer(text, len(text))
    return True


def _query(stub: TypedStub, data: MessageSequence, reply: MessageSequence) -> bool:
    broker = stub.get_local_interface(data.read_string())
    reply.write_boolean(broker is not None)
    if broker is not None:
        reply.write_remote_object(broker.as_object())
    return True


def _watch(stub: TypedStub, data: MessageSequence, reply: MessageSequence) -> bool:
    from binderkit.interface.properties import add_watcher

    _contract_meant(stub, data)
    prop = _property_named(stub, data.read_string())
    add_watcher(stub, prop, data.read_remote_object())
    return True


def _unwatch(stub: TypedStub, data: MessageSequence, reply: MessageSequence) -> bool:
    from binderkit.interface.properties import remove_watcher

    _contract_meant(stub, data)
    prop = _property_named(stub, data.read_string())
    remove_watcher(stub, prop, data.read_remote_object())
    return True


_GENERAL: dict[int, Invoke] = {
    codes.GET_VERSION: _version,
    codes.GET_HASH: _hash,
    codes.DESCRIBE: _describe,
    codes.QUERY_INTERFACE: _query,
    codes.WATCH: _watch,
    codes.UNWATCH: _unwatch,
}

"""What an object can be asked about its contract: version, hash, description, other interfaces.

Owns: the client's side of codes.py. Everything that comes back is data: nothing of it is imported or executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

from binderkit import limits
from binderkit.errors import CommunicationError, InterfaceMismatchError, RemoteError, UnknownTransactionError
from binderkit.interface import codes
from binderkit.interface.contract import Interface, contract_of
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.parcel import MessageSequence

I = TypeVar("I", bound=Interface)  # noqa: E741 - the usual letter of an interface


def _ask(
    remote: IRemoteObject, code: int, data: MessageSequence, option: MessageOption | None = None
) -> MessageSequence:
    reply = MessageSequence()
    try:
        remote.send_request(code, data, reply, option)
    except (UnknownTransactionError, RemoteError) as error:
        raise InterfaceMismatchError(f"{remote!r} has no typed interface: {error}") from error
    return reply


def _about(interface: Callable[..., Interface]) -> MessageSequence:
    data = MessageSequence()
    data.write_interface_token(contract_of(interface).descriptor)
    return data


def interface_version(remote: IRemoteObject, interface: Callable[..., Interface]) -> int:
    """Return the version of ``interface`` that ``remote`` implements.

    Raises:
        InterfaceMismatchError: it does not implement it.
    """
    return _ask(remote, codes.GET_VERSION, _about(interface)).read_int()


def interface_hash(remote: IRemoteObject, interface: Callable[..., Interface]) -> str:
    """Return the hash of ``interface`` as ``remote`` implements it; equal hashes understand each other.

    Raises:
        InterfaceMismatchError: it does not implement it.
    """
    return _ask(remote, codes.GET_HASH, _about(interface)).read_string()


def require_version(proxy: Interface, version: int) -> None:
    """Raise InterfaceMismatchError unless the object behind ``proxy`` implements at least ``version``."""
    for kind in type(proxy).__mro__:
        contract = kind.__dict__.get("__contract__")
        if contract is None:
            continue
        there = interface_version(proxy.as_object(), contract.interface)
        if there < version:
            raise InterfaceMismatchError(
                f"{proxy!r} implements {contract.descriptor} version {there}, version {version} is needed; "
                "update the service, or do without the newer methods"
            )
        return


def describe(remote: IRemoteObject, *, timeout: float | None = None) -> list[dict[str, Any]]:
    """Return the descriptions (Contract.describe) of the interfaces an object implements, the main one first.

    Args:
        timeout: seconds the object may take; None: for ever, or the deadline of the call being handled.

    Raises:
        CallTimeoutError: it took longer.
        InterfaceMismatchError: it has no typed interface.
        CommunicationError: what it answered makes no sense.
    """
    reply = _ask(remote, codes.DESCRIBE, MessageSequence(), MessageOption(timeout=timeout))
    size = reply.read_int()
    if not 0 < size <= limits.MAX_DESCRIPTION:
        raise CommunicationError(f"a description of {size} bytes; at most {limits.MAX_DESCRIPTION} are read")
    try:
        told = json.loads(bytes(reply.read_raw_data_buffer(size)))
    except (ValueError, RecursionError) as error:
        raise CommunicationError(f"the description of {remote!r} is not JSON: {error}") from error
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise CommunicationError(f"the description of {remote!r} is not a list of interfaces")
    return told


def query(target: Interface, interface: Callable[..., I]) -> I:
    """Return another interface of the same object (see Interface.as_)."""
    from binderkit.interface.proxy import proxy

    remote = target.as_object()
    descriptor = contract_of(interface).descriptor
    if isinstance(remote, RemoteObject):
        broker = remote.get_local_interface(descriptor)
        if broker is None:
            raise InterfaceMismatchError(f"{target!r} does not have the interface {descriptor}")
        if isinstance(broker, contract_of(interface).interface):
            return cast("I", broker)
        return proxy(interface, broker.as_object())
    data = MessageSequence()
    data.write_string(descriptor)
    reply = _ask(remote, codes.QUERY_INTERFACE, data)
    if not reply.read_boolean():
        raise InterfaceMismatchError(f"{target!r} does not have the interface {descriptor}")
    return proxy(interface, reply.read_remote_object())

"""The calling side of a contract: an object with the contract's methods, each of which is a call.

Owns: the class made for each contract, once, and what an object of it holds. Its functions are made by generate.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from binderkit.errors import ParamTypeError
from binderkit.interface.contract import Interface, InterfaceMeta, contract_of
from binderkit.interface.generate import callers
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.parcel import MessageSequence

I = TypeVar("I", bound=Interface)  # noqa: E741 - the usual letter of an interface
_lock = threading.Lock()


class ProxyBase:
    """What every typed proxy is besides its contract."""

    def __init__(self, remote: IRemoteObject) -> None:
        self._remote = remote
        if isinstance(remote, RemoteProxy):
            self._handle = remote._handle
            self._transact: Any = remote._transact
            self._transact_async: Any = remote._transact_async
        else:
            self._handle = 0
            self._transact = self._transact_local
            self._transact_async = self._transact_local_async

    def as_object(self) -> IRemoteObject:
        """Return the remote object behind this proxy: for death notices, raw calls, or to pass it on."""
        return self._remote

    def _transact_local(
        self, handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        """Call an object of this process: arguments and result are copied, as they are between processes."""
        return self._remote.send_request(code, data, reply, option)

    async def _transact_local_async(
        self, handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        await self._remote.send_message_request(code, data, reply, option)
        return 0

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return other._remote is self._remote

    def __hash__(self) -> int:
        return hash((type(self), id(self._remote)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._remote!r}>"


def proxy(interface: Callable[..., I], remote: IRemoteObject | Interface, *, at_least: int | None = None) -> I:
    """Return an object with the methods of ``interface``, each of which calls ``remote``.

    Whether the object has this interface turns out with the first call (InterfaceMismatchError).

    Args:
        interface: a contract.
        remote: a proxy or stub, or anything typed that has one. The stub of this process is called with copies of the
            arguments, as it would be from another process.
        at_least: the version needed; asks the object at once.

    Raises:
        ParamTypeError: no contract, or no remote object (401).
        InterfaceMismatchError: the object's version is older than ``at_least``.
    """
    declared = contract_of(interface).interface
    target = remote.as_object() if isinstance(remote, Interface) else remote
    if not isinstance(target, (RemoteProxy, RemoteObject)):
        raise ParamTypeError(f"proxy takes a remote object, got {remote!r}")
    made = proxy_class(declared)(target)
    if at_least is not None:
        from binderkit.interface.meta import require_version

        require_version(made, at_least)
    return cast(I, made)


def proxy_class(interface: type[Interface]) -> Any:
    """Return the class of an interface's proxies."""
    known = interface.__dict__.get("__proxy__")
    if known is not None:
        return known
    functions: dict[str, Any] = {}
    for contract, method in interface.__contract__.all_methods():
        if method.name not in functions:
            functions[method.name] = callers(contract, method)
    with _lock:
        known = interface.__dict__.get("__proxy__")
        if known is None:
            name = f"{interface.__name__}Proxy"
            namespace = {"__module__": interface.__module__, "__doc__": interface.__doc__, **functions}
            known = InterfaceMeta(name, (ProxyBase, interface), namespace, abstract=True)
            interface.__proxy__ = known  # type: ignore[attr-defined]
    return known

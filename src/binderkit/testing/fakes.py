"""Stand-ins for services: an object with the methods of a contract and the answers a test gives.

Owns: ``fake``, ``calls``. A fake is an ordinary stub behind an ordinary proxy, both of this process: arguments and
results are encoded and decoded as for a call to another process, so a value that cannot travel fails in the test
too, and nobody shares a list by accident. Only a mistake of the test itself (no answer, a wrong one) is told in another
way: as an AssertionError at the caller, not as a RemoteError, which the code under test might handle.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from binderkit.errors import ParamError, ParamTypeError, ParamValueError, RemoteError
from binderkit.interface.codec import Mismatch
from binderkit.interface.contract import Interface, InterfaceMeta, Method, contract_of
from binderkit.interface.proxy import proxy
from binderkit.ipc.option import MessageOption
from binderkit.parcel import MessageSequence

__all__ = ["Call", "FakeError", "calls", "fake"]

I = TypeVar("I", bound=Interface)  # noqa: E741 - the usual letter of an interface


class FakeError(AssertionError):
    """A fake was asked for something the test gave no answer for, or no possible one."""


@dataclass(frozen=True)
class Call:
    """One call of a fake.

    Attributes:
        name: of the method.
        args, kwargs: its arguments as the method got them: decoded copies, defaults filled in, those that are
            keyword-only in the contract in ``kwargs``.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


_ERROR_NAME: Final = f"{FakeError.__module__}.{FakeError.__qualname__}"


class _Record:
    """The calls of one fake, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def all(self) -> list[Call]:
        with self._lock:
            return list(self._calls)


def fake(interface: Callable[..., I], /, **answers: Any) -> I:
    """Return an object with the methods of ``interface`` that answer as told and record their calls.

    It can be called, passed to other objects and offered to other processes (``pair.offer``) like a real one.

    Args:
        interface: a contract.
        answers: by name of a method, what it does: a function is called with the arguments (``async def`` as well), an
            exception is raised, anything else is the result; an iterable is for a method that returns an iterator.
            By name of a property, its value.

    Raises:
        ParamTypeError, ParamValueError: no contract, no such method, or a result the contract does not allow (401).
        FakeError: later, by a method without an answer, or whose answer does not fit.

    Example::

        photos = fake(IPhoto, thumbnail=b"small", measure=lambda image: Size(len(image)))
        assert page_with(photos) == "..."
        assert calls(photos) == [Call("thumbnail", (b"large", 160))]
    """
    declared = contract_of(interface)
    known: dict[str, Method] = {}
    properties: set[str] = set()
    for contract in (declared, *declared.bases):
        properties |= contract.properties.keys()
        for method in contract.methods.values():
            known.setdefault(method.name, method)
    strangers = answers.keys() - known.keys() - properties
    if strangers:
        names = ", ".join([*known, *sorted(properties)])
        raise ParamValueError(f"{declared.interface.__name__} has no {', '.join(sorted(strangers))}; it has {names}")
    record = _Record()
    body: dict[str, Any] = {name: _answering(method, answers, record) for name, method in known.items()}
    body["fake_record"] = record
    stub = cast(Any, InterfaceMeta(f"Fake{declared.interface.__name__}", (declared.interface,), body))()
    for name in properties & answers.keys():
        setattr(stub, name, answers[name])
    made: Any = proxy(interface, stub)
    made._transact = _telling(made._transact)
    made._transact_async = _telling_async(made._transact_async)
    return cast(I, made)


def calls(fake_object: Interface) -> list[Call]:
    """Return the calls a fake got so far, in order.

    Raises:
        ParamTypeError: it is no fake (401).
    """
    target = fake_object.as_object() if isinstance(fake_object, Interface) else fake_object
    record = getattr(target, "fake_record", None)
    if not isinstance(record, _Record):
        raise ParamTypeError(f"calls takes what fake returned, got {fake_object!r}")
    return record.all()


# --- the stub's methods ----------------------------------------------------------------------------------------------


def _answering(method: Method, answers: dict[str, Any], record: _Record) -> Callable[..., Any]:
    """Return what stands for ``method`` in the stub."""
    answer = _answer_of(method, answers)

    def call(self: object, *args: Any, **kwargs: Any) -> Any:
        record.add(Call(method.name, args, kwargs))
        return _fitting(method, answer(*args, **kwargs))

    async def call_async(self: object, *args: Any, **kwargs: Any) -> Any:
        record.add(Call(method.name, args, kwargs))
        return _fitting(method, await answer(*args, **kwargs))

    return call_async if inspect.iscoroutinefunction(answer) else call


def _answer_of(method: Method, answers: dict[str, Any]) -> Callable[..., Any]:
    if method.name not in answers:
        return _raising(lambda: FakeError(f"{method.title} was called, but the fake has no answer: {_remedy(method)}"))
    answer = answers[method.name]
    if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
        return _raising(lambda: answer)
    if callable(answer):
        return cast("Callable[..., Any]", answer)
    if method.stream:
        if not isinstance(answer, Iterable):
            raise ParamTypeError(f"{method.title} returns an iterator; answer with a list of its items, not {answer!r}")
        return lambda *_, **__: answer
    problem = _misfit(method, answer)
    if problem is not None:
        raise problem
    return lambda *_, **__: answer


def _raising(error: Callable[[], Any]) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error()

    return fail


def _remedy(method: Method) -> str:
    return f"give it one with fake({method.interface}, {method.name}=…)"


def _fitting(method: Method, result: Any) -> Any:
    """Return ``result`` if the contract allows it."""
    problem = _misfit(method, result)
    if problem is not None:
        raise FakeError(f"the fake's answer cannot be sent: {problem.args[0]}")
    return result


def _misfit(method: Method, result: Any) -> ParamError | None:
    """Return what is wrong with a result."""
    if method.stream:
        return None  # its items are looked at one by one when they are sent
    if method.result is None:
        if result is None:
            return None
        return ParamTypeError(f"{method.title} returned {type(result).__name__}; the contract says None")
    try:
        with MessageSequence() as nowhere:
            method.result.write(nowhere, result)
    except Mismatch as mismatch:
        return mismatch.explained(f"{method.title} returned")
    return None


# --- the proxy's calls -----------------------------------------------------------------------------------------------


def _telling(transact: Callable[..., int]) -> Callable[..., int]:
    """Let a mistake of the test reach it as what it is."""

    def call(
        handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        try:
            return transact(handle, code, data, reply, option)
        except RemoteError as error:
            raise _told(error) from None

    return call


def _telling_async(transact: Callable[..., Any]) -> Callable[..., Any]:
    async def call(
        handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        try:
            await transact(handle, code, data, reply, option)
        except RemoteError as error:
            raise _told(error) from None
        return 0

    return call


def _told(error: RemoteError) -> Exception:
    return FakeError(error.text) if error.type_name == _ERROR_NAME else error

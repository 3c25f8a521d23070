"""Calling an object by what it says about itself, without its classes: for tools, tests and the command line.

Owns: the call of a described method with JSON-like arguments (jsonlike.py) and its result as the same. The message is
that of any typed call (generate.py); the object cannot tell the difference.

Rules upheld: a description is hostile until described.py has read it; arguments are checked before anything is sent,
and the error names method, parameter, expected and given; descriptors in a result are closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn, Self

from binderkit.errors import (
    CommunicationError,
    ParamValueError,
    ParcelReadError,
    RemoteError,
    UnknownMethodError,
    UnknownTransactionError,
)
from binderkit.interface import codes
from binderkit.interface.codec import Mismatch, closing_on_error
from binderkit.interface.described import (
    Description,
    MethodPart,
    ParameterPart,
    PropertyPart,
    RaisesPart,
    read_description,
)
from binderkit.interface.jsonlike import Kinds
from binderkit.interface.jsonlike_leaves import Kind, Word
from binderkit.interface.stream import Stream
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel import MessageSequence

__all__ = ["Described", "Word", "call", "find"]

_VALUE = "value"
"""Name of the argument that sets a property."""


class Described:
    """An interface known by its description only."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.kinds = Kinds(description)

    @classmethod
    def from_json(cls, told: object) -> Self:
        """Return the interface that ``told`` (an element of ``describe(remote)``) describes.

        Raises:
            CommunicationError: it is no description (1900007).
        """
        return cls(read_description(told))

    def method(self, name: str, arguments: Mapping[str, object]) -> MethodPart:
        """Return a method; a property is one without parameters, and with the argument "value" one that sets it.

        Raises:
            UnknownMethodError: there is none of that name; the text names those there are (305).
            ParamValueError: the property can only be read (401).
        """
        method = self.description.methods.get(name)
        if method is not None:
            return method
        prop = self.description.properties.get(name)
        if prop is None:
            known = ", ".join((*self.description.methods, *self.description.properties)) or "nothing"
            raise UnknownMethodError(f"{self.description.name} has no method or property {name!r}; it has {known}")
        if arguments and not prop.setter:
            raise ParamValueError(f"{self.description.name}.{name} can only be read from other processes")
        return _access(prop, writes=bool(arguments))

    def __repr__(self) -> str:
        return f"<Described {self.description.descriptor!r} version {self.description.version}>"


def _access(prop: PropertyPart, *, writes: bool) -> MethodPart:
    value = ParameterPart(_VALUE, prop.type, optional=False, keyword_only=False)
    return MethodPart(
        name=prop.name,
        code=prop.setter if writes else prop.getter,
        oneway=False,
        idempotent=not writes,
        parameters=(value,) if writes else (),
        result=None if writes else prop.type,
        stream=False,
        raises=(),
        doc="",
    )


def find(interfaces: Sequence[Described], name: str) -> tuple[Described, str]:
    """Return which of an object's interfaces has a method or property, and its name there.

    Args:
        interfaces: as ``describe`` gives them, at least one.
        name: e.g. "thumbnail"; "IPhoto.thumbnail" names the interface as well.

    Raises:
        UnknownMethodError: none has it; the text names what there is (305).
    """
    title, _, plain = name.rpartition(".")
    for one in interfaces:
        known = one.description
        if title in ("", known.name, known.descriptor) and (plain in known.methods or plain in known.properties):
            return one, plain
    there = [
        f"{one.description.name}.{known}"
        for one in interfaces
        for known in (*one.description.methods, *one.description.properties)
    ]
    raise UnknownMethodError(f"there is no method or property {name!r}; there is {', '.join(there) or 'nothing'}")


def call(
    remote: IRemoteObject,
    described: Described,
    name: str,
    arguments: Mapping[str, object],
    *,
    timeout: float | None = None,
) -> Any:
    """Call a method, or read or set a property, of an object by its description.

    Args:
        described: what the object says of the interface.
        name: of a method or property.
        arguments: by name, JSON-like (see jsonlike.py); a Word is taken as JSON if that fits, else as text. Trailing
            ones with a default may be left out: the service has it. A property is set by "value", read without.
        timeout: seconds, 0 < timeout ≤ 3000; None: no limit.

    Returns:
        The result, JSON-like; an iterator of such for a stream.

    Raises:
        UnknownMethodError: the description or the object has no such method (305).
        ParamTypeError, ParamValueError: an argument does not fit (401). OSError: an "@FILE" cannot be read.
        RemoteError: the method failed; a declared exception gives ``type_name`` and code 20000 + its number.
        CommunicationError: the reply does not fit the description (1900007).
        DeadObjectError, CallTimeoutError and what else calls raise.
    """
    method = described.method(name, arguments)
    title = f"{described.description.name}.{method.name}"
    data, reply = MessageSequence(), MessageSequence()
    data.write_interface_token(described.description.descriptor)
    result = None if method.result is None else described.kinds.kind(method.result)
    flags = MessageOption.TF_ASYNC if method.oneway else MessageOption.TF_SYNC
    with ExitStack() as stack:
        _write(data, described.kinds, method, title, arguments, stack)
        try:
            remote.send_request(method.code, data, reply, MessageOption(flags, timeout=timeout))
        except UnknownTransactionError as error:
            raise UnknownMethodError(f"{title} is not known to {remote!r}: {error.args[0]}") from error
    if method.oneway:
        return None
    return _Answer(title, reply).result(method, result, described.kinds)


# --- the request --------------------------------------------------------------------------------------------------


def _write(
    data: MessageSequence,
    kinds: Kinds,
    method: MethodPart,
    title: str,
    arguments: Mapping[str, object],
    stack: ExitStack,
) -> None:
    for parameter in _given(method, title, arguments):
        kind = kinds.kind(parameter.type)
        try:
            kind.codec.write(data, kind.value(arguments[parameter.name], stack))
        except Mismatch as mismatch:
            raise mismatch.explained(f"{title}({parameter.name})") from None


def _given(method: MethodPart, title: str, arguments: Mapping[str, object]) -> Sequence[ParameterPart]:
    """Return the parameters that are sent: up to the last one given.

    Raises:
        ParamValueError: an unknown argument, or one missing (401).
    """
    names = [one.name for one in method.parameters]
    known = f"{title}({', '.join(names)})"
    for name in arguments:
        if name not in names:
            raise ParamValueError(f"{known} has no parameter {name!r:.80}")
    required = max((at for at, one in enumerate(method.parameters, 1) if not one.optional), default=0)
    count = max((at for at, name in enumerate(names, 1) if name in arguments), default=0)
    for one in method.parameters[: max(count, required)]:
        if one.name in arguments:
            continue
        why = "; only the service knows its default, so what follows cannot be given without it" if one.optional else ""
        raise ParamValueError(f"{known}: the argument {one.name!r} ({one.type}) is missing{why}")
    return method.parameters[:count]


# --- the reply ----------------------------------------------------------------------------------------------------


class _Answer:
    """A reply that is being read."""

    def __init__(self, title: str, reply: MessageSequence) -> None:
        self._title = title
        self._reply = reply

    def result(self, method: MethodPart, result: Kind | None, kinds: Kinds) -> Any:
        """Return the result.

        Raises:
            RemoteError, CommunicationError: see call.
        """
        try:
            status = self._reply.read_int()
            if status:
                self._fail(status, method.raises, kinds)
            if result is None:
                return None
            if method.stream:
                return _items(Stream(self._reply.read_remote_object(), result.codec), result, self._title)
            return _plain(result, lambda: result.codec.read(self._reply))
        except (ParcelReadError, RecursionError) as error:
            raise _unfit(self._title, error) from error

    def _fail(self, status: int, declared: Sequence[RaisesPart], kinds: Kinds) -> NoReturn:
        number = status - codes.RAISED
        if not 0 <= number < len(declared):
            raise RemoteError(f"{self._title} ended with error code {status}", code=status)
        kind = kinds.kind(declared[number].fields)
        fields = _plain(kind, lambda: kind.codec.read(self._reply))
        shown = ", ".join(f"{key}={one!r}" for key, one in fields.items()) if isinstance(fields, dict) else fields
        name = declared[number].name
        text = shown if isinstance(shown, str) else ", ".join(map(repr, shown))
        raise RemoteError(f"{self._title} raised {name}({text})", code=status, type_name=name, text=text)


def _unfit(title: str, error: BaseException) -> CommunicationError:
    return CommunicationError(
        f"the reply to {title} does not fit its description: {error.args[0] if error.args else error}"
    )


def _plain(kind: Kind, read: Any) -> Any:
    """Return what ``read`` returns as a JSON-like value; close the descriptors in it."""
    # On an error closing_on_error closes them, and the stack goes without having closed anything.
    stack = ExitStack()
    with closing_on_error():
        plain = kind.give(read(), stack)
    stack.close()
    return plain


def _items(stream: Stream[Any], kind: Kind, title: str) -> Iterator[Any]:
    try:
        while True:
            try:
                yield _plain(kind, stream.__next__)
            except StopIteration:
                return
            except (ParcelReadError, RecursionError) as error:
                raise _unfit(f"{title} (an item)", error) from error
    finally:
        stream.close()

"""Valid calls of an object that implements a typed interface, made from its contract; and what it is held to.

Owns: ``TypedMessages`` (one valid message of each method, over and over, with other values) and ``Typed`` (the watch at
the doors of its methods). Whatever was damaged on the way, a method may only ever see arguments its contract allows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from random import Random
from typing import Any, Final

from binderkit.errors import IpcError, ParamError
from binderkit.interface import codes as general
from binderkit.interface.contract import MISSING, Contract, Interface, Method, Parameter
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from binderkit.testing.messages import Message, RawMessages, Sample, Things
from binderkit.testing.values import NoValueError, Values

__all__ = ["Typed", "TypedMessages"]

GENERAL: Final = (
    general.GET_VERSION, general.GET_HASH, general.DESCRIBE, general.QUERY_INTERFACE, general.WATCH, general.UNWATCH,
)  # fmt: skip
Writer = Callable[[MessageSequence], None]


class Typed:
    """An object and what its contracts say about it."""

    def __init__(self, stub: RemoteObject) -> None:
        if not isinstance(stub, Interface):
            raise TypeError(f"{stub!r} implements no typed interface")
        self.stub = stub
        self.contracts: tuple[Contract, ...] = stub.__contracts__
        self.methods = [(known, method) for known in self.contracts for method in known.methods.values()]
        self._property_codes = {
            code
            for known in self.contracts
            for prop in known.properties.values()
            for code in (prop.getter, prop.setter)
        }
        self._entered = False

    def begin(self, code: int) -> None:
        """A call of ``code`` is made."""
        # Getters and setters are the application's own, there is no door in front of them.
        self._entered = code in self._property_codes

    @property
    def entered(self) -> bool:
        """Whether the call got as far as code of the application."""
        return self._entered

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Look at the arguments of every method in a ``with`` block."""
        own = vars(self.stub)
        before = dict(own)
        for _, method in self.methods:
            own[method.name] = self._guarded(method, getattr(self.stub, method.name))
        try:
            yield
        finally:
            for _, method in self.methods:
                own.pop(method.name, None)
                if method.name in before:
                    own[method.name] = before[method.name]

    def _guarded(self, method: Method, real: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(real)

        @wraps(real)
        def guard(*args: Any, **kwargs: Any) -> Any:
            given = list(signature.bind(*args, **kwargs).arguments.values())
            for parameter, value in zip(method.parameters, given, strict=False):
                _check(method, parameter, value)
            self._entered = True
            return real(*args, **kwargs)

        return guard


def _check(method: Method, parameter: Parameter, value: object) -> None:
    if value is parameter.default:
        return
    try:
        with MessageSequence() as nowhere:
            parameter.codec.write(nowhere, value)
    except IpcError as error:
        raise AssertionError(
            f"a damaged message reached {method.title}, where {parameter.name} is no {parameter.codec.name()}: {error}"
        ) from error


class TypedMessages(RawMessages):
    """Makes messages for an object whose contract is known."""

    def __init__(
        self, rng: Random, typed: Typed, codes: list[int] | None, samples: Iterable[Sample], things: Things
    ) -> None:
        self._writers: dict[int, list[Writer]] = {}
        self._values = Values(rng, things)
        for contract, method in typed.methods:
            self._writers.setdefault(method.code, []).append(self._method_writer(contract, method))
        self._add_properties(typed)
        for code in GENERAL:
            self._writers[code] = [self._general_writer(code, contract) for contract in typed.contracts]
        if codes is not None:
            self._writers = {code: writers for code, writers in self._writers.items() if code in codes}
        super().__init__(rng, typed.stub.get_descriptor(), codes or list(self._writers), samples, things)

    def valid(self) -> Message | None:
        """Return a valid call of any method, property or general code; None if no values can be made up for it."""
        if self.samples and self.rng.random() < 0.2:
            return super().valid()
        code = self.some_code()
        writers = self._writers.get(code)
        if writers is None:
            return None
        sequence = MessageSequence()
        try:
            self.rng.choice(writers)(sequence)
        except (NoValueError, ParamError) as error:  # the latter: a codec is choosier than its hint tells
            self.blind.add(f"{code}: {error}")
            return None
        return Message.of(code, sequence, self.things)

    def wrong_code(self) -> int:
        """Return a code no method has, and none that every typed object answers."""
        methods = [code for code in self.codes if code <= general.LAST_METHOD]
        low = min(max(methods, default=0) + 1000, 0x00800000)
        return self.rng.randrange(low, 0x00F00000)

    def _method_writer(self, contract: Contract, method: Method) -> Writer:
        def write(sequence: MessageSequence) -> None:
            sequence.write_interface_token(contract.descriptor)
            for parameter in method.parameters:
                if parameter.default is not MISSING and self.rng.random() < 0.1:
                    return  # an older caller, which does not know the rest
                parameter.codec.write(sequence, self._values.of(parameter.hint))

        return write

    def _add_properties(self, typed: Typed) -> None:
        for contract in typed.contracts:
            for name, prop in contract.properties.items():
                if hasattr(typed.stub, name):
                    self._writers.setdefault(prop.getter, []).append(_token_writer(contract))
                if prop.setter:
                    self._writers.setdefault(prop.setter, []).append(self._setter_writer(contract, prop))

    def _setter_writer(self, contract: Contract, prop: Any) -> Writer:
        def write(sequence: MessageSequence) -> None:
            sequence.write_interface_token(contract.descriptor)
            prop.codec.write(sequence, self._values.of(prop.hint))

        return write

    def _general_writer(self, code: int, contract: Contract) -> Writer:
        names = [*contract.properties, *contract.methods]

        def write(sequence: MessageSequence) -> None:
            if code != general.QUERY_INTERFACE:
                sequence.write_interface_token(contract.descriptor)
            if code == general.QUERY_INTERFACE:
                sequence.write_string(contract.descriptor)
            elif code in (general.WATCH, general.UNWATCH):
                sequence.write_string(self.rng.choice(names or [""]))
                sequence.write_remote_object(self.things.remote)

        return write


def _token_writer(contract: Contract) -> Writer:
    return lambda sequence: sequence.write_interface_token(contract.descriptor)

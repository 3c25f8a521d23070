"""Contracts: a class with hints declares what an object in another process can do.

Owns: Interface (what users subclass) and Contract (what is known about such a class: numbers, types, hash). A subclass
with ``descriptor=`` declares an interface; one without implements the interfaces it inherits from and is the stub.

Why methods stay ordinary functions: type checkers then check both sides by themselves. A typed descriptor in their
place (``photos.thumbnail.aio(...)``) makes every ``def`` in an implementing class an error for mypy and pyright.

Rules upheld: methods are numbered in the order of declaration from 1 (reference 5.4); inherited ones keep the
token and numbers of the interface that declares them, so that a parent can grow.
"""

from __future__ import annotations

import inspect
import json
import sys
import threading
import types
from abc import ABCMeta
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar, cast, get_args, get_origin, get_type_hints

from binderkit.errors import InvalidObjectError, ParamTypeError
from binderkit.interface import codes
from binderkit.interface.codec import Codec, codec_for
from binderkit.interface.marks import mark_of
from binderkit.interface.properties import Property
from binderkit.interface.stub import TypedStub
from binderkit.ipc.remote import IRemoteObject, RemoteObject, checked_descriptor
from binderkit.parcel import MessageSequence

I = TypeVar("I", bound="Interface")  # noqa: E741 - the usual letter of an interface
# Where a function takes an interface, its hint is Callable[..., I]: to mypy, type[I] would refuse abstract classes.
MISSING: Final = inspect.Parameter.empty
_TAKEN: Final = frozenset(name for name in (*dir(RemoteObject), "as_object", "as_") if not name.startswith("__"))
_PLAIN: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        hint: its type. codec: how it travels. default: MISSING if it has none.
    """

    name: str
    hint: Any
    codec: Codec
    default: Any
    keyword_only: bool


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        code: its transaction code. result: None for nothing. stream: whether the result is an iterator of ``result``.
        is_async: whether the contract says ``async def``, so that proxies do too.
        raises: declared exceptions and how their fields travel.
    """

    name: str
    code: int
    parameters: tuple[Parameter, ...]
    result: Codec | None
    result_hint: Any
    stream: bool
    is_async: bool
    oneway: bool
    idempotent: bool
    raises: tuple[tuple[type[Exception], Codec], ...]
    doc: str
    interface: str

    @property
    def title(self) -> str:
        """Name for error texts, e.g. "IPhoto.thumbnail"."""
        return f"{self.interface}.{self.name}"


class Contract:
    """What is known about an interface. ``methods`` and ``properties`` are its own, without those of ``bases``."""

    def __init__(self, interface: type[Interface], descriptor: str, version: int) -> None:
        self.interface = interface
        self.descriptor = checked_descriptor(descriptor)
        self.version = version
        self.bases: tuple[Contract, ...] = tuple(
            base.__dict__["__contract__"] for base in interface.__mro__[1:] if "__contract__" in base.__dict__
        )
        with MessageSequence() as sequence:
            sequence.write_interface_token(descriptor)
            self.token = bytes(sequence)
        self.properties: dict[str, Property[Any]] = {}
        self._numbered: list[tuple[str, int, Callable[..., Any]]] = []
        self._methods: dict[str, Method] | None = None
        self._lock = threading.Lock()
        self._number()

    def resolve(self, names: dict[str, Any]) -> None:
        """Try to understand the hints now, with the help of ``names``: those of a function are known only here.

        Raises:
            TypeError: a hint is missing, or cannot travel.
        """
        try:
            self._methods = self._built(names)
        except NameError:
            # A hint names what is defined further down in the module: it is there at the first use.
            self._methods = None

    def _number(self) -> None:
        """Give codes, in the order of declaration."""
        following = 1
        used: dict[int, str] = {}

        def take(name: str, code: int) -> int:
            if not 1 <= code <= codes.LAST_METHOD:
                raise TypeError(f"{self.interface.__name__}.{name}: code {code} is not in 1 … {codes.LAST_METHOD:#x}")
            if code in used:
                raise TypeError(f"{self.interface.__name__}: {used[code]} and {name} both have code {code}")
            used[code] = name
            return code + 1

        for name, value in vars(self.interface).items():
            if isinstance(value, Property):
                self.properties[name] = value
                value.getter = following
                following = take(name, following)
                if not value.readonly:
                    value.setter = following
                    following = take(name, following)
                continue
            if name.startswith("_"):
                continue
            if not isinstance(value, types.FunctionType):
                raise TypeError(
                    f"{self.interface.__name__}.{name} is {value!r}; a contract has methods and Property(...) only"
                )
            if name in _TAKEN:
                raise TypeError(
                    f"{self.interface.__name__}.{name}: the name is taken by every remote object; rename it"
                )
            mark = mark_of(value)
            code = following if mark.code is None else mark.code
            following = take(name, code)
            self._numbered.append((name, code, value))

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by name, in the order of declaration.

        Raises:
            TypeError: a hint is missing, cannot be resolved, or cannot travel.
        """
        known = self._methods
        if known is None:
            with self._lock:
                if self._methods is None:
                    try:
                        self._methods = self._built({})
                    except NameError as error:
                        raise TypeError(f"{self.interface.__qualname__}: {error} (in a hint)") from error
                known = self._methods
        return known

    def _built(self, names: dict[str, Any]) -> dict[str, Method]:
        return {name: self._method(name, code, function, names) for name, code, function in self._numbered}

    def _method(self, name: str, code: int, function: Callable[..., Any], names: dict[str, Any]) -> Method:
        title = f"{self.interface.__name__}.{name}"
        hints = get_type_hints(function, localns=names, include_extras=True)
        signature = inspect.signature(function)
        parameters = tuple(
            self._parameter(title, parameter, hints) for parameter in list(signature.parameters.values())[1:]
        )
        mark = mark_of(function)
        if "return" not in hints:
            raise TypeError(f"{title}: say what it returns, e.g. '-> None'")
        result_hint, stream = _streamed(hints["return"])
        nothing = result_hint in (None, type(None))
        if mark.oneway and (not nothing or mark.raises):
            raise TypeError(f"{title} is one-way: it returns None and raises nothing")
        return Method(
            name=name,
            code=code,
            parameters=parameters,
            result=None if nothing else self._codec(f"{title}, its result", result_hint),
            result_hint=hints["return"],
            stream=stream,
            is_async=inspect.iscoroutinefunction(function),
            oneway=mark.oneway,
            idempotent=mark.idempotent,
            raises=tuple((kind, _exception_codec(title, kind)) for kind in mark.raises),
            doc=inspect.getdoc(function) or "",
            interface=self.interface.__name__,
        )

    def _parameter(self, title: str, parameter: inspect.Parameter, hints: dict[str, Any]) -> Parameter:
        where = f"{title}({parameter.name})"
        if parameter.kind not in _PLAIN:
            raise TypeError(f"{where}: *args, **kwargs and positional-only parameters cannot travel; name each one")
        if parameter.name not in hints:
            raise TypeError(f"{where}: it has no hint")
        hint = hints[parameter.name]
        return Parameter(
            name=parameter.name,
            hint=hint,
            codec=self._codec(where, hint),
            default=parameter.default,
            keyword_only=parameter.kind is inspect.Parameter.KEYWORD_ONLY,
        )

    @staticmethod
    def _codec(where: str, hint: Any) -> Codec:
        try:
            return codec_for(hint)
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from error

    def all_methods(self) -> Iterator[tuple[Contract, Method]]:
        """Every method with the contract that declares it: the own ones first."""
        for contract in (self, *self.bases):
            for method in contract.methods.values():
                yield contract, method

    def describe(self) -> dict[str, Any]:
        """Return everything the wire depends on, JSON-able and in a stable order."""
        kinds: dict[str, Any] = {}
        methods = [_described(method, kinds) for method in self.methods.values()]
        properties = [
            {
                "name": prop.name,
                "get": prop.getter,
                "set": prop.setter,
                "type": prop.codec.describe(kinds),
            }
            for prop in self.properties.values()
        ]
        return {
            "descriptor": self.descriptor,
            "version": self.version,
            "name": self.interface.__name__,
            "doc": inspect.cleandoc(self.interface.__doc__ or ""),
            "extends": [base.descriptor for base in self.bases],
            "methods": methods,
            "properties": properties,
            "types": kinds,
        }

    @property
    def hash(self) -> str:
        """SHA-256 of the description without its words: two contracts with the same hash understand each other."""
        return description_hash(self.describe())

    def __repr__(self) -> str:
        return f"<Contract {self.descriptor!r} version {self.version}>"


def description_hash(description: dict[str, Any]) -> str:
    """Return SHA-256 (hex) of a description (Contract.describe) without its words."""
    import hashlib  # takes its time, and few processes ask for it

    plain = {key: value for key, value in description.items() if key != "doc"}
    methods = plain.get("methods", [])
    plain["methods"] = [{key: value for key, value in method.items() if key != "doc"} for method in methods]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _described(method: Method, kinds: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": method.name,
        "code": method.code,
        "oneway": method.oneway,
        "idempotent": method.idempotent,
        "parameters": [
            {
                "name": parameter.name,
                "type": parameter.codec.describe(kinds),
                "optional": parameter.default is not MISSING,
                "keyword_only": parameter.keyword_only,
            }
            for parameter in method.parameters
        ],
        "result": None if method.result is None else method.result.describe(kinds),
        "stream": method.stream,
        "raises": [{"name": kind.__name__, "fields": codec.describe(kinds)} for kind, codec in method.raises],
        "doc": method.doc,
    }


def _streamed(hint: Any) -> tuple[Any, bool]:
    """Take an iterator's item type out of a result's hint."""
    if get_origin(hint) in (Iterator, AsyncIterator):
        return get_args(hint)[0], True
    return hint, False


def _exception_codec(title: str, kind: type[Exception]) -> Codec:
    """Return how a declared exception's fields travel: those of the dataclass, else its arguments as strings."""
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise TypeError(f"{title}: raises={kind!r} is no exception class")
    if hasattr(kind, "__dataclass_fields__"):
        return Contract._codec(f"{title}, raises {kind.__name__}", kind)
    return codec_for(list[str])


class InterfaceMeta(ABCMeta):
    """Tells declaring classes from implementing ones."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        descriptor: str | None = None,
        version: int = 1,
        abstract: bool = False,
    ) -> InterfaceMeta:
        implements = descriptor is None and bool(bases) and not abstract
        if implements and not any(issubclass(base, TypedStub) for base in bases):
            bases = (*bases, TypedStub)
        cls = super().__new__(mcls, name, bases, namespace)
        declared = [base.__dict__["__contract__"] for base in cls.__mro__ if "__contract__" in base.__dict__]
        if descriptor is not None:
            if any(issubclass(base, TypedStub) for base in bases):
                raise TypeError(
                    f"{name}: an interface extends interfaces, not {bases[0].__name__}, which implements one"
                )
            contract = Contract(cast("type[Interface]", cls), descriptor, version)
            cls.__contract__ = contract  # type: ignore[attr-defined]
            declared.insert(0, contract)
            contract.resolve(_names_around(name, cls))  # a method may name its own interface
        cls.__contracts__ = tuple(declared)  # type: ignore[attr-defined]
        if implements and not declared:
            raise TypeError(
                f"class {name}: say descriptor='com.example.{name}' to declare an interface, or inherit from one"
            )
        return cls


def _names_around(name: str, cls: type) -> dict[str, Any]:
    """What hints of a class may name beside its module's names: itself, and what its function has defined so far."""
    frame = sys._getframe(2)
    return {**(frame.f_locals if frame.f_locals is not frame.f_globals else {}), name: cls}


class Interface(metaclass=InterfaceMeta):
    """Base of contracts and of the classes that implement them.

    Declare: ``class IPhoto(Interface, descriptor="com.example.IPhoto", version=1)`` with methods whose bodies are
    ``...``. Implement: ``class Photos(IPhoto)`` with the same methods; its instances are stubs (RemoteObject) that can
    be registered, returned and passed on. Call: ``proxy(IPhoto, remote)``.
    """

    __slots__ = ()
    __contract__: ClassVar[Contract]
    __contracts__: ClassVar[tuple[Contract, ...]]

    def as_object(self) -> IRemoteObject:
        """Return the stub or proxy behind this object (reference 1.7)."""
        if not isinstance(self, RemoteObject):
            raise InvalidObjectError(f"{self!r} has no remote object")
        return self

    def as_(self, interface: Callable[..., I]) -> I:
        """Return another interface of the same object.

        Raises:
            InterfaceMismatchError: the object does not have it.
        """
        from binderkit.interface.meta import query

        return query(self, interface)


def contract_of(interface: Callable[..., Interface]) -> Contract:
    """Return what is known about a class that declares an interface.

    Raises:
        ParamTypeError: it is none (401).
    """
    contract = vars(interface).get("__contract__") if isinstance(interface, InterfaceMeta) else None
    if not isinstance(contract, Contract):
        raise ParamTypeError(f"expected a class that declares an interface, got {interface!r}")
    return contract

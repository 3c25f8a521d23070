"""What every codec is: one object per type, made once, that writes and reads the values of that type.

Owns: the base classes, the errors for a value that does not fit its hint, and the reference that closes the circle of
a recursive type.

Why objects and not generated code: a codec is shared by all contracts that use the type, can describe itself, and its
methods are bound once by whoever calls them often. Rules upheld: what is wrong is worked out after the quick way
failed; a value that does not fit is refused before any of it is written; whatever bytes say, a read gives a value of
the right type or ParcelReadError.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Any, Final, NamedTuple, Self

from binderkit.errors import ParamError, ParamTypeError, ParamValueError
from binderkit.parcel import MessageSequence
from binderkit.parcel._base import describe

__all__ = ["Codec", "Fixed", "Mismatch", "MismatchType", "MismatchValue", "Quick", "Reference", "owns_descriptors"]

UNPACKABLE: Final = (StructError, TypeError, OverflowError, ValueError)
"""What struct raises for a value it does not take."""
_SHOWN_STEPS: Final = 12


class Mismatch(ParamError):
    """A value does not fit its hint (401). Raised as MismatchType or MismatchValue.

    Attributes:
        path: steps from the argument to the value, e.g. [".size", ".width"], ["[3]"] or ["['key']"].
        expected: what the hint takes, e.g. "int32, -2147483648 … 2147483647".
        given: type and short form of the value.
    """

    told_as: type[ParamError] = ParamError
    """what ``explained`` makes of it: users need not know this module"""

    def __init__(self, expected: str, given: str) -> None:
        super().__init__()
        self.expected = expected
        self.given = given
        self.path: list[str] = []
        self._tell()

    @classmethod
    def of(cls, expected: str, value: object) -> Self:
        """Return the error for ``value``."""
        return cls(expected, describe(value))

    def inside(self, step: str) -> None:
        """Put ``step`` in front of the path: the value was part of a larger one."""
        self.path.insert(0, step)
        self._tell()

    def explained(self, where: str) -> ParamError:
        """Return the error for the user, with ``where`` in front of its text, e.g. "IPhoto.measure(size)"."""
        path = self._path()
        return self.told_as(f"{where}: at {path}: {self._text()}" if path else f"{where}: {self._text()}")

    def _path(self) -> str:
        steps = self.path
        return "".join(steps if len(steps) <= _SHOWN_STEPS else [*steps[:_SHOWN_STEPS], "…"])

    def _text(self) -> str:
        return f"expected {self.expected}, got {self.given}"

    def _tell(self) -> None:
        path = self._path()
        self.args = (f"{path}: {self._text()}" if path else self._text(),)


class MismatchType(Mismatch, ParamTypeError):
    """A value of a wrong type (401)."""

    told_as = ParamTypeError


class MismatchValue(Mismatch, ParamValueError):
    """A value of the right type that is out of range, too long or unknown (401)."""

    told_as = ParamValueError


class Quick(NamedTuple):
    """How to pack a value without its codec: struct's format, and the class it must have, before and after.

    Attributes:
        format: letters for struct, little-endian, e.g. "q".
        kind: name of the builtin class whose instances, and no others, may be packed so. struct refuses what is out of
            range by itself.
    """

    format: str
    kind: str


class Codec(ABC):
    """Writes and reads values of one type.

    Attributes:
        minimum: fewest bytes a value takes; counts from the wire are checked against it before anything is allocated.
        fmt: struct's format (little-endian, without the "<") if every value takes the same bytes, else None.
        quick: set for plain numbers only.
        kinds: the classes of its values, by which a union chooses; empty if values have no class of their own.
        owns_descriptor: whether a value holds a descriptor that nobody closes but its receiver.
    """

    minimum: int = 4
    fmt: str | None = None
    quick: Quick | None = None
    kinds: tuple[type[Any], ...] = ()
    owns_descriptor: bool = False

    @abstractmethod
    def write(self, out: MessageSequence, value: Any) -> None:
        """Append ``value``.

        Raises:
            Mismatch: it does not fit (401). Containers may have written parts then: drop the sequence.
            ParcelWriteError: received or reclaimed (1900009). TooBigError: over the limit of a transaction (1900009).
        """

    @abstractmethod
    def read(self, data: MessageSequence) -> Any:
        """Return the value at the read position.

        Raises:
            ParcelReadError: there is none (1900010). The read position is undefined then.
        """

    @abstractmethod
    def name(self) -> str:
        """Return the type's name for error texts, e.g. "list[int32]"."""

    def describe(self, types: dict[str, Any]) -> Any:
        """Return the type as JSON-able data; definitions of structs and enums are put into ``types`` once."""
        return self.name()

    def parts(self) -> tuple[Codec, ...]:
        """Return the codecs this one is made of."""
        return ()

    def __repr__(self) -> str:
        return f"<codec {self.name()}>"


class Fixed(Codec):
    """A type whose values all take the same bytes, one struct item (a "word").

    Attributes:
        exact: class whose instances are packed as they are, if struct takes them; None: always by ``to_word``.
        from_word: makes the value of an unpacked word, ValueError if there is none; None: the word is the value.
    """

    fmt: str
    exact: type[Any] | None = None
    from_word: Callable[[Any], Any] | None = None

    def __init__(self, fmt: str) -> None:
        self.fmt = fmt
        packer = Struct(f"<{fmt}")
        self.minimum = packer.size
        self._pack = packer.pack
        self._unpack = packer.unpack_from

    @abstractmethod
    def to_word(self, value: Any) -> Any:
        """Return what struct packs for ``value``.

        Raises:
            Mismatch: it does not fit (401).
        """

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append ``value``; see Codec."""
        word = value if value.__class__ is self.exact else self.to_word(value)
        try:
            packed = self._pack(word)
        except UNPACKABLE:
            packed = self._pack(self.to_word(value))
        target = out._out
        try:
            target += packed
        except TypeError:
            out._writable()
            raise
        if len(target) > out._limit:
            out._too_big(len(target))

    def read(self, data: MessageSequence) -> Any:
        """Return the value at the read position; see Codec."""
        pos = data._pos
        try:
            (word,) = self._unpack(data._in, pos)
        except (StructError, TypeError) as error:
            data._short(self.name(), self.minimum, error)
        if self.from_word is not None:
            try:
                word = self.from_word(word)
            except ValueError as error:
                data._malformed(self.name(), str(error))
        data._pos = pos + self.minimum
        return word


class Reference(Codec):
    """A recursive type where it occurs within itself; stands for ``target``, which is made later.

    It also turns a nesting without end, in a value or in bytes, into an error like any other.
    """

    target: Codec

    def __init__(self, minimum: int, title: str) -> None:
        self.minimum = minimum
        self._title = title

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append ``value``; see Codec."""
        try:
            self.target.write(out, value)
        except RecursionError:
            raise MismatchValue(f"{self._title} nested less deeply", "too many levels, or a circle") from None

    def read(self, data: MessageSequence) -> Any:
        """Return the value at the read position; see Codec."""
        try:
            return self.target.read(data)
        except RecursionError:
            data._malformed(self._title, "nested too deeply")

    def name(self) -> str:
        """Return the type's name."""
        return self._title

    def describe(self, types: dict[str, Any]) -> Any:
        """Return the type as data; see Codec."""
        return self.target.describe(types)

    def parts(self) -> tuple[Codec, ...]:
        """Return the codec it stands for."""
        return (self.target,)


def owns_descriptors(codec: Codec) -> bool:
    """Return whether a value read by ``codec`` can hold a descriptor that its receiver has to close."""
    seen: set[int] = set()
    todo = [codec]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if one.owns_descriptor:
            return True
        todo += one.parts()
    return False

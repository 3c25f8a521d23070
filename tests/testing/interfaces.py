"""Contracts and implementations for the tests of binderkit.testing."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, Generic, Literal, TypeVar

import binderkit as bk
from binderkit.interface.codec import Float32, Int8, Int32, UInt64
from binderkit.interface.contract import Interface
from binderkit.interface.marks import handler, method, oneway, raises
from binderkit.interface.properties import Property

T = TypeVar("T")


@dataclass
class Size:
    """Two numbers, one by default."""

    width: int
    height: int = 0


@dataclass
class Box(Generic[T]):
    """A generic struct."""

    content: T


@dataclass
class Tree:
    """A recursive struct."""

    name: str
    children: list[Tree] = field(default_factory=list)


class Colour(enum.Enum):
    """An enumeration by text."""

    RED = "red"
    GREEN = "green"


class Rights(enum.IntFlag):
    """A set of bits."""

    READ = 1
    WRITE = 2


@dataclass
class BadImage(Exception):
    """A declared exception."""

    reason: str


class IListener(Interface, descriptor="binderkit.tests.IListener"):
    """A callback."""

    @method
    @oneway
    def ready(self, number: int) -> None: ...


class IPhoto(Interface, descriptor="binderkit.tests.IPhoto"):
    """A bit of everything."""

    title = Property(str)

    @method
    def thumbnail(self, image: bytes, width: Int32 = 160) -> bytes: ...

    @method
    @oneway
    def hint(self, text: str) -> None: ...

    @method
    @raises(BadImage)
    def measure(self, image: bytes) -> Size: ...

    @method
    def sizes(self, names: list[str], *, factor: float = 1.0) -> dict[str, Size]: ...

    @method
    def pages(self, count: int) -> Iterator[int]: ...


class IEverything(IPhoto, descriptor="binderkit.tests.IEverything"):
    """One method for each sort of type."""

    @method
    def numbers(self, a: Int8, b: UInt64, c: Float32, d: bool, e: float) -> int: ...

    @method
    def containers(self, a: list[int], b: set[str], c: tuple[int, str], d: dict[str, list[float]]) -> int: ...

    @method
    def choices(self, a: int | str | None, b: Literal["x", 3], c: Colour, d: Rights) -> int: ...

    @method
    def structs(self, a: Box[int], b: Tree, c: Size | None, d: tuple[Size, ...]) -> int: ...

    @method
    def times(self, a: datetime.datetime, b: datetime.date, c: datetime.time, d: datetime.timedelta) -> int: ...

    @method
    def words(self, a: uuid.UUID, b: Decimal, c: Path) -> int: ...

    @method
    def objects(self, a: bk.IRemoteObject, b: IListener, c: BinaryIO, d: bk.Ashmem) -> int: ...


class Photos(IPhoto):
    """An implementation that is right."""

    def __init__(self) -> None:
        self.title = "photos"
        self.hints: list[str] = []

    def thumbnail(self, image: bytes, width: int = 160) -> bytes:
        """Cut the image off."""
        return bytes(image)[: max(0, width)]

    def hint(self, text: str) -> None:
        """Note the text."""
        self.hints.append(text)

    def measure(self, image: bytes) -> Size:
        """An empty image is refused."""
        if not image:
            raise BadImage("empty")
        return Size(len(image))

    def sizes(self, names: list[str], *, factor: float = 1.0) -> dict[str, Size]:
        """A size for each name."""
        return {name: Size(len(name)) for name in names}

    def pages(self, count: int) -> Iterator[int]:
        """Count."""
        return iter(range(min(count, 10)))


class Everything(Photos, IEverything):
    """An implementation that closes what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.reached: set[str] = set()

    def _note(self, name: str) -> int:
        self.reached.add(name)
        return len(self.reached)

    def numbers(self, a: int, b: int, c: float, d: bool, e: float) -> int:
        """Check the ranges."""
        assert -128 <= a <= 127
        assert 0 <= b < 2**64
        assert d in (True, False)
        return self._note("numbers")

    def containers(self, a: list[int], b: set[str], c: tuple[int, str], d: dict[str, list[float]]) -> int:
        """Check the types."""
        assert type(a) is list
        assert type(b) is set
        assert type(c) is tuple
        assert type(d) is dict
        return self._note("containers")

    def choices(self, a: int | str | None, b: Literal["x", 3], c: Colour, d: Rights) -> int:
        """Check the choices."""
        assert a is None or isinstance(a, (int, str))
        assert b in ("x", 3)
        assert c in Colour
        assert 0 <= int(d) <= 3
        return self._note("choices")

    def structs(self, a: Box[int], b: Tree, c: Size | None, d: tuple[Size, ...]) -> int:
        """Check the classes."""
        assert type(a.content) is int
        assert type(b.name) is str
        return self._note("structs")

    def times(self, a: datetime.datetime, b: datetime.date, c: datetime.time, d: datetime.timedelta) -> int:
        """Use them."""
        assert a.year + b.year + c.hour >= 2
        return self._note("times")

    def words(self, a: uuid.UUID, b: Decimal, c: Path) -> int:
        """Use them."""
        assert len(a.hex) == 32
        return self._note("words")

    def objects(self, a: bk.IRemoteObject, b: IListener, c: BinaryIO, d: bk.Ashmem) -> int:
        """Close them."""
        c.close()
        d.close_ashmem()
        return self._note("objects")


class AsyncPhotos(Photos):
    """The same with a coroutine."""

    @handler
    async def measure(self, image: bytes) -> Size:
        """An empty image is refused."""
        if not image:
            raise BadImage("empty")
        return Size(len(image))

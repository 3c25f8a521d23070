"""A contract with every type there is, for what works on descriptions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Generic, Literal, TypeVar
from uuid import UUID

import numpy
from numpy.typing import NDArray

from binderkit import IRemoteObject, MessageSequence
from binderkit.interface import (
    Float32,
    Int8,
    Int32,
    Interface,
    Property,
    UInt32,
    UInt64,
    idempotent,
    method,
    oneway,
    packed,
    raises,
)
from binderkit.interface.codec import Fd
from binderkit.memory.ashmem import Ashmem

T = TypeVar("T")
WAIT = 10.0


class Color(Enum):
    RED = "r"
    BLUE = "b"


class Level(IntEnum):
    LOW = 1
    HIGH = 9


class Right(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Size:
    width: int
    height: int = 7
    depth: int = 8


@dataclass
class Tree:
    name: str
    children: list[Tree]
    parent: Tree | None = None


@packed
@dataclass
class Point:
    x: Int32
    y: Int32


@dataclass
class Box(Generic[T]):
    value: T


@dataclass
class TooSmall(Exception):
    least: int
    why: str = "small"


class Odd(Exception):
    pass


class Parcel:
    """A Parcelable: only this class knows its form."""

    def marshalling(self, sequence: MessageSequence) -> bool:
        sequence.write_int(1)
        return True

    def unmarshalling(self, sequence: MessageSequence) -> bool:
        return sequence.read_int() == 1


class IMany(Interface, descriptor="test.IMany", version=4):
    """Every type.

    Second line.
    """

    title = Property(str)
    level = Property(Level, readonly=True)

    @method
    def numbers(self, a: Int8, b: UInt32, c: UInt64, d: Float32, e: float, f: bool, g: int) -> list[float]:
        """Numbers of all sizes."""

    @method
    def texts(self, a: str, b: bytes, c: bytearray, d: memoryview) -> tuple[str, bytes, bytes]: ...
    @method
    def times(
        self, a: datetime, b: date, c: time, d: timedelta, e: UUID, f: Decimal, g: Path
    ) -> tuple[datetime, date, time, timedelta, UUID, Decimal, Path]: ...
    @method
    def enums(self, a: Color, b: Level, c: Right, d: Literal["x", 5, None]) -> tuple[Color, Level, Right, str]: ...
    @method
    def containers(
        self, a: set[int], b: dict[str, list[int]], c: dict[int, str], d: tuple[int, str], e: dict[Color, int]
    ) -> tuple[set[int], dict[str, list[int]], dict[int, str], tuple[int, str], dict[Color, int]]: ...
    @method
    def structs(self, a: Size, b: Tree, c: Point, d: Box[int]) -> tuple[Size, Tree, Point, Box[str]]: ...
    @method
    def either(self, a: int | float | str | Size | Point | list[int] | date) -> str: ...
    @method
    def same(
        self, a: int | float | str | Size | Point | list[int] | date
    ) -> int | float | str | Size | Point | list[int] | date: ...
    @method
    def array(self, a: NDArray[numpy.float32], b: numpy.ndarray[Any, Any]) -> NDArray[numpy.float32]: ...
    @method
    def file(self, a: BinaryIO, b: Fd) -> BinaryIO: ...
    @method
    def number(self) -> Fd: ...
    @method
    def memory(self, size: int) -> Ashmem: ...
    @method
    def other(self, a: IRemoteObject | None, b: IMany | None = None) -> IRemoteObject: ...
    @method
    @idempotent
    def defaults(self, a: int, b: int = 2, c: int = 3, *, d: str = "d") -> list[int]: ...
    @method
    @raises(TooSmall, Odd)
    def fail(self, how: str) -> None: ...
    @method
    def items(self, to: int) -> Iterator[Size]: ...
    @method
    def parcel(self, a: Parcel) -> None: ...
    @method
    @oneway
    def hint(self, text: str) -> None: ...
    @method
    def hinted(self) -> str | None:
        """Wait for a hint and return it."""


class Many(IMany):
    """Gives back what it gets."""

    def __init__(self) -> None:
        self.title = "first"
        self.level = Level.HIGH
        self._hints: SimpleQueue[str] = SimpleQueue()
        self._opened: list[Any] = []

    def numbers(self, a: int, b: int, c: int, d: float, e: float, f: bool, g: int) -> list[float]:
        return [a, b, c, d, e, f + 0.0, g]

    def texts(self, a: str, b: bytes, c: bytearray, d: memoryview) -> tuple[str, bytes, bytes]:
        return a, b, bytes(c) + bytes(d)

    def times(
        self, a: datetime, b: date, c: time, d: timedelta, e: UUID, f: Decimal, g: Path
    ) -> tuple[datetime, date, time, timedelta, UUID, Decimal, Path]:
        return a, b, c, d, e, f, g

    def enums(self, a: Color, b: Level, c: Right, d: str | int | None) -> tuple[Color, Level, Right, str]:
        return a, b, c, repr(d)

    def containers(
        self, a: set[int], b: dict[str, list[int]], c: dict[int, str], d: tuple[int, str], e: dict[Color, int]
    ) -> tuple[set[int], dict[str, list[int]], dict[int, str], tuple[int, str], dict[Color, int]]:
        return a, b, c, d, e

    def structs(self, a: Size, b: Tree, c: Point, d: Box[int]) -> tuple[Size, Tree, Point, Box[str]]:
        return a, b, c, Box(str(d.value))

    def either(self, a: object) -> str:
        return repr(a)

    def same(self, a: Any) -> Any:
        return a

    def array(self, a: NDArray[numpy.float32], b: numpy.ndarray[Any, Any]) -> NDArray[numpy.float32]:
        product: NDArray[numpy.float32] = (a * b).astype(numpy.float32)
        return product

    def file(self, a: BinaryIO, b: Fd) -> BinaryIO:
        with a:
            if os.pread(b, 100, 0) != a.read():
                raise ValueError("they differ")
        self._opened.append(os.fdopen(b, "rb"))
        return self._opened[-1]  # type: ignore[no-any-return]

    def number(self) -> Fd:
        self._opened.append(open("/dev/null", "rb"))
        return Fd(self._opened[-1].fileno())

    def memory(self, size: int) -> Ashmem:
        self._opened.append(Ashmem.create("test", size))
        return self._opened[-1]  # type: ignore[no-any-return]

    def other(self, a: IRemoteObject | None, b: IMany | None = None) -> IRemoteObject:
        return self.as_object() if a is None else a

    def defaults(self, a: int, b: int = 20, c: int = 30, *, d: str = "d") -> list[int]:
        return [a, b, c, len(d)]

    def fail(self, how: str) -> None:
        if how == "small":
            raise TooSmall(3, "tiny")
        if how == "odd":
            raise Odd("one", "two")
        raise ValueError("undeclared")

    def items(self, to: int) -> Iterator[Size]:
        for number in range(to):
            yield Size(number)

    def parcel(self, a: Parcel) -> None:
        return None

    @oneway
    def hint(self, text: str) -> None:
        self._hints.put(text)

    def hinted(self) -> str | None:
        return self._hints.get(timeout=WAIT)

    def close(self) -> None:
        """Close what calls have opened."""
        for opened in self._opened:
            opened.close_ashmem() if isinstance(opened, Ashmem) else opened.close()

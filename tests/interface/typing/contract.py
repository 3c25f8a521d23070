"""A contract, its implementation and its use, as users write them. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, assert_type

from binderkit import IRemoteObject
from binderkit.interface import (
    Int32,
    Interface,
    Property,
    aio,
    handler,
    method,
    oneway,
    proxy,
    raises,
    transaction_code,
    watch,
    within,
)


@dataclass
class Size:
    width: int
    height: int = 0


class TooSmall(Exception):
    pass


class IListener(Interface, descriptor="test.IListener"):
    @method
    def progress(self, done: float) -> None: ...


class IPhoto(Interface, descriptor="test.IPhoto", version=2):
    title = Property(str)

    @method
    def thumbnail(self, image: bytes, width: Int32 = 160, *, listener: IListener | None = None) -> bytes: ...
    @method
    @oneway
    def hint(self, text: str) -> None: ...
    @method
    @transaction_code(7)
    @raises(TooSmall)
    def measure(self, image: bytes) -> Size: ...
    @method
    def pair(self) -> tuple[int, str]: ...
    @method
    def lines(self) -> Iterator[str]: ...
    @method
    def events(self) -> AsyncIterator[int]: ...
    @method
    async def slow(self, n: int) -> int: ...


class IExtra(Interface, descriptor="test.IExtra"):
    @method
    def extra(self) -> list[int]: ...


class Photos(IPhoto, IExtra):
    """The implementing class: checked against the contract like any other override."""

    def thumbnail(self, image: bytes, width: int = 160, *, listener: IListener | None = None) -> bytes:
        if listener is not None:
            listener.progress(0.5)
        return image[:width]

    @oneway
    def hint(self, text: str) -> None:
        self.title = text

    @handler
    async def measure(self, image: bytes) -> Size:
        return Size(len(image))

    def pair(self) -> tuple[int, str]:
        return 1, self.title

    def lines(self) -> Iterator[str]:
        yield "a"

    async def events(self) -> AsyncIterator[int]:
        yield 1

    async def slow(self, n: int) -> int:
        return n

    def extra(self) -> list[int]:
        return []


def calls(remote: IRemoteObject) -> None:
    photos = proxy(IPhoto, remote)
    assert_type(photos, IPhoto)
    assert_type(photos.thumbnail(b"", 80), bytes)
    assert_type(photos.thumbnail(b"", listener=None), bytes)
    assert_type(photos.measure(b""), Size)
    assert_type(photos.pair(), tuple[int, str])
    assert_type(photos.lines(), Iterator[str])
    assert_type(photos.title, str)
    photos.title = "new"
    assert_type(within(0.5, photos.measure)(b""), Size)
    assert_type(photos.as_(IExtra), IExtra)
    assert_type(photos.as_(IExtra).extra(), list[int])
    assert_type(photos.as_object(), IRemoteObject)
    watch(photos, IPhoto.title, print)


async def async_calls(photos: IPhoto) -> None:
    assert_type(await aio(photos.thumbnail)(b"", width=3), bytes)
    assert_type(await aio(within(1, photos.measure))(b""), Size)
    assert_type(await photos.slow(1), int)
    async for event in photos.events():
        assert_type(event, int)
    typed: Callable[[bytes], Coroutine[Any, Any, Size]] = aio(photos.measure)
    await typed(b"")


def wrong_calls(photos: IPhoto) -> None:
    photos.thumbnail("text")  # error
    photos.thumbnail(b"", width="wide")  # error
    photos.thumbnail()  # error
    photos.thumbnail(b"", breadth=3)  # error
    photos.unknown()  # error
    photos.title = 3  # error
    assert photos.measure(b"").depth  # error
    within(0.5, photos.measure)("text")  # error
    within("soon", photos.measure)  # error
    assert watch(photos, IPhoto.title, len).closed  # error


async def wrong_async_calls(photos: IPhoto) -> None:
    await aio(photos.measure)(3)  # error
    await aio(photos.thumbnail)(b"", breadth=3)  # error
    assert (await aio(photos.measure)(b"")).depth  # error


class WrongResult(IExtra):
    def extra(self) -> str:  # error
        return ""


class WrongParameter(IListener):
    def progress(self, done: str) -> None: ...  # error


class Incomplete(IExtra):
    pass


Incomplete()  # error


class NotMarked(IExtra):
    async def extra(self) -> list[int]:  # error
        return []
